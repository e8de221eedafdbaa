"""Reports by brute force: every millisecond's state, looked up in all that ever happened."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from agent.history.replay import DOWN, FLAP_MS, STATES, Figures, Place
from agent.history.seen import sees

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.history.seen import Watched
    from agent.model import Platform, Transition


@dataclass
class World:
    """All that ever happened."""

    platforms: Mapping[str, Platform]
    moved: defaultdict[str, list[tuple[int, Transition]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Of each phone, in the order of the ids, with the time at which it counts."""
    watched: list[Watched] = field(default_factory=list)

    def move(self, transition: Transition, floor: int) -> None:
        """One more; it counts at no time before the floor."""
        of = self.moved[transition.udid]
        of.append((max(transition.at_ms, floor, of[-1][0] if of else 0), transition))

    def seen(self, udid: str, host: str, start: int, end: int) -> int:
        """How much of a time somebody saw that phone, if it was at that host."""
        platform = self.platforms[udid]
        looks = [
            (row.start_ms, row.end_ms)
            for row in self.watched
            if row.host == host and sees(platform, row.sees)
        ]
        edges = sorted({start, end, *(at for look in looks for at in look if start < at < end)})
        return sum(
            right - left
            for left, right in pairwise(edges)
            if any(begin <= left and right <= stop for begin, stop in looks)
        )

    def figures(self, since: int, until: int) -> dict[Place, Figures]:
        """Of all phones in that range; see the table in `agent.history.replay`."""
        found: defaultdict[Place, Figures] = defaultdict(Figures)
        for udid, moved in self.moved.items():
            ends = [at for at, _ in moved[1:]] + [until]
            outage: tuple[int, int] | None = None
            place = None
            for (at, each), end in zip(moved, ends, strict=True):
                state = STATES.index(each.state)
                if outage is not None and each.state not in DOWN:
                    if since <= at < until:
                        assert place is not None
                        found[place].repairs += 1
                        found[place].repair_ms += outage[1]
                        found[place].flaps += at - outage[0] < FLAP_MS
                    outage = None
                place = Place(udid, each.host, each.port)
                if since <= at < until:
                    found[place].entered[state] += 1
                    if each.state in DOWN:
                        found[place].reasons.setdefault(each.code, [0, 0])[0] += 1
                if each.state in DOWN:
                    begun, lasted = outage or (at, 0)
                    outage = begun, lasted + self.seen(udid, each.host, at, end)
                start, stop = max(at, since), min(end, until)
                if start < stop:
                    ms = self.seen(udid, each.host, start, stop)
                    found[place].ms[state] += ms
                    found[place].unseen += stop - start - ms
                    if ms and each.state in DOWN:
                        found[place].reasons.setdefault(each.code, [0, 0])[1] += ms
        return {place: each for place, each in found.items() if each != Figures()}
