"""Sources are kept running: each failure is told, and those of yesterday are forgiven."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.model import Down, Gone, Snapshot, SourceName
from agent.sources.supervisor import SourcePlan, Supervisor
from tests.kit.waiting import LIMIT, announced

if TYPE_CHECKING:
    from agent.model import BatteryRead, Emit, Observation

ADB = SourceName.ADB


class Source:
    """Says that it sees nothing, then ends as it was told to."""

    def __init__(self, lasts: float, error: BaseException | None) -> None:
        self.lasts, self.error = lasts, error
        self.name = ADB

    async def run(self, emit: Emit) -> None:
        emit(Snapshot(ADB, ()))
        await asyncio.sleep(self.lasts)
        if self.error is not None:
            raise self.error

    async def recheck(self) -> None:
        """It sees nothing, as it has told."""


class Heard:
    def __init__(self) -> None:
        self.all: list[Observation | BatteryRead] = []
        self.raises: list[Exception] = []
        self._news = asyncio.Event()

    def __call__(self, observation: Observation | BatteryRead) -> None:
        self.all.append(observation)
        self._news.set()
        if self.raises and isinstance(observation, Down):
            raise self.raises.pop()

    async def until(self, count: int) -> None:
        await announced(
            self._news, lambda: len(self.all) >= count, f"{count} observations", lambda: self.all
        )


@pytest.mark.parametrize("error", [KeyError(), asyncio.CancelledError(), None])
async def test_whatever_ends_a_source_it_is_told_and_started_again(
    error: BaseException | None,
) -> None:
    heard = Heard()
    supervisor = Supervisor(heard)
    supervisor.start({ADB: SourcePlan("a", lambda: Source(0.0, error))})
    await heard.until(3)
    assert [type(each) for each in heard.all[:3]] == [Snapshot, Down, Snapshot]
    await supervisor.close()


async def test_who_cannot_take_the_news_does_not_end_the_source() -> None:
    heard = Heard()
    heard.raises = [RuntimeError()]
    supervisor = Supervisor(heard)
    supervisor.start({ADB: SourcePlan("a", lambda: Source(0.0, None))})
    await heard.until(3)
    assert isinstance(heard.all[2], Snapshot)
    await supervisor.close()


@pytest.mark.parametrize(("healthy", "pauses"), [(0.0, [1.0, 1.0]), (LIMIT * 10, [1.0, 2.0])])
async def test_a_healthy_run_forgives_earlier_failures(healthy: float, pauses: list[float]) -> None:
    heard = Heard()
    supervisor = Supervisor(heard, healthy)
    with capture_logs() as logs:
        supervisor.start({ADB: SourcePlan("a", lambda: Source(0.0, KeyError()))})
        await heard.until(4)
        await supervisor.close()
    assert [each["retry_in_s"] for each in logs if each["event"] == "source.failed"] == pauses


async def test_one_that_ends_slowly_is_not_heard_any_more() -> None:
    """It was told to leave out what the new one leaves out, and would still speak of it."""
    heard = Heard()
    go = asyncio.Event()

    class Stubborn(Source):
        async def run(self, emit: Emit) -> None:
            emit(Snapshot(ADB, ()))
            try:
                await asyncio.Event().wait()
            finally:
                emit(Gone(ADB, "late"))
                go.set()

    supervisor = Supervisor(heard)
    supervisor.start({ADB: SourcePlan("a", lambda: Stubborn(0.0, None))})
    await heard.until(1)
    plans = {ADB: SourcePlan("b", lambda: Source(LIMIT, None))}
    dropped = supervisor.drop(plans)
    assert list(dropped) == [ADB]
    assert await supervisor.swap(plans, dropped) == ["adb"]
    await heard.until(3)
    assert go.is_set()
    assert [type(each) for each in heard.all] == [Snapshot, Down, Snapshot]
    assert await supervisor.swap(plans) == [], "nothing changed"
    assert await supervisor.swap({}) == ["adb"]
    await supervisor.close()
