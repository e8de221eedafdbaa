"""Who wants to be looked at when. Pure."""

from __future__ import annotations

import heapq
from typing import Final

STALE: Final = 64
"""Wishes that were changed and are kept, beside as many as there are in force."""


class Wakes:
    """One time for each who has one; times are of any clock that only grows."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._of: dict[str, float] = {}

    def __len__(self) -> int:
        """How many have one."""
        return len(self._of)

    def wake(self, who: str, when: float | None) -> None:
        """At that time, and not at an earlier one; None: not at all."""
        if when == self._of.get(who):
            return
        if when is None:
            del self._of[who]
            return
        self._of[who] = when
        heapq.heappush(self._heap, (when, who))
        if len(self._heap) > 2 * len(self._of) + STALE:
            # What was put off for days would stay in here for days.
            self._heap = [(at, each) for each, at in self._of.items()]
            heapq.heapify(self._heap)

    def move(self, old: str, new: str) -> None:
        """They go by another name."""
        when = self._of.pop(old, None)
        if when is not None:
            self.wake(new, when)

    def next(self) -> float | None:
        """The first time of all."""
        while self._heap and self._of.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> set[str]:
        """Those whose time has come; they have none any more."""
        came: set[str] = set()
        while (when := self.next()) is not None and when <= now:
            _, who = heapq.heappop(self._heap)
            del self._of[who]
            came.add(who)
        return came
