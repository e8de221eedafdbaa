"""Transitions and watched times come to figures: how long each phone was in which state. Pure.

Transitions are taken in the order of their ids, and a phone's time never runs backwards: each
counts at its own time, or at that of the one before where that is later (the wall clock was set
back).
What is counted, of a range [since, until):

    figure        is
    ms            milliseconds in each state, as far as somebody could see the phone
    unseen        those in which nobody could; they are in no other figure
    entered       transitions into that state, seen as they happen or found later
    repairs       outages that ended in the range: from the transition that took a phone out of
                  `online` or `utilizing` to the one that brought it back, whatever it was between
    repair_ms     the milliseconds of those outages that were seen, those before the range too
    flaps         of them, those that lasted less than `FLAP_MS`, seen or not
    reasons       of `offline` and `unplugged`, by their codes: how often, and milliseconds seen

All of it belongs to the host and the port that the phone was at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.model import DeviceState, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.history.seen import Watch
    from agent.model import Transition

FLAP_MS: Final = 60_000
"""An outage shorter than that is a flap."""
STATES: Final = (
    DeviceState.ONLINE,
    DeviceState.UTILIZING,
    DeviceState.OFFLINE,
    DeviceState.UNPLUGGED,
)
DOWN: Final = frozenset({DeviceState.OFFLINE, DeviceState.UNPLUGGED})


@dataclass(slots=True)
class Standing:
    """Where one phone stands: what its transitions have come to."""

    at: int
    """When its last one counts."""
    state: DeviceState
    code: str = ""
    host: str = ""
    port: str = ""
    down_at: int | None = None
    """When its outage began; None: it has none."""
    down_ms: int = 0
    """How much of that was seen, up to what has been counted."""


class Place(NamedTuple):
    """Whose figures."""

    udid: str
    host: str
    port: str


@dataclass(slots=True)
class Figures:
    """See the table above."""

    ms: list[int] = field(default_factory=lambda: [0] * len(STATES))
    unseen: int = 0
    entered: list[int] = field(default_factory=lambda: [0] * len(STATES))
    repairs: int = 0
    repair_ms: int = 0
    flaps: int = 0
    reasons: dict[str, list[int]] = field(default_factory=dict)
    """Code → how often, and milliseconds."""

    def add(self, other: Figures) -> None:
        """Those of another time, or of another place."""
        for number in range(len(STATES)):
            self.ms[number] += other.ms[number]
            self.entered[number] += other.entered[number]
        self.unseen += other.unseen
        self.repairs += other.repairs
        self.repair_ms += other.repair_ms
        self.flaps += other.flaps
        for code, (count, ms) in other.reasons.items():
            mine = self.reasons.setdefault(code, [0, 0])
            mine[0] += count
            mine[1] += ms


class Replay:
    """Takes transitions in order, and counts.

    What it goes on from was reckoned up to `begin` of what was stored up to the id `through`. Of
    each phone that has all transitions before the first that was stamped `begin` or later; one that
    was stored behind it and stamped before, because the clock was set back, counts at `begin`.

    Args:
        through: see above.
        standing: of each phone at the time `begin`; changed in place.
        watch: who was seen when, from `begin` on.
        platforms: of each phone.
        begin: see above.
        since: from when on it is counted here, which is `begin` or later.
        until: up to when.
    """

    def __init__(
        self,
        through: int,
        standing: dict[str, Standing],
        watch: Watch,
        platforms: Mapping[str, Platform],
        begin: int,
        since: int,
        until: int,
    ) -> None:
        self.standing = standing
        self.beyond = 0
        """Id of the first one that was stamped `until` or later; 0: none was taken."""
        self._through = through
        self.figures: dict[Place, Figures] = {}
        self._watch = watch
        self._platforms = platforms
        self._begin = begin
        self._since = since
        self._until = until
        self._counted = dict.fromkeys(standing, begin)
        """Up to when, of each phone."""
        self._over: set[str] = set()
        """Phones whose next transition is beyond the range."""
        self._begun: set[str] = set()
        """Phones of which all that comes is to be counted."""

    def take(self, id_: int, transition: Transition) -> None:
        """The next one; that may be any from the first on that was stamped `begin` or later."""
        if transition.at_ms >= self._until and not self.beyond:
            self.beyond = id_
        at = self._counts_at(id_, transition)
        if at is None:
            return
        udid, state = transition.udid, transition.state
        standing = self.standing.get(udid)
        down_before = False
        if standing is None:
            standing = self.standing[udid] = Standing(at, state)
            self._counted[udid] = at
        else:
            self._count(udid, standing, at)
            down_before = standing.state in DOWN
        counts = at >= self._since
        if counts and down_before and state not in DOWN:
            # To the port at which it was out, and not to that at which it came back.
            self._repaired(self._of(udid, standing), standing, at)
        standing.at, standing.state = at, state
        standing.code, standing.host, standing.port = (
            transition.code,
            transition.host,
            transition.port,
        )
        if state not in DOWN:
            standing.down_at, standing.down_ms = None, 0
        elif not down_before:
            standing.down_at, standing.down_ms = at, 0
        if counts:
            figures = self._of(udid, standing)
            figures.entered[STATES.index(state)] += 1
            if state in DOWN:
                figures.reasons.setdefault(transition.code, [0, 0])[0] += 1

    def _counts_at(self, id_: int, transition: Transition) -> int | None:
        """When it counts; None: not in this range."""
        udid, stamped = transition.udid, transition.at_ms
        if udid in self._over:
            return None
        if udid not in self._begun:
            if stamped < self._begin and id_ <= self._through:
                return None
            self._begun.add(udid)
        before = self.standing.get(udid)
        at = max(self._begin, stamped, self._begin if before is None else before.at)
        if at >= self._until:
            self._over.add(udid)
            return None
        return at

    def close(self) -> None:
        """There are no more: each phone stays as it is to the end of the range."""
        for udid, standing in self.standing.items():
            self._count(udid, standing, self._until)

    def _repaired(self, figures: Figures, standing: Standing, at: int) -> None:
        figures.repairs += 1
        figures.repair_ms += standing.down_ms
        figures.flaps += standing.down_at is not None and at - standing.down_at < FLAP_MS

    def _of(self, udid: str, standing: Standing) -> Figures:
        place = Place(udid, standing.host, standing.port)
        if (found := self.figures.get(place)) is None:
            found = self.figures[place] = Figures()
        return found

    def _count(self, udid: str, standing: Standing, until: int) -> None:
        """It stayed as it is up to then."""
        start = self._counted[udid]
        if start >= until:
            return
        self._counted[udid] = until
        platform = self._platforms.get(udid, Platform.ANDROID)
        seen = self._watch.seen(platform, standing.host)
        down = standing.state in DOWN
        if down:
            standing.down_ms += seen.within(start, until)
        start = max(start, self._since)
        if start >= until:
            return
        ms = seen.within(start, until)
        figures = self._of(udid, standing)
        figures.ms[STATES.index(standing.state)] += ms
        figures.unseen += until - start - ms
        if down and ms:
            figures.reasons.setdefault(standing.code, [0, 0])[1] += ms
