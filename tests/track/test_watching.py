"""What was watched is stored now and then; nothing is queued behind a disk that cannot write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.config import parse
from agent.errors import StoreError
from agent.history.watch import LOOK_EVERY, Sight
from agent.model import Down, Snapshot, SourceName
from agent.track.watching import FLUSH_EVERY, Watching
from tests.kit.clock import START_MS, StubClock
from tests.kit.store import open_store
from tests.kit.tracking import pipeline_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.history.watch import Written

ADB, UDEV = SourceName.ADB, SourceName.UDEV


class Times:
    """Takes what is to be stored; done when a test says so."""

    def __init__(self) -> None:
        self.puts: list[list[tuple[int, int]]] = []
        self.waiting: list[asyncio.Future[None]] = []

    def put(self, times: Sequence[Written]) -> asyncio.Future[None]:
        self.puts.append([(at(each.start_ms), at(each.end_ms)) for each in times])
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def done(self, error: Exception | None = None) -> None:
        future = self.waiting.pop()
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        await asyncio.sleep(0)


def at(ms: int) -> int:
    """Seconds since the beginning."""
    return (ms - START_MS) // 1000


class Bench:
    def __init__(self) -> None:
        self.clock = StubClock()
        self.times = Times()
        self.sees = {SourceName.ADB: True}
        self.watching = Watching(self.times, lambda: {"": Sight(dict(self.sees))}, self.clock)

    def known(self) -> list[tuple[int, int]]:
        _, unsaved = self.watching.known()
        return sorted((at(each.start_ms), at(each.end_ms)) for each in unsaved)


async def test_it_is_stored_at_the_beginning_and_every_now_and_then() -> None:
    bench = Bench()
    bench.watching.look()
    assert bench.times.puts == []  # nothing is derived yet
    bench.clock.advance(3)
    bench.watching.begin(bench.clock.wall_ms() - 1000, bench.clock.monotonic() - 1)
    assert bench.times.puts == [[(2, 3)]]
    await bench.times.done()
    bench.clock.advance(LOOK_EVERY * 3)
    assert len(bench.times.puts) == 1
    bench.clock.advance(FLUSH_EVERY)
    assert bench.times.puts[1:] == [[(2, 3 + FLUSH_EVERY)]]
    assert bench.known() == [(2, 3 + LOOK_EVERY * 3 + FLUSH_EVERY)]


async def test_other_sources_are_stored_at_once() -> None:
    bench = Bench()
    bench.watching.begin(bench.clock.wall_ms(), bench.clock.monotonic())
    await bench.times.done()
    bench.clock.advance(2)
    bench.sees[SourceName.ADB] = False
    bench.watching.look()
    assert bench.times.puts[1] == [(0, 2), (2, 2)]


async def test_a_disk_that_cannot_write_is_asked_once_and_nothing_is_lost() -> None:
    bench = Bench()
    bench.watching.begin(bench.clock.wall_ms(), bench.clock.monotonic())
    bench.clock.advance(10)
    bench.sees[SourceName.ADB] = False
    bench.watching.look()
    bench.clock.advance(FLUSH_EVERY * 3)
    assert len(bench.times.puts) == 1
    assert bench.known() == [(0, 10), (10, 10 + FLUSH_EVERY * 3)]
    await bench.times.done(StoreError("no"))
    bench.clock.advance(LOOK_EVERY)
    assert [start for start, _ in sorted(bench.times.puts[1])] == [0, 10]


async def test_the_end_is_stored_whatever_is_under_way() -> None:
    bench = Bench()
    bench.watching.begin(bench.clock.wall_ms(), bench.clock.monotonic())
    bench.clock.advance(7)
    bench.watching.end()
    assert bench.times.puts[-1] == [(0, 7)]
    bench.clock.advance(100)
    bench.watching.look()
    bench.watching.end()
    assert len(bench.times.puts) == 2
    assert bench.clock.armed == []


async def test_what_a_host_sees_is_what_its_sources_say(tmp_path: Path) -> None:
    config = parse("[ios]\nenabled = false\n", "test.toml")
    store, clock = open_store(tmp_path), StubClock()
    pipeline = pipeline_of(config, {}, [], store, lambda _: None, clock)
    assert pipeline.sights() == {}
    pipeline.observe(Snapshot(ADB, ()))
    assert pipeline.sights() == {}  # udev has not spoken yet, and nothing is derived
    pipeline.observe(Down(UDEV, "there is none", missing=True))
    assert pipeline.sights()[""].sees == {ADB: True}
    pipeline.observe(Down(ADB, "refused"))
    assert pipeline.sights()[""].sees == {ADB: False}
    pipeline.observe(Snapshot(UDEV, ()))
    pipeline.observe(Snapshot(ADB, ()))
    assert pipeline.sights()[""].sees == {ADB: True, UDEV: True}
    # One that was there, and is down, is blindness.
    pipeline.observe(Down(UDEV, "it was stopped", missing=True))
    assert pipeline.sights()[""].sees == {ADB: True, UDEV: False}
    await pipeline.close()
    await store.close()
