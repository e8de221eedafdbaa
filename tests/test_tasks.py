"""Background work never dies silently, and no step of a swap keeps the next from being done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.tasks import Steps, Tasks
from tests.kit.waiting import LIMIT, announced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Told:
    """Hears that `problems` changed."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def __call__(self) -> None:
        self._news.set()

    async def until(self, tasks: Tasks, *problems: str) -> None:
        await announced(
            self._news,
            lambda: [each.partition(",")[0] for each in tasks.problems] == list(problems),
            f"the problems {problems}",
            lambda: tasks.problems,
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def tasks(told: Told) -> AsyncIterator[Tasks]:
    made = Tasks(told, healthy=0.05, first=0.001)
    yield made
    await made.close(LIMIT)


class Work:
    """Fails as it is told, then lasts."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.runs = 0
        self.lasts = asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> None:
        self.runs += 1
        await asyncio.sleep(0)
        if self.ends:
            end = self.ends.pop(0)
            if end is not None:
                raise end
            return
        self.lasts.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (KeyError("who"), "internal error (KeyError)"),
        (asyncio.CancelledError(), "internal error (CancelledError)"),
        (TimeoutError(), "internal error (TimeoutError)"),
        (None, "it ended by itself"),
    ],
)
async def test_what_dies_is_told_begun_again_and_forgiven(
    tasks: Tasks, told: Told, end: BaseException | None, word: str
) -> None:
    work = Work(end)
    tasks.keep("watch", work)
    await told.until(tasks, f"watch: {word}")
    async with asyncio.timeout(LIMIT):
        await work.lasts.wait()
    assert work.runs == 2
    await told.until(tasks)
    await tasks.close(LIMIT)
    assert work.cancelled


async def test_it_is_begun_again_each_time(tasks: Tasks) -> None:
    work = Work(*(ValueError(str(each)) for each in range(6)))
    tasks.keep("watch", work)
    async with asyncio.timeout(LIMIT):
        await work.lasts.wait()
    assert work.runs == 7


async def test_what_has_an_end_is_repeated_until_it_reaches_it(tasks: Tasks, told: Told) -> None:
    done = asyncio.Event()
    ends = [OSError(), OSError()]

    async def work() -> None:
        if ends:
            raise ends.pop()
        done.set()

    tasks.finish("start", work)
    async with asyncio.timeout(LIMIT):
        await done.wait()
    await told.until(tasks)


async def test_one_that_fails_harms_no_other_and_a_broken_listener_none_at_all() -> None:
    def broken() -> None:
        raise RuntimeError

    tasks = Tasks(broken, healthy=LIMIT, first=0.001)
    first, second = Work(KeyError()), Work()
    tasks.keep("first", first)
    tasks.keep("second", second)
    async with asyncio.timeout(LIMIT):
        await first.lasts.wait()
        await second.lasts.wait()
    assert second.runs == 1
    assert [each.partition(":")[0] for each in tasks.problems] == ["first"]
    await tasks.close(LIMIT)


async def test_what_is_to_be_whole_outlives_who_asked_for_it(tasks: Tasks) -> None:
    begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> int:
        begun.set()
        await go.wait()
        ended.set()
        return 7

    asking = asyncio.create_task(tasks.whole("swap", work()))
    await begun.wait()
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    go.set()
    async with asyncio.timeout(LIMIT):
        await ended.wait()
    assert await tasks.whole("swap", work()) == 7


async def test_every_step_is_done_and_those_that_failed_are_named() -> None:
    done: list[str] = []
    steps = Steps()

    def bad() -> None:
        raise asyncio.InvalidStateError

    async def good(name: str) -> str:
        done.append(name)
        return name

    async def worse() -> str:
        raise KeyError

    steps.do("leases", bad)
    steps.do("devices", lambda: done.append("devices"))
    assert await steps.wait("sources", good("sources")) == "sources"
    assert await steps.wait("usage", worse()) is None
    steps.do("leases", bad)
    assert steps.failed == ("leases", "usage")
    assert done == ["devices", "sources"]
