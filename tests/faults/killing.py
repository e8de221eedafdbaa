"""A world in which agents are killed at random moments while receivers fail at random.

The agents that are killed are forks of a process that has imported everything (see `nursery`); the
last one, which has to deliver what all of them left behind, is a real `device-agent run`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.deliver.breaker import BREAK_AFTER
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver
from tests.faults.flaky import Flaky
from tests.faults.invariants import (
    EVERY_EVENT,
    check_that_all_arrived_in_order,
    check_that_all_callbacks_were_stored,
    stored_order,
)
from tests.faults.lab import config, lines, short_directory
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

_ROOT = Path(__file__).parents[2]
_NURSERY = Path(__file__).with_name("nursery.py")
PHONES = 12
LIVES = 0.35
"""Seconds that an agent lives at most; half of them die before they are ready."""
MANY = 600.0
"""Seconds for all that thousands of them left behind, an attempt at a time for each phone."""
EVENTS = {1: EVERY_EVENT, 2: frozenset({"online", "unplugged"})}


class Came(NamedTuple):
    """What came of one world in which nothing was lost, overtaken or altered: else it raises."""

    callbacks: int
    """Stored, and every one of them arrived."""
    repeated: int
    """Requests that had been answered 2xx before: the agent died before it could note it."""


async def kill_agents(dice: random.Random, kills: int, lives: float = LIVES) -> Came:
    """One world, in which an agent lives that many seconds at most; its figures."""
    async with AsyncExitStack() as stack:
        receivers = {number: await Receiver().start() for number in EVENTS}
        for receiver in receivers.values():
            stack.push_async_callback(receiver.close)
        return await _live_and_die(dice, kills, lives, receivers)


async def _live_and_die(
    dice: random.Random, kills: int, lives: float, receivers: dict[int, Receiver]
) -> Came:
    moods = {number: Flaky(dice, dice.choice((0.05, 0.3))) for number in EVENTS}
    for number, receiver in receivers.items():
        receiver.default = moods[number]
    with short_directory() as place:
        async with FakeAdbHost() as host:
            text = config(host, {n: (receivers[n], events) for n, events in EVENTS.items()})
            async with AgentProcess(place, text) as agent:
                shaking = asyncio.create_task(shake(host, dice, 0.02))
                try:
                    await _kill(agent.path, place / "log", dice, kills, lives)
                    await agent.start()
                finally:
                    shaking.cancel()
                    await asyncio.wait({shaking})
                await _recover(host, agent, moods)
                await agent.until_delivered(MANY)
                shown = {udid: row["state"] for udid, row in (await agent.devices()).items()}
                assert await agent.stop() == 0
        for phone in host.listed.values():
            assert shown[phone.serial] == {"device": "online"}.get(phone.state, "offline")
        with closing(sqlite3.connect(place / "state" / "state.db")) as store:
            check_that_all_callbacks_were_stored(store, EVENTS)
            callbacks, repeated = 0, 0
            for number, receiver in receivers.items():
                check_that_all_arrived_in_order(store, number, receiver)
                order = stored_order(store, number)
                duplicates = moods[number].check_that_nothing_was_overtaken(order)
                # Answered and not yet noted, at most one per device and death.
                assert duplicates <= kills * PHONES
                repeated += duplicates
                callbacks += sum(map(len, order.values()))
        log = (place / "log").read_text()
        assert "Traceback" not in log, log[-4000:]
        return Came(callbacks, repeated)


async def shake(host: FakeAdbHost, dice: random.Random, pause: float) -> None:
    """Plug, authorise, revoke and unplug phones at random, for ever."""
    while True:
        number = dice.randrange(PHONES) + 1
        match dice.randrange(3):
            case 0:
                host.set(Listed(f"phone-{number}", transport_id=number))
            case 1:
                host.set(Listed(f"phone-{number}", "unauthorized", transport_id=number))
            case _:
                host.remove(f"phone-{number}")
        await asyncio.sleep(pause)


async def _kill(path: Path, log: Path, dice: random.Random, kills: int, lives: float) -> None:
    async with _nursery() as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(kills):
            async with asyncio.timeout(LIMIT):
                nursery.stdin.write(f"run {path} {log}\n".encode())
                assert await nursery.stdout.readline() == b"running\n"
                # The moment of death is the test's subject, not its synchronisation.
                await asyncio.sleep(dice.random() * lives)
                nursery.stdin.write(b"kill\n")
                end = await nursery.stdout.readline()
            assert end == b"dead -9\n", (end, log.read_text()[-4000:])


@asynccontextmanager
async def _nursery() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        _NURSERY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(LIMIT):
            await process.wait()


async def _recover(host: FakeAdbHost, agent: AgentProcess, moods: dict[int, Flaky]) -> None:
    """A whole outage, and its end: the first success wakes what waits for a retry.

    A head that failed often may be due in hours. New phones make sure of attempts now.
    """
    for mood in moods.values():
        mood.failing = 1.0
    for number in range(BREAK_AFTER):
        host.set(Listed(f"outage-{number}", transport_id=100 + number))
    await agent.until(lambda: len(lines(agent, "webhook.failing")) == len(moods), "the breaker")
    for mood in moods.values():
        mood.failing = 0.0
    host.set(Listed("recovery", transport_id=200))
