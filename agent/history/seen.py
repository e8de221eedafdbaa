"""Who was seen when, by the times in which somebody looked. Pure.

A `Watched` is a time in which the same sources saw. Such times may overlap where the wall clock was
set back: who is seen in one of them is seen. Half-open, in milliseconds of the wall clock.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.model import BRIDGE_OF, Platform, SourceName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Watched(NamedTuple):
    """A time in which the same sources saw."""

    host: str
    """At a hub: whose; "": this one."""
    start_ms: int
    end_ms: int
    sees: Mapping[SourceName, bool]
    """Of each source that is turned on; a udev that was never there counts as turned off."""


class Gap(NamedTuple):
    """A time in which nobody could see a phone."""

    start_ms: int
    end_ms: int
    blind: frozenset[SourceName]
    """The sources that could not see; none: nobody looked."""


def sees(platform: Platform, sources: Mapping[SourceName, bool]) -> bool:
    """Whether phones of that platform are seen: by their bridge, and by a udev that is on."""
    return sources.get(BRIDGE_OF[platform], False) and sources.get(SourceName.UDEV, True)


class Seen:
    """The times in which one kind of phone was seen, joined."""

    def __init__(self, times: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._before = [0]
        """Milliseconds seen before the time of that number."""
        for start, end in sorted(times):
            if start >= end:
                continue
            if self._ends and start <= self._ends[-1]:
                longer = max(self._ends[-1], end) - self._ends[-1]
                self._ends[-1] += longer
                self._before[-1] += longer
                continue
            self._starts.append(start)
            self._ends.append(end)
            self._before.append(self._before[-1] + end - start)

    def within(self, start: int, end: int) -> int:
        """Milliseconds of that time in which it was seen."""
        return self._until(end) - self._until(start) if start < end else 0

    def _until(self, at: int) -> int:
        number = bisect_right(self._starts, at) - 1
        if number < 0:
            return 0
        return self._before[number] + min(at, self._ends[number]) - self._starts[number]


_NEVER: Final = Seen(())
_EVER: Final = (-(1 << 62), 1 << 62)


class Watch:
    """All that was watched in some range, asked by platform and host.

    Args:
        rows: that.
        most: gaps of a platform at a host; of more those with the least between them are told as
            one. None: each as it was.
    """

    def __init__(self, rows: Iterable[Watched], most: int | None = None) -> None:
        self._most = most
        self._of: dict[str, list[Watched]] = {}
        for row in rows:
            self._of.setdefault(row.host, []).append(row)
        self._seen: dict[tuple[Platform, str], Seen] = {}
        self._gaps: dict[tuple[Platform, str], list[Gap]] = {}

    def seen(self, platform: Platform, host: str) -> Seen:
        """When phones of that platform were seen at that host."""
        key = platform, host
        if (found := self._seen.get(key)) is None:
            rows = self._of.get(host, ())
            found = self._seen[key] = (
                Seen((row.start_ms, row.end_ms) for row in rows if sees(platform, row.sees))
                if rows
                else _NEVER
            )
        return found

    def gaps(self, platform: Platform, host: str, start: int, end: int) -> list[Gap]:
        """The times of that range in which they were not, each with who could not see."""
        key = platform, host
        if (found := self._gaps.get(key)) is None:
            found = _gaps(platform, self._of.get(host, ()))
            if self._most is not None and len(found) > self._most:
                found = _joined(found, self._most)
            self._gaps[key] = found
        first = bisect_right(found, start, key=lambda gap: gap.end_ms)
        clipped = []
        for gap in found[first:]:
            if gap.start_ms >= end:
                break
            clipped.append(Gap(max(gap.start_ms, start), min(gap.end_ms, end), gap.blind))
        return clipped


def _gaps(platform: Platform, rows: Sequence[Watched]) -> list[Gap]:
    """Of all time, one after the other: what lies between two of them was seen."""
    begins = sorted(rows, key=lambda row: row.start_ms)
    edges = sorted({_EVER[0], _EVER[1], *(at for row in rows for at in row[1:3])})
    found: list[Gap] = []
    covering: list[Watched] = []
    taken = 0
    for left, right in pairwise(edges):
        while taken < len(begins) and begins[taken].start_ms <= left:
            covering.append(begins[taken])
            taken += 1
        covering = [row for row in covering if row.end_ms > left]
        if any(sees(platform, row.sees) for row in covering):
            continue
        blind = frozenset(blind_ones(platform, covering))
        if found and found[-1].end_ms == left and found[-1].blind == blind:
            found[-1] = found[-1]._replace(end_ms=right)
        else:
            found.append(Gap(left, right, blind))
    return found


def _joined(gaps: Sequence[Gap], most: int) -> list[Gap]:
    """So many at most: those between which the least was seen are one."""
    between = sorted(range(1, len(gaps)), key=lambda n: gaps[n].start_ms - gaps[n - 1].end_ms)
    joins = {*between[: len(gaps) - most]}
    found = [gaps[0]]
    for number in range(1, len(gaps)):
        one, last = gaps[number], found[-1]
        if number in joins:
            found[-1] = Gap(last.start_ms, one.end_ms, last.blind | one.blind)
        else:
            found.append(one)
    return found


def blind_ones(platform: Platform, rows: Sequence[Watched]) -> set[SourceName]:
    """Which of the sources that such a phone is seen by could not see."""
    bridge = BRIDGE_OF[platform]
    found = set()
    for row in rows:
        if not row.sees.get(bridge, False):
            found.add(bridge)
        if not row.sees.get(SourceName.UDEV, True):
            found.add(SourceName.UDEV)
    return found
