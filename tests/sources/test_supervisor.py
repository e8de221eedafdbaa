"""Sources are kept running, and asked for the whole truth, whatever they do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent.model import Down, Snapshot, SourceName
from agent.sources.supervisor import SourcePlan, Supervisor
from tests.fakes.recorder import Recorder
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.model import Emit

ADB = SourceName.ADB


class Source:
    """Says one snapshot, and does what the test wants when it is asked."""

    name = ADB

    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.error = error
        self.hangs = hangs
        self.asked = 0
        self.ended = asyncio.Event()

    async def run(self, emit: Emit) -> None:
        emit(Snapshot(ADB, ()))
        await self.ended.wait()

    async def recheck(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()


@asynccontextmanager
async def running(source: Source) -> AsyncIterator[tuple[Supervisor, Recorder]]:
    recorder = Recorder()
    supervisor = Supervisor(recorder)
    supervisor.start({ADB: SourcePlan("settings", lambda: source)})
    try:
        await recorder.next_after(0)
        yield supervisor, recorder
    finally:
        await supervisor.close()


async def ask(supervisor: Supervisor) -> None:
    question = supervisor.recheck(ADB)
    assert question is not None
    async with asyncio.timeout(LIMIT):
        await question


async def test_a_source_that_runs_is_asked() -> None:
    source = Source()
    async with running(source) as (supervisor, _):
        await ask(supervisor)
        assert source.asked == 1
        assert supervisor.recheck(SourceName.UDEV) is None, "nobody to ask"
    assert supervisor.recheck(ADB) is None


async def test_a_source_that_breaks_its_promise_is_no_ones_failure() -> None:
    async with running(Source(RuntimeError("a mistake"))) as (supervisor, _):
        await ask(supervisor)


async def test_a_source_that_hangs_is_waited_for_with_a_limit() -> None:
    async with running(Source(hangs=True)) as (supervisor, _):
        await ask(supervisor)


async def test_a_source_that_ended_is_not_asked() -> None:
    source = Source()
    async with running(source) as (supervisor, recorder):
        source.ended.set()
        await recorder.until(lambda: recorder.count(Down) == 1, "its end")
        assert supervisor.recheck(ADB) is None
