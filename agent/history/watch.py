"""Which times are written down as watched. Pure.

Whoever has the sources looks every `LOOK_EVERY` seconds, and whenever what they see may be
different. A time in which the same sources saw is one `Watched`: its end moves on with each look.
A look says for the time since the last one that it was watched, but not

- where it comes late: the process did not run (SIGSTOP, a frozen cgroup, a starved machine);
- where the wall clock has gone on otherwise than the monotonic one: a suspend, or it was set.

Then the time ends with the look before, and another one begins. So a process that is killed loses
what has passed since its last flush, and nothing is claimed that nobody lived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.history.seen import Watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.model import SourceName

LOOK_EVERY: Final = 5.0
"""Seconds between two looks, at most."""
LATE: Final = 2.0
"""Seconds by which a look may be late on a busy machine."""
JUMP: Final = 1.0
"""Seconds by which the wall clock may go otherwise between two looks: it is slewed, not set."""
MOST: Final = 10_000
"""Times that wait for a store that cannot write; of more the oldest are lost, and so unseen."""


class Sight(NamedTuple):
    """What can be seen of a host's phones now."""

    sees: Mapping[SourceName, bool]
    """Of each source that is turned on; a udev that was never there counts as turned off."""
    silent: float = 0.0
    """Seconds since that was known, of another host."""


@dataclass(slots=True, eq=False)
class Written:
    """A watched time, and where it is stored."""

    host: str
    start_ms: int
    end_ms: int
    sees: dict[SourceName, bool]
    row: int | None = None
    """Of the store; None: it is not there yet."""

    def as_watched(self) -> Watched:
        """As it is to be stored."""
        return Watched(self.host, self.start_ms, self.end_ms, self.sees)


class Looks:
    """What was looked at since the start, as far as it is to be written."""

    def __init__(self) -> None:
        self._open: dict[str, Written] = {}
        self._moved: dict[Written, None] = {}
        """Those that are to be stored, or stored anew."""
        self._taken: dict[Written, None] = {}
        """Those that are being stored."""
        self._wall_ms = 0
        self._now: float | None = None
        """Of the last look."""
        self.urgent = False
        """One has begun or ended: to be stored soon."""

    def begin(
        self, wall_ms: int, now: float, sights: Mapping[str, Sight], since_ms: int, since: float
    ) -> None:
        """The first look, of what was seen since that time, by both clocks.

        Where the wall clock was set meanwhile, as at many a boot, only from now on.
        """
        self.look(wall_ms, now, sights)
        if abs((wall_ms - since_ms) / 1000 - (now - since)) > JUMP:
            return
        for each in self._open.values():
            each.start_ms = min(each.start_ms, since_ms)

    def look(self, wall_ms: int, now: float, sights: Mapping[str, Sight]) -> None:
        """What can be seen now, by host; whoever is missing is not seen."""
        stood_still = self._stood_still(wall_ms, now)
        self._wall_ms, self._now = wall_ms, now
        if stood_still:
            self._close(list(self._open))
        self._close([host for host in self._open if host not in sights])
        for host, sight in sights.items():
            self._see(host, sight, wall_ms)

    def end(self) -> None:
        """Nobody looks any more."""
        self._close(list(self._open))
        self._now = None

    @property
    def looked_ms(self) -> int:
        """When the last look was, by the wall clock."""
        return self._wall_ms

    def unsaved(self) -> list[Watched]:
        """All that may not be stored yet as it is now."""
        there = {*self._open.values(), *self._moved, *self._taken}
        return [each.as_watched() for each in there]

    def take(self) -> list[Written]:
        """Those that are to be stored now, and are not asked for again unless they move."""
        taken, self._moved, self.urgent = list(self._moved), {}, False
        self._taken.update(dict.fromkeys(taken))
        return taken

    def stored(self, taken: Sequence[Written]) -> None:
        """They are."""
        for each in taken:
            self._taken.pop(each, None)

    def put_back(self, taken: Sequence[Written]) -> None:
        """They could not be stored."""
        self.stored(taken)
        waiting = dict.fromkeys(taken) | self._moved
        self._moved = dict.fromkeys(list(waiting)[-MOST:])

    def _stood_still(self, wall_ms: int, now: float) -> bool:
        if self._now is None:
            return False
        passed = now - self._now
        by_wall = (wall_ms - self._wall_ms) / 1000
        return passed > LOOK_EVERY + LATE or abs(by_wall - passed) > JUMP

    def _see(self, host: str, sight: Sight, wall_ms: int) -> None:
        known_ms = wall_ms - round(sight.silent * 1000)
        found = self._open.get(host)
        if found is not None:
            if known_ms > found.end_ms:
                found.end_ms = known_ms
                self._moved.setdefault(found)
            if found.sees == sight.sees:
                return
            self._close([host])
        start = known_ms if found is None else found.end_ms
        made = Written(host, start, max(start, known_ms), dict(sight.sees))
        self._open[host] = made
        self._moved.setdefault(made)
        self.urgent = True

    def _close(self, hosts: Sequence[str]) -> None:
        for host in hosts:
            del self._open[host]
            self.urgent = True
