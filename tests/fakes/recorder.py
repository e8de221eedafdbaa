"""Collects what a source emits, and waits (never longer than a limit) for what a test expects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.model import BatteryRead, Changed, Down, Gone, Observation, Sighting, Snapshot
from tests.kit import reasons
from tests.kit.waiting import announced

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorder:
    """An `Emit` that remembers; `seen` holds all but the `batteries`, in order."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.batteries: list[BatteryRead] = []
        self._news = asyncio.Event()

    def __call__(self, observation: Observation | BatteryRead) -> None:
        match observation:
            case BatteryRead():
                self.batteries.append(observation)
                self._news.set()
                return
            case Snapshot(sightings=sightings):
                for each in sightings:
                    reasons.check(each.reason, each.code)
            case Changed(sighting=sighting):
                reasons.check(sighting.reason, sighting.code)
            case Down(reason=reason, code=code):
                reasons.check(reason, code)
        self.seen.append(observation)
        self._news.set()

    @property
    def visible(self) -> dict[str, Sighting]:
        """Address → sighting, as the observations so far add up; empty while down."""
        table: dict[str, Sighting] = {}
        for observation in self.seen:
            match observation:
                case Snapshot(sightings=sightings):
                    table = {sighting.address: sighting for sighting in sightings}
                case Changed(sighting=sighting):
                    table[sighting.address] = sighting
                case Gone(address=address):
                    table.pop(address, None)
                case Down():
                    table = {}
        return table

    def count(self, kind: type[Observation]) -> int:
        """How many observations of that kind came."""
        return sum(isinstance(observation, kind) for observation in self.seen)

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait for the condition, checked at every observation; fails after LIMIT seconds."""
        await announced(
            self._news, condition, what or "an observation", lambda: f"seen: {self.seen}"
        )

    async def told_each_turn(self, until: Callable[[], bool]) -> list[int]:
        """How much had been told at each turn of the loop, from now until that."""
        told = []

        async def note() -> None:
            while True:
                told.append(len(self.seen))
                await asyncio.sleep(0)

        noting = asyncio.create_task(note())
        try:
            await self.until(until)
        finally:
            noting.cancel()
        return told

    async def next_after(self, count: int) -> Observation:
        """The observation at that index, waited for."""
        await self.until(lambda: len(self.seen) > count)
        return self.seen[count]
