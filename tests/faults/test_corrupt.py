"""The database is damaged, while the agent is stopped or under its hands.

It is set aside under a name that the log tells, what can be read is delivered in order, what cannot
is named, the phones are seen anew, and nothing crashes.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.model import Attempt, Callback, CallbackState, DeviceRecord, DeviceState, Platform
from tests.fakes.receiver import after, answer
from tests.faults.invariants import EVERY_EVENT, stored_order, told
from tests.faults.lab import change, config, lines
from tests.kit.agent import AgentProcess
from tests.kit.seed import seed
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.fake_adb_host import FakeAdbHost
    from tests.fakes.receiver import Receiver

PAGE = 4096
PHONES = range(1, 5)
USES = 3
HISTORY = 4_000
"""Delivered callbacks, of a page's half each: more than SQLite's cache of 2 MB holds."""


def no_header(file: Path, _dice: random.Random) -> None:
    write(file, 0, bytes(100))


def a_third(file: Path, dice: random.Random) -> None:
    pages = file.stat().st_size // PAGE
    for page in dice.sample(range(1, pages), pages // 3):
        write(file, page * PAGE, dice.randbytes(PAGE))


def cut_off(file: Path, _dice: random.Random) -> None:
    with file.open("r+b") as database:
        database.truncate(file.stat().st_size * 3 // 4)


def all_of_it(file: Path, dice: random.Random) -> None:
    write(file, 0, dice.randbytes(file.stat().st_size))


def write(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b", buffering=0) as database:
        database.seek(offset)
        database.write(data)


async def collect(host: FakeAdbHost, agent: AgentProcess, receiver: Receiver) -> None:
    """Callbacks pile up behind an endpoint that does not answer."""
    for state in ("online", "offline", "online", "unplugged", "online"):
        for number in PHONES:
            await change(host, agent, number, state)
    await receiver.until(lambda: receiver.open == len(PHONES), "attempts under way")
    stored: list[object] = []
    async with asyncio.timeout(LIMIT):
        while len(stored) < 5 * len(PHONES):
            stored = (await agent.api("GET", "/v1/deliveries?state=pending"))[1]["deliveries"]


def pending(file: Path) -> dict[str, list[str]]:
    """What a dead agent's store holds for webhook 1; the write-ahead log is written back."""
    with closing(sqlite3.connect(file)) as store:
        return stored_order(store, 1)


def check_what_arrived(
    agent: AgentProcess, receiver: Receiver, stored: dict[str, list[str]]
) -> None:
    """Each message that did not arrive is spoken of; the others came in order, whole."""
    (line,) = lines(agent, "store.corrupt")
    came = [request.headers["webhook-id"] for request in receiver.requests]
    missing = 0
    for udid, messages in stored.items():
        arrived = [message for message in dict.fromkeys(came) if message in messages]
        assert arrived == [message for message in messages if message in arrived], udid
        missing += len(messages) - len(arrived)
    lost = line.partition(" lost=")[2].partition(" salvaged=")[0]
    if missing and "everything" not in lost and "unreadable" not in lost:
        named = re.search(r"(\d+) pending callbacks, of phone-", lost)
        assert named is not None, line
        assert int(named[1]) == missing, line


def set_aside(agent: AgentProcess, place: Path) -> Path:
    """The file that the log says the damaged one was kept as."""
    (line,) = lines(agent, "store.corrupt")
    assert "[error" in line
    assert f"file={place}/state/state.db " in line
    named = re.search(r"set_aside=(\S+)", line)
    assert named is not None
    return Path(named[1])


async def check_states(agent: AgentProcess, states: dict[str, str]) -> None:
    devices = await agent.devices()
    assert {udid: devices[udid]["state"] for udid in states} == states
    assert not any("Traceback" in line for line in agent.log)


@pytest.mark.parametrize("damage", [no_header, a_third, cut_off, all_of_it])
async def test_damage_found_at_the_start(
    place: Path,
    host: FakeAdbHost,
    receiver: Receiver,
    damage: Callable[[Path, random.Random], None],
) -> None:
    chosen = seed(728)
    gate = asyncio.Event()
    receiver.default = after(gate)
    async with AgentProcess(place, config(host, {1: (receiver, EVERY_EVENT)})) as agent:
        await agent.start()
        await collect(host, agent, receiver)
        await agent.kill()
        file = place / "state" / "state.db"
        stored = pending(file)
        assert sum(map(len, stored.values())) == 5 * len(PHONES)
        receiver.requests.clear()
        damage(file, random.Random(chosen))
        damaged = file.read_bytes()
        gate.set()
        host.remove("phone-4")

        agent.log.clear()
        await agent.start()
        assert set_aside(agent, place).read_bytes() == damaged
        problems = (await agent.api("GET", "/-/ready"))[1]["problems"]
        assert any("was corrupt and set aside as" in problem for problem in problems)
        await agent.until_delivered()
        check_what_arrived(agent, receiver, stored)
        await check_states(agent, dict.fromkeys(["phone-1", "phone-2", "phone-3"], "online"))
        await change(host, agent, 1, "offline")
        await receiver.until(lambda: told(receiver).get("phone-1", [""])[-1] == "offline", "life")
        assert await agent.stop() == 0


