"""A phone is pulled at one machine and plugged in at another: two guests, one broker, one hub.

Broker, hub and the hub's receiver are processes of this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.ports import free_port
from tests.fleet.proof.receiver import ReceiverProcess
from tests.kit.broker import Broker
from tests.kit.fleet import hub
from tests.lab.lab import ONLINE, UNPLUGGED, Lab
from tests.lab.vm import BROKER, LIMIT, Vm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.kit.agent import AgentProcess

PHONE, BESIDE = "MOVES01", "STAYS01"
MOVE_HOLD = 30.0
"""Seconds. Emulated, a phone that is plugged in is online after two of them, or ten."""
WEBHOOK = """\
[[webhooks]]
id = 1
name = "of the hub"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
payload = "extended"
"""


@pytest.fixture
def elsewhere(machine: Lab) -> Iterator[Lab]:
    """Another machine, which reaches the same broker."""
    directory = machine.vm.directory / "elsewhere"
    shutil.rmtree(directory, ignore_errors=True)
    with Vm(directory, machine.vm.broker_port) as vm:
        vm.run("systemctl", "is-system-running", "--wait")
        yield Lab(vm)


async def test_a_phone_that_moves_to_another_machine_is_never_unplugged(
    lab: Lab, elsewhere: Lab
) -> None:
    async with _fleet(lab.vm.broker_port) as (there, receiver):
        for each, host in ((lab, "lab-a"), (elsewhere, "lab-b")):
            each.vm.connect_network()
            each.fresh(f'[fleet]\nservers = ["nats://{BROKER}"]\nhost = "{host}"\n')
        elsewhere.plug("android", BESIDE)  # the adb server there runs from then on
        lab.plug("android", PHONE)
        await _until_rows(there, {BESIDE: ("online", "lab-b"), PHONE: ("online", "lab-a")})

        lab.unplug(PHONE)
        elsewhere.plug("android", PHONE)
        await _until_rows(there, {BESIDE: ("online", "lab-b"), PHONE: ("online", "lab-b")})
        lab.until_state(PHONE, "unplugged")

        pulled = time.monotonic()
        elsewhere.unplug(PHONE)
        elsewhere.unplug(BESIDE)  # the end of its hold comes later, and so nothing hides behind it
        await _until_rows(there, {BESIDE: ("unplugged", "lab-b"), PHONE: ("unplugged", "lab-b")})
        await _until_told(
            receiver,
            {
                BESIDE: [(ONLINE, "lab-b"), (UNPLUGGED, "lab-b")],
                PHONE: [(ONLINE, "lab-a"), (UNPLUGGED, "lab-b")],
            },
        )
        at = {(each.udid, str(each.event)): at for at, each in receiver.sent()}
        assert at[PHONE, "unplugged"] - pulled >= MOVE_HOLD
    # Its own webhooks are each host's own matter.
    lab.expect({PHONE: [ONLINE, UNPLUGGED]})
    elsewhere.expect({BESIDE: [ONLINE, UNPLUGGED], PHONE: [ONLINE, UNPLUGGED]})


@contextlib.asynccontextmanager
async def _fleet(port: int) -> AsyncIterator[tuple[AgentProcess, ReceiverProcess]]:
    """A broker on that port, a hub, and the receiver of its webhook."""
    async with contextlib.AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="da-")))
        broker = Broker(place / "n")
        broker.port = port
        stack.callback(broker.close)
        await broker.start()
        receiver = ReceiverProcess(free_port(), place / "received")
        stack.push_async_callback(receiver.kill)
        await receiver.start()
        there = hub(
            place / "h",
            [broker.url],
            WEBHOOK.format(url=receiver.url),
            host="hub",
            host_grace=LIMIT,
            move_hold=MOVE_HOLD,
            source_grace=LIMIT,
        )
        await stack.enter_async_context(there)
        await there.start()
        yield there, receiver


async def _until_rows(there: AgentProcess, wanted: dict[str, tuple[str, str]]) -> None:
    """Wait until the hub has these in these states, at these hosts.

    It has others, too: what hung at the first machine in tests before.
    """
    rows: dict[str, tuple[str, str]] = {}

    async def reached() -> bool:
        _, answer = await there.api("GET", "/v1/devices")
        rows.clear()
        rows.update(
            {
                row["udid"]: (row["state"], row["host"])
                for row in answer["devices"]
                if row["udid"] in wanted
            }
        )
        return rows == wanted

    await _until(reached, lambda: "\n".join([str(rows), *there.log[-30:]]))


async def _until_told(receiver: ReceiverProcess, wanted: dict[str, list[tuple[str, str]]]) -> None:
    """Wait until the hub has told these states, and no others; what came twice counts once."""
    told: dict[str, list[tuple[str, str]]] = {}

    async def reached() -> bool:
        told.clear()
        for sent in {sent.message_id: sent for _, sent in receiver.sent()}.values():
            body: dict[str, Any] = json.loads(sent.content)
            told.setdefault(sent.udid, []).append((body["eventDescription"], body["host"]))
        return told == wanted

    await _until(reached, lambda: str(told))


async def _until(condition: Callable[[], Awaitable[bool]], seen: Callable[[], str]) -> None:
    end = time.monotonic() + LIMIT
    while not await condition():
        assert time.monotonic() < end, f"waited {LIMIT} s; {seen()}"
        await asyncio.sleep(0.5)
