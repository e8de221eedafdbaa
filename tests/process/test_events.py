"""Following the events of a whole agent over the wire: resumed, filtered, killed in between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.sse import Event, Stream, follow
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE, ONLY_ADB
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONFIG = (
    AT_ONCE
    + ONLY_ADB
    + """\
probe_interval = "0s"
[[devices]]
udid = "ce09"
name = "Galaxy"
tags = ["rack-1"]
"""
)


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as made:
        yield made


@pytest.fixture
async def agent(place: Path, host: FakeAdbHost) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(place, CONFIG.format(adb=host.address)) as made:
        await made.start()
        yield made


def plug(host: FakeAdbHost, *names: str) -> None:
    """These phones, and no others."""
    there = {listed.serial for listed in host.listed.values()}
    for name in there - set(names):
        host.remove(name)
    host.set(*(Listed(name) for name in names if name not in there))


async def until_stored(agent: AgentProcess, udid: str, state: str) -> None:
    """Wait until that is the device's last transition; asks again until LIMIT."""
    shown: Any = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIMIT):
            while True:
                shown = (await agent.api("GET", f"/v1/devices/{udid}"))[1]
                if shown.get("transitions") and shown["transitions"][0]["to"] == state:
                    return
                await asyncio.sleep(0.02)
    raise AssertionError(f"waited {LIMIT} s for {udid} to be {state}: {shown}")


def move(event: Event) -> tuple[str, str | None, str]:
    assert event.kind == "transition"
    return event.data["udid"], event.data["from"], event.data["to"]