async def with_history(directory: Path) -> None:
    """A store with more in it than the agent's cache holds."""
    store = open_store(directory)

    async def one(number: int) -> None:
        device = DeviceRecord(f"old-{number}", Platform.ANDROID, DeviceState.UNPLUGGED, 1)
        old = Callback(f"old-{number}", 1, device.udid, 1, b"x" * (PAGE // 2))
        (kept,) = await store.record(device, None, [old])
        await store.callbacks.finish(
            kept, Attempt(old.message_id, 1, 1, 204), CallbackState.DELIVERED
        )

    await asyncio.gather(*(one(number) for number in range(HISTORY)))
    await store.close()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("history")
    asyncio.run(with_history(directory))
    return directory / "state.db"


@pytest.mark.parametrize("damage", [a_third, all_of_it])
async def test_damage_found_while_running(
    place: Path,
    host: FakeAdbHost,
    receiver: Receiver,
    history: Path,
    damage: Callable[[Path, random.Random], None],
) -> None:
    chosen = seed(728)
    gate = asyncio.Event()
    receiver.default = after(gate, answer(204))
    file = place / "state" / "state.db"
    file.parent.mkdir(mode=0o700)
    shutil.copyfile(history, file)
    text = config(host, {1: (receiver, EVERY_EVENT)}, '[delivery]\nretention = "100d"')
    async with AgentProcess(place, text) as agent:
        await agent.start()
        await collect(host, agent, receiver)
        damage(file, random.Random(chosen))
        # Somebody looks through the whole history.
        answered = await agent.api("GET", "/v1/deliveries?state=cancelled")
        assert answered[0] in {200, 500}, answered
        await agent.until(lambda: lines(agent, "store.corrupt"), "the discovery")
        assert set_aside(agent, place).exists()
        for number in PHONES:
            await change(host, agent, number, "offline")
        gate.set()
        # The log may speak of them as lost from the file; the dispatcher had them in memory.
        states = ["online", "offline", "online", "unplugged", "online", "offline"]
        everything = {f"phone-{number}": states for number in PHONES}
        await receiver.until(lambda: told(receiver) == everything, "all of it, in order")
        await agent.until_delivered()
        assert (await agent.api("GET", "/-/ready"))[0] == 200
        await agent.kill()
        requests = len(receiver.requests)
        host.remove("phone-1")
        await agent.start()
        await receiver.until(lambda: len(receiver.requests) > requests, "the net change")
        assert told(receiver)["phone-1"] == [*states, "unplugged"]
        await check_states(agent, {"phone-1": "unplugged", "phone-2": "offline"})
        assert await agent.stop() == 0


async def test_what_memory_knows_is_stored_again(
    place: Path, host: FakeAdbHost, receiver: Receiver, history: Path
) -> None:
    """States and leases that were lost with the file, of phones that did not change since."""
    file = place / "state" / "state.db"
    file.parent.mkdir(mode=0o700)
    shutil.copyfile(history, file)
    text = config(host, {1: (receiver, EVERY_EVENT)}, '[delivery]\nretention = "100d"')
    async with AgentProcess(place, text) as agent:
        await agent.start()
        for number in PHONES:
            await change(host, agent, number, "online")
        lease = {"udid": "phone-1", "holder": "bob", "ttl": 60}
        assert (await agent.api("POST", "/v1/leases", lease))[0] == 201
        await receiver.until(lambda: len(receiver.requests) == len(PHONES) + 1, "all online")
        await agent.until_delivered()
        await agent.kill()
        pending(file)  # writes the log back, so that nothing is shadowed by it
        await agent.start()
        all_of_it(file, random.Random(1))
        assert (await agent.api("GET", "/v1/deliveries?state=cancelled"))[0] in {200, 500}
        await agent.until(lambda: lines(agent, "store.corrupt"), "the discovery")
        # What the agent stores by itself nobody sees; what is stored after it in turn, one does.
        for _ in range(USES):
            lease = {"udid": "phone-4", "holder": "eve", "ttl": 60}
            code, held = await agent.api("POST", "/v1/leases", lease)
            assert code == 201
            assert (await agent.api("DELETE", f"/v1/leases/{held['id']}"))[0] == 200
        assert await agent.stop() == 0
        host.remove("phone-2")
        await agent.start()
        expected = {
            "phone-1": ["online", "utilizing"],
            "phone-2": ["online", "unplugged"],
            "phone-3": ["online"],
            "phone-4": ["online", *["utilizing"] * USES],
        }
        await receiver.until(lambda: told(receiver) == expected, "the one net change")
        held = (await agent.api("GET", "/v1/leases"))[1]["leases"]
        assert [lease["udid"] for lease in held] == ["phone-1"]
