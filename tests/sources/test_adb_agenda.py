"""The agenda: due times, width, discarding, repeating."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.sources.agenda import Agenda

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Jobs:
    """Jobs that run until they are told to end."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.running = 0
        self.most = 0
        self.again: dict[int, float] = {}
        self.gate = asyncio.Event()
        self._news = asyncio.Event()

    async def __call__(self, key: int) -> float | None:
        self.started.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        self._news.set()
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
            self._news.set()
        return self.again.get(key)

    async def until(self, started: int, running: int | None = None) -> None:
        async with asyncio.timeout(10):
            while len(self.started) < started or running not in (None, self.running):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running(agenda: Agenda) -> AsyncIterator[None]:
    task = asyncio.create_task(agenda.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def test_in_the_order_in_which_they_are_due_and_never_more_than_fit() -> None:
    jobs = Jobs()
    agenda = Agenda(2, jobs)
    async with running(agenda):
        for key, delay in ((1, 0.03), (2, 0.0), (3, 0.02), (4, 0.01), (5, 0.04)):
            agenda.add(key, delay)
        await jobs.until(2)
        assert jobs.started == [2, 4]
        jobs.gate.set()
        await jobs.until(5, running=0)
        assert jobs.started == [2, 4, 3, 1, 5]
        assert jobs.most == 2


async def test_what_is_discarded_does_not_run_nor_repeat() -> None:
    jobs = Jobs()
    agenda = Agenda(1, jobs)
    jobs.again = {1: 0.0}
    async with running(agenda):
        agenda.add(1, 0.0)
        agenda.add(2, 0.0)  # waits for the slot
        await jobs.until(1)
        agenda.discard(1)
        agenda.discard(2)
        jobs.gate.set()
        agenda.add(3, 0.0)
        await jobs.until(2, running=0)
        assert jobs.started == [1, 3]


async def test_what_is_added_while_it_runs_runs_again() -> None:
    jobs = Jobs()
    agenda = Agenda(2, jobs)
    async with running(agenda):
        agenda.add(1, 0.0)
        await jobs.until(1)
        agenda.add(1, 0.0)
        agenda.add(2, 0.0)
        await jobs.until(2)
        assert jobs.started == [1, 2], "never twice at once"
        jobs.gate.set()
        await jobs.until(3)
        assert jobs.started == [1, 2, 1]


async def test_a_job_repeats_when_it_says_so() -> None:
    jobs = Jobs()
    jobs.gate.set()
    jobs.again = {1: 0.001}
    agenda = Agenda(1, jobs)
    async with running(agenda):
        agenda.add(1, 0.0)
        await jobs.until(20)


async def test_a_grain_gathers_what_is_due_and_spares_what_is_due_now() -> None:
    jobs = Jobs()
    agenda = Agenda(100, jobs, grain=3600.0)
    async with running(agenda):
        for key in range(10):
            agenda.add(key, 0.001)
        agenda.add(99, 0.0)
        await jobs.until(1)
        assert jobs.started == [99]


async def test_a_job_that_breaks_ends_the_run() -> None:
    async def breaks(key: int) -> float | None:
        raise RuntimeError(f"job {key}")

    agenda = Agenda(1, breaks)
    agenda.add(7, 0.0)
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(5):
            await agenda.run()
    assert raised.group_contains(RuntimeError, match="job 7")
