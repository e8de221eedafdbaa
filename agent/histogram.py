"""Counts how long things take, in fixed buckets: a few integers, whatever the number of things."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Tally:
    """What a histogram has counted at one moment."""

    bounds: tuple[float, ...]
    """Upper bounds of the buckets, inclusive, rising; a last bucket without a bound follows."""
    counts: tuple[int, ...]
    """Of each bucket alone; one more than bounds."""
    total: float
    """Sum of the values."""

    def cumulative(self) -> tuple[int, ...]:
        """How many values lie at or below each bound, and last how many there are."""
        return tuple(accumulate(self.counts))


class Histogram:
    """One thread observes. Any may take a tally: its sum may lack the value just observed."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def tally(self) -> Tally:
        """What was counted so far."""
        return Tally(self._bounds, tuple(self._counts), self._total)
