"""The wall clock jumps by a day, forwards or backwards, under the running agent or between two.

Debian's libfaketime gives the agent a wall clock of its own, which the test moves; the monotonic
clock stays true.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost
from tests.fakes.receiver import Receiver, answer
from tests.faults.invariants import EVERY_EVENT, told
from tests.faults.lab import change, config, lines, short_directory, transitions
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
DAY = 86_400
FIRST_RETRY = 5.0 * 0.9
"""Seconds: the schedule's, less its jitter."""
HOLD = 1.5
SHORT_TTL = 2.0

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs Debian's package libfaketime")


class World:
    """An agent with a wall clock of its own, an adb server and a receiver."""

    def __init__(self, place: Path, host: FakeAdbHost, receiver: Receiver, more: str) -> None:
        self.host = host
        self.receiver = receiver
        self._clock = place / "clock"
        self._pids: list[int] = []
        self.jump(0)
        text = config(host, {1: (receiver, EVERY_EVENT)}, more)
        text = text.replace('unplugged = "0s"', f'unplugged = "{round(HOLD * 1000)}ms"')
        self.agent = AgentProcess(place, text)

    def jump(self, days: int) -> None:
        """Set the agent's wall clock that far off."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.rename(self._clock)

    async def start(self, watchdog_usec: int = 0) -> None:
        await self.agent.start(
            {
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
                "WATCHDOG_USEC": str(watchdog_usec),
            }
        )
        assert self.agent.process is not None
        self._pids.append(self.agent.process.pid)

    async def until_failed_once(self, callbacks: int) -> None:
        """Wait until the first attempts of that many callbacks have failed, and it is stored."""
        await self.agent.until(
            lambda: len(lines(self.agent, "callback.failed")) >= callbacks, "the first attempts"
        )
        rows: list[dict[str, Any]] = []
        async with asyncio.timeout(LIMIT):
            while [row["attempts"] for row in rows] != [1] * callbacks:
                rows = (await self.agent.api("GET", "/v1/deliveries"))[1]["deliveries"]

    def tidy(self) -> None:
        """Remove what the library leaves behind of processes that were killed."""
        for pid in self._pids:
            for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)

    def check_the_agents_clock(self, request: int, days: int) -> None:
        """The jump has come to the agent: its requests say what time it takes it to be."""
        sent = int(self.receiver.requests[request].headers["webhook-timestamp"])
        assert abs(sent - time.time() - days * DAY) < 60


@asynccontextmanager
async def world(more: str = "") -> AsyncIterator[World]:
    """A new one; killed at the end."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(short_directory())
        host = await stack.enter_async_context(FakeAdbHost())
        receiver = await Receiver().start()
        stack.push_async_callback(receiver.close)
        made = World(place, host, receiver, more)
        stack.callback(made.tidy)
        await stack.enter_async_context(made.agent)
        yield made


async def test_a_jump_moves_no_retry_lease_hold_or_watchdog() -> None:
    """Forwards and backwards, running and stopped, in worlds of their own: it is mostly waiting."""

    async def play(part: Callable[[World, int], Awaitable[None]], days: int) -> None:
        async with world() as made:
            await part(made, days)

    async with asyncio.TaskGroup() as group:
        for days in (1, -1):
            group.create_task(play(_jump_while_running, days))
            group.create_task(play(_jump_while_stopped, days))


async def _jump_while_running(world: World, days: int) -> None:
    agent, host, receiver = world.agent, world.host, world.receiver
    receiver.default = answer(503)
    await world.start(watchdog_usec=500_000)
    failing = time.monotonic()
    for number in (1, 2, 3, 4):
        await change(host, agent, number, "online")
    await world.until_failed_once(4)
    leasing = time.monotonic()
    for number, ttl in ((2, 60.0), (3, SHORT_TTL)):
        lease = {"udid": f"phone-{number}", "holder": "bob", "ttl": ttl}
        assert (await agent.api("POST", "/v1/leases", lease))[0] == 201
    unplugging = time.monotonic()
    host.remove("phone-4")
    fed = agent.notifications.count("WATCHDOG=1")

    world.jump(days)
    receiver.default = answer(204)
    assert len((await agent.api("GET", "/v1/leases"))[1]["leases"]) == 2

    await agent.until(lambda: ("phone-4", "unplugged") in transitions(agent), "the hold's end")
    assert time.monotonic() - unplugging >= HOLD
    await agent.until(lambda: lines(agent, "lease.expired"), "the short lease's end")
    assert time.monotonic() - leasing >= SHORT_TTL
    await receiver.until(lambda: len(receiver.requests) > 4, "a retry")
    assert time.monotonic() - failing >= FIRST_RETRY
    world.check_the_agents_clock(4, days)
    expected = {
        "phone-1": ["online"],
        "phone-2": ["online", "utilizing"],
        "phone-3": ["online", "utilizing"],
        "phone-4": ["online", "unplugged"],
    }
    await receiver.until(lambda: told(receiver) == expected, "everything, in order")
    assert len((await agent.api("GET", "/v1/leases"))[1]["leases"]) == 1
    await agent.until(lambda: agent.notifications.count("WATCHDOG=1") > fed + 4, "WATCHDOG")
    assert not lines(agent, "watchdog.starved")
    assert not lines(agent, "callback.dead")
    await agent.until_delivered()
    assert await agent.stop() == 0


async def _jump_while_stopped(world: World, days: int) -> None:
    agent, host, receiver = world.agent, world.host, world.receiver
    receiver.default = answer(503)
    await world.start()
    await change(host, agent, 1, "online")
    await world.until_failed_once(1)
    await change(host, agent, 1, "offline")
    assert await agent.stop() == 0
    world.jump(days)
    receiver.default = answer(204)
    await world.start()
    await receiver.until(
        lambda: told(receiver) == {"phone-1": ["online", "offline"]}, "both, in order"
    )
    world.check_the_agents_clock(-1, days)
    assert not lines(agent, "callback.dead")


async def test_a_jump_ages_no_young_callback_to_death() -> None:
    async with world('[delivery]\nmax_age = "1h"') as aged:
        await _jump_past_the_age(aged)


async def _jump_past_the_age(world: World) -> None:
    agent, host, receiver = world.agent, world.host, world.receiver
    receiver.default = answer(503)
    await world.start()
    await change(host, agent, 1, "online")
    await world.until_failed_once(1)
    world.jump(1)
    await receiver.until(lambda: len(receiver.requests) == 2, "the second attempt")
    await agent.until(
        lambda: len(lines(agent, "callback.failed")) == 2 or lines(agent, "callback.dead"),
        "the end",
    )
    world.check_the_agents_clock(1, 1)
    assert not lines(agent, "callback.dead"), "it is seconds old"
    row = (await agent.api("GET", "/v1/deliveries"))[1]["deliveries"][0]
    assert row["state"] == "pending"