async def test_a_snapshot_then_rows_as_they_change_and_transitions_once_stored(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    async with follow(agent.socket) as stream:
        first = await stream.next()
        (row,) = first.data["devices"]
        assert (first.kind, row["udid"], row["state"]) == ("snapshot", "ce09", "unplugged")
        plug(host, "ce09")
        while (changed := await stream.until("device")).data["state"] != "online":
            pass
        assert changed.data.keys() == row.keys()
        transition = await stream.until("transition")
        assert transition.data == {
            "id": transition.id,
            "at": transition.data["at"],
            "udid": "ce09",
            "name": "Galaxy",
            "platform": "android",
            "tags": ["rack-1"],
            "from": None,
            "to": "online",
            "reason": "",
            "reason_code": "",
            "cause_id": "",
            "holder": "",
            "port": row["port"],
            "host": row["host"],
        }
        status, shown = await agent.api("GET", "/v1/devices/CE09")
        assert (status, shown["state"], shown["readings"]["bridge"]) == (200, "online", "ready")
        assert shown["transitions"] == [{**transition.data, "callbacks": []}]


async def test_who_comes_back_with_an_id_gets_what_it_missed_and_nothing_twice(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    async with follow(agent.socket) as stream:
        await stream.until("snapshot")
        plug(host, "ce09")
        assert move(await stream.until("transition")) == ("ce09", None, "online")
        last = stream.last_id
    plug(host)
    await until_stored(agent, "ce09", "unplugged")
    plug(host, "ce09", "r58m")
    await until_stored(agent, "r58m", "online")
    for query, header in (("", last), (f"?last_event_id={last}", "")):
        async with follow(agent.socket, query, header) as stream:
            missed = [move(await stream.next()) for _ in range(3)]
            assert missed[0] == ("ce09", "online", "unplugged")
            assert sorted(missed[1:]) == [("ce09", "unplugged", "online"), ("r58m", None, "online")]
            assert (await stream.next()).kind == "snapshot"


async def test_from_zero_on_all_that_is_stored_is_told(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    plug(host, "ce09")
    await until_stored(agent, "ce09", "online")
    async with follow(agent.socket, "?last_event_id=0") as stream:
        assert move(await stream.next()) == ("ce09", None, "online")


async def test_filters(agent: AgentProcess, host: FakeAdbHost) -> None:
    plug(host, "r58m")
    await until_stored(agent, "r58m", "online")
    for query in ("?tag=rack-1&tag=none", "?device=CE09", "?device=ce09&platform=android"):
        async with follow(agent.socket, query) as stream:
            (row,) = (await stream.until("snapshot")).data["devices"]
            assert row["udid"] == "ce09"
            plug(host, "ce09")
            assert move(await stream.until("transition"))[::2] == ("ce09", "online")
            plug(host, "r58m")
            await until_stored(agent, "ce09", "unplugged")
    async with follow(agent.socket, "?platform=ios") as stream:
        assert (await stream.until("snapshot")).data == {"devices": []}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?last_event_id=yesterday", "bad_request"),
        ("?last_event_id=1-", "bad_request"),
        ("?last_event_id=" + "9" * 30, "bad_request"),
        ("?platform=windows", "bad_request"),
        ("?colour=red", "bad_request"),
        ("?device=ce08", "unknown_device"),
    ],
)
async def test_a_question_that_makes_no_sense_is_answered_at_once(
    agent: AgentProcess, query: str, code: str
) -> None:
    status, answer = await agent.api("GET", f"/v1/events{query}")
    assert (status, answer["error"]["code"]) == (404 if "unknown" in code else 400, code)


async def test_an_id_that_the_store_cannot_know_is_said_and_followed_by_a_snapshot(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    plug(host, "ce09")
    await until_stored(agent, "ce09", "online")
    for strange in ("77-1767675156963", "1-1767675156963", "77"):
        async with follow(agent.socket, last_id=strange) as stream:
            reset = await stream.next()
            assert reset.kind == "reset"
            assert "made anew" in reset.data["reason"]
            assert (await stream.next()).kind == "snapshot"
            assert stream.last_id.startswith("1-")
            assert not stream.last_id.endswith("1767675156963")


async def test_what_the_retention_deleted_is_said_and_the_rest_is_told(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    for present in (["ce09"], [], ["ce09"], ["ce09", "r58m"]):
        plug(host, *present)
        for udid in present or ["ce09"]:
            await until_stored(agent, udid, "online" if present else "unplugged")
    await agent.stop()
    with closing(sqlite3.connect(agent.directory / "state" / "state.db")) as store, store:
        assert store.execute("DELETE FROM transitions WHERE id <= 2").rowcount == 2
    await agent.start()
    async with follow(agent.socket, last_id="1") as stream:
        reset = await stream.next()
        assert (reset.kind, reset.data["reason"].split()[0]) == ("reset", "1")
        assert [move(await stream.next())[0] for _ in range(2)] == ["ce09", "r58m"]
        assert (await stream.next()).kind == "snapshot"
    async with follow(agent.socket, last_id="2") as stream:
        assert move(await stream.next())[0] == "ce09", "the ones behind it are all there"


async def test_a_reload_that_hides_a_device_tells_the_rows_anew(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    plug(host, "ce09", "r58m")
    await until_stored(agent, "r58m", "online")
    async with follow(agent.socket) as stream:
        assert len((await stream.until("snapshot")).data["devices"]) == 2
        hide = '[discovery]\nvisibility = "ignore"\n'
        agent.write(CONFIG.format(adb=host.address) + hide)
        assert (await agent.api("POST", "/v1/reload"))[0] == 200
        (row,) = (await stream.until("snapshot")).data["devices"]
        assert row["udid"] == "ce09"


async def test_readers_end_at_once_when_the_agent_stops(agent: AgentProcess) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(follow(agent.socket)) for _ in range(20)]
        for stream in streams:
            await stream.until("snapshot")
        assert await agent.stop() == 0
        for stream in streams:
            with pytest.raises(EOFError):
                await stream.next()
            assert stream.response.content.exception() is None, "ended in order, not cut off"


async def test_two_hundred_readers_come_at_once_and_miss_nothing(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    plug(host, "ce09")
    await until_stored(agent, "ce09", "online")

    async def read(ready: asyncio.Barrier) -> list[tuple[str, str | None, str]]:
        async with follow(agent.socket, last_id="0") as stream:
            seen = [move(await stream.until("transition"))]
            await stream.until("snapshot")
            await ready.wait()
            return [*seen, *[move(await stream.until("transition")) for _ in range(2)]]

    ready = asyncio.Barrier(201)
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(ready)) for _ in range(200)]
        await ready.wait()
        plug(host)
        await until_stored(agent, "ce09", "unplugged")
        plug(host, "ce09")
    for reader in readers:
        assert [to for _, _, to in reader.result()] == ["online", "unplugged", "online"]


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.long)])
async def test_nothing_is_missed_or_doubled_over_kills_by_who_resumes(
    place: Path, host: FakeAdbHost, kills: int
) -> None:
    """The store says what happened; each client must have seen exactly that, in that order."""
    names = [f"phone{number}" for number in range(8)]

    async def shake() -> None:
        for turn in itertools.count():
            plug(host, *(name for at, name in enumerate(names) if (turn + at) % 3))
            await asyncio.sleep(0.01)  # the agent's moment to look; nothing waits for it

    async with AgentProcess(place, CONFIG.format(adb=host.address)) as agent:
        await agent.start()
        clients = [Client() for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.run(agent)) for client in clients]
            for client in clients:
                await eventually(partial(getattr, client, "follows"), "all follow")
            shaking = group.create_task(shake())
            for _ in range(kills):
                seen = len(clients[0].seen)
                # After a kill all five read again what they missed: on a busy machine, for long.
                await eventually(
                    partial(clients[0].saw_more_than, seen + 20), "more to be told", 6 * LIMIT
                )
                await agent.kill()
                await agent.start()
            shaking.cancel()
            plug(host, "the last one")
            for client in clients:
                await eventually(partial(client.saw, "the last one"), "the last one", 6 * LIMIT)
            for task in tasks:
                task.cancel()
        await agent.stop()
    with closing(sqlite3.connect(place / "state" / "state.db")) as store:
        stored = dict(store.execute("SELECT id, udid FROM transitions ORDER BY id"))
    assert len(stored) > 20 * kills
    for client in clients:
        assert client.doubled == []
        assert client.seen == stored
        assert list(client.seen) == sorted(client.seen), "in order"


class Client:
    """Follows, and comes back with its last id as long as it lives."""

    def __init__(self) -> None:
        self.seen: dict[int, str] = {}
        self.doubled: list[Any] = []
        self.last_id = ""
        self.follows = False
        """It has been told how things stand, once; from then on it misses nothing."""

    def saw_more_than(self, count: int) -> bool:
        return len(self.seen) > count

    def saw(self, udid: str) -> bool:
        return udid in self.seen.values()

    async def run(self, agent: AgentProcess) -> None:
        while True:
            try:
                async with follow(agent.socket, last_id=self.last_id) as stream:
                    await self._read(stream)
            except (OSError, EOFError, AssertionError) as error:
                if isinstance(error, AssertionError):
                    raise
                await asyncio.sleep(0.02)

    async def _read(self, stream: Stream) -> None:
        async for event in stream.all():
            if event.kind == "reset":
                raise AssertionError(event)
            self.last_id = event.id
            self.follows = self.follows or event.kind == "snapshot"
            if event.kind == "transition":
                number = int(event.data["id"].partition("-")[0])
                if number in self.seen:
                    self.doubled.append(event)
                self.seen[number] = event.data["udid"]
