"""What one observation costs to identify and derive, by how many devices there are.

*Pure*: `Identities.apply` and `derive.step` alone. *Pipeline*: `Pipeline.observe` to the (empty)
recorder's return: every observation is a transition with one rendered callback and one log line.
CPU time of the thread; sizes take turns, devices are chosen at random, and so much (pretended) time
passes that none of them flaps.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import TYPE_CHECKING

from agent.clock import LoopClock
from agent.model import Bridge, Changed, Snapshot, SourceName
from agent.track.derive import Policy, Track, step
from agent.track.identity import Identities
from benchmarks.report import Figure, median_spread, table
from benchmarks.sample import WEBHOOK_ID, adb_sighting, make_config, quiet
from tests.kit.tracking import pipeline_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model import Callback, DeviceRecord, Transition

SIZES = (10, 100, 1_000, 10_000)
OBSERVATIONS = 2_000
STEP = 60.0
"""Seconds that pass between two observations, for the flap damping."""
FLAT = 1.5
"""What is still called flat: caches and the garbage collector have their share too."""


class _NoStore:
    """A recorder that forgets."""

    async def record(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: Sequence[Callback],
    ) -> tuple[Callback, ...]:
        """Nothing."""
        del record, transition, callbacks
        return ()


class _Leaping(LoopClock):
    """A step passes between any two looks at it."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        """As `STEP` says."""
        self._now += STEP
        return self._now


class _House:
    """So many phones, and their next observations."""

    def __init__(self, size: int) -> None:
        self._clock = _Leaping()
        config = make_config("http://127.0.0.1:9/")
        sightings = [
            [adb_sighting(number, bridge) for bridge in (Bridge.NOT_READY, Bridge.READY)]
            for number in range(size)
        ]
        self._changes = [[Changed(one) for one in both] for both in sightings]
        self._ready = [False] * size
        snapshot = Snapshot(SourceName.ADB, tuple(both[0] for both in sightings))
        self._policy = Policy(config.hold, config.flap)
        self._identities = Identities(sources=[SourceName.ADB], known=())
        self._tracks = dict.fromkeys(self._identities.apply(snapshot), Track())
        self._pipeline = pipeline_of(
            config,
            {WEBHOOK_ID: config.webhooks[0]},
            [],
            _NoStore(),
            lambda _: None,
            self._clock,
        )
        self._pipeline.observe(snapshot)

    def _observations(self) -> list[Changed]:
        chosen = []
        for _ in range(OBSERVATIONS):
            number = random.randrange(len(self._ready))
            self._ready[number] = not self._ready[number]
            chosen.append(self._changes[number][self._ready[number]])
        return chosen

    def pure(self) -> float:
        """Microseconds per observation."""
        observations = self._observations()
        began = time.thread_time()
        for observation in observations:
            for udid in self._identities.apply(observation):
                readings = self._identities.readings(udid)
                outcome = step(self._tracks[udid], readings, self._clock.monotonic(), self._policy)
                self._tracks[udid] = outcome.track
        return (time.thread_time() - began) / OBSERVATIONS * 1e6

    async def pipeline(self) -> float:
        """Microseconds per observation, the recorder's task included."""
        observations = self._observations()
        await self._pipeline.commits.drain()
        began = time.thread_time()
        for observation in observations:
            self._pipeline.observe(observation)
            await asyncio.sleep(0)  # lets its task run, as it would between two readings
        await self._pipeline.commits.drain()
        return (time.thread_time() - began) / OBSERVATIONS * 1e6


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    del directory
    quiet()
    houses = {size: _House(size) for size in SIZES}
    gc.collect()
    pure: dict[int, list[float]] = {size: [] for size in SIZES}
    whole: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(5 if quick else 15):
        for size, house in houses.items():
            pure[size].append(house.pure())
            whole[size].append(await house.pipeline())
    figures = []
    rows = [("us per observation", *(f"{size} devices" for size in SIZES))]
    for name, times in (("pure", pure), ("pipeline", whole)):
        rows.append((name, *(f"{median_spread(times[size])[0]:.1f}" for size in SIZES)))
        small, large = times[SIZES[0]], times[SIZES[-1]]
        ratios = [b / a for a, b in zip(small, large, strict=True)]
        ratio, spread = median_spread(ratios, ".2f")
        figures += [
            Figure(f"derive ({name}), {SIZES[-1]} devices", f"{median_spread(large)[0]:.1f} us"),
            Figure(
                f"derive ({name}), {SIZES[-1]} / {SIZES[0]} devices",
                f"{ratio:.2f}",
                spread,
                f"flat (<= {FLAT:g})",
                ratio <= FLAT,
            ),
        ]
    print(table(rows))
    return figures
