"""Who was where last: at a USB port, at a network address. Pure.

A place's memory is true in time: whoever was seen elsewhere since is not there any more, and
whoever was there before the last one is not the last one.
"""

from __future__ import annotations

from collections import defaultdict


class Places:
    """Devices and the last place of each."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._at: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._last: dict[str, str] = {}

    def put(self, udid: str, place: str) -> None:
        """It is there now."""
        if self._last.get(place) == udid and self._of.get(udid) == place:
            return
        self._move(udid, place)
        self._last[place] = udid

    def recall(self, udid: str, place: str, *, there: bool) -> None:
        """It was there before the agent's start; to be told in the order of time.

        One that had left by then is known by its place when it is back, and holds nothing.
        """
        self._move(udid, place)
        if there:
            self._last[place] = udid

    def forget(self, udid: str) -> None:
        """It is known no more."""
        place = self._of.pop(udid, None)
        if place is not None:
            self._at[place].pop(udid, None)

    def rename(self, old: str, new: str) -> None:
        """It goes by another name."""
        place = self._of.get(old)
        if place is not None:
            held = self._last.get(place) == old
            self.forget(old)
            self.recall(new, place, there=held)

    def of(self, udid: str) -> str:
        """The last place of that device; "" where none is known."""
        return self._of.get(udid, "")

    def at(self, place: str) -> list[str]:
        """The devices whose last place that is: who was there last, then the newest first."""
        mine = list(reversed(self._at.get(place, {})))
        last = self.last(place)
        return mine if last is None else [last, *(udid for udid in mine if udid != last)]

    def last(self, place: str) -> str | None:
        """Who was there last, if it was nowhere else since."""
        udid = self._last.get(place)
        return udid if udid is not None and self._of.get(udid) == place else None

    def _move(self, udid: str, place: str) -> None:
        self.forget(udid)
        self._of[udid] = place
        self._at[place][udid] = None
