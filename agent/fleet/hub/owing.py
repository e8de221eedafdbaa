"""Of which devices something is owed to webhooks, and which of them are to be looked at now. Pure.

What is owed stands in `agent.track.waits`. A wait ends at a time (seen time); a silence may have
ended with any heartbeat, and so may what else keeps something back: a host that has yet to say that
its phone is as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.track.wakes import Wakes

if TYPE_CHECKING:
    from agent.track.waits import Owed

SHIFT_MS: Final = 3_000
"""Milliseconds between the wall clock and the time that was seen that are no news: heartbeats take
their time."""


class Owing:
    """Who is next."""

    def __init__(self, seen: float, now_ms: int) -> None:
        self._wakes = Wakes()
        self._held: set[str] = set()
        """To be looked at with every heartbeat."""
        self._due: dict[str, None] = {}
        self._ahead_ms = now_ms - round(seen * 1000)

    def __contains__(self, key: str) -> bool:
        """Whether something is kept back of it by more than time alone."""
        return key in self._held

    def note(self, key: str, owed: Owed, at: float | None) -> None:
        """What is owed of a device now, and when it is due; None: that is not known yet."""
        self._wakes.wake(key, at)
        if owed.debt is not None or (owed.by and owed.since is None):
            self._held.add(key)
        else:
            self._held.discard(key)

    def hold(self, key: str) -> None:
        """It is due, and cannot be told now."""
        self._held.add(key)

    def look_at(self, key: str) -> None:
        """As soon as there is time."""
        self._due[key] = None

    def tick(self, seen: float, now_ms: int) -> int:
        """So it is now; by how many milliseconds the wall clock has left that time. 0: it has not.

        Somebody set it, or the hub was blind for a time.
        """
        self._due |= dict.fromkeys(sorted(self._held | self._wakes.take(seen)))
        shift = now_ms - round(seen * 1000) - self._ahead_ms
        if abs(shift) <= SHIFT_MS:
            return 0
        self._ahead_ms += shift
        return shift

    def next(self) -> str | None:
        """To be looked at now."""
        if not self._due:
            return None
        key = next(iter(self._due))
        del self._due[key]
        return key

    @property
    def has_next(self) -> bool:
        """Whether there is one."""
        return bool(self._due)
