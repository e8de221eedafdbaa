"""Who gets which device, and whose turn it is. Pure: no await, no clock, no I/O.

Who waits is served strictly in the order of asking, among those whom the device fits. Who waits may
be cancelled, time out or be turned away in the very turn of the loop in which a device becomes
free. So it is only *kept* for them at first, and is theirs when they take it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.model import Platform

MAX_WAITING = 1000
"""Requests in the queue."""


class Candidate(NamedTuple):
    """A device that may be given."""

    udid: str
    platform: Platform | None
    tags: tuple[str, ...]
    online: bool
    """Plugged in, reachable, and used by nobody."""
    tired: bool = False
    """Its battery is hot, low or bad: others are given first."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for: one device by its UDID, or any that fits and is online."""

    udid: str = ""
    platform: Platform | None = None
    tags: tuple[str, ...] = ()
    """All of them."""

    def fits(self, candidate: Candidate) -> bool:
        """Whether that device is one of those meant, whoever has it now."""
        if self.udid:
            return candidate.udid == self.udid
        return (self.platform is None or candidate.platform is self.platform) and set(
            self.tags
        ) <= set(candidate.tags)

    def __str__(self) -> str:
        if self.udid:
            return self.udid
        words = [str(self.platform)] if self.platform else []
        return "any device" + "".join(f" {word}" for word in (*words, *self.tags))


class Offer:
    """Free devices that are given, one after the other, to those who wait for them.

    Linear in both: whoever wishes the same looks at what the first of them has sorted out.

    Args:
        free: devices that nobody has.
        used_ms: when devices were last given, by UDID.
    """

    def __init__(self, free: Iterable[Candidate], used_ms: Mapping[str, int]) -> None:
        self._free = {candidate.udid: candidate for candidate in free}
        self._used_ms = used_ms
        self._fitting: dict[Wish, list[str]] = {}
        """The next one to be given is the last."""

    def __bool__(self) -> bool:
        """Whether there is anything to give."""
        return bool(self._free)

    def take(self, wish: Wish) -> str | None:
        """The device to give, None: none. Of several the one that was used longest ago.

        Those that are tired come last.
        A device that is asked for by name is given in whatever state it is: its lease begins to
        show when it comes online.
        """
        if wish.udid:
            return wish.udid if self._free.pop(wish.udid, None) else None
        fitting = self._fitting.get(wish)
        if fitting is None:
            fitting = self._fitting[wish] = sorted(
                (each.udid for each in self._free.values() if each.online and wish.fits(each)),
                key=lambda udid: (self._free[udid].tired, self._used_ms.get(udid, 0), udid),
                reverse=True,
            )
        while fitting:
            udid = fitting.pop()
            if self._free.pop(udid, None):
                return udid
        return None


def choose(
    wish: Wish,
    candidates: Iterable[Candidate],
    held: Collection[str],
    used_ms: Mapping[str, int],
) -> str | None:
    """The device to give to one alone, None: none now; see `Offer`.

    Args:
        wish: what is asked for.
        candidates: all devices.
        held: those with a lease.
        used_ms: when devices were last given, by UDID.
    """
    return Offer((each for each in candidates if each.udid not in held), used_ms).take(wish)


@dataclass(eq=False, slots=True)
class Waiting:
    """One who waits."""

    wish: Wish
    given: str = ""
    """The device that is kept for them until they take it."""
    off: bool = False
    """Turned away: there is nothing to wait for any more."""

    @property
    def over(self) -> bool:
        """Whether they need not wait any longer."""
        return self.off or bool(self.given)


class LeaseQueue:
    """Who waits, in the order of asking, and the devices that are kept for them."""

    def __init__(self) -> None:
        self._waiting: dict[Waiting, None] = {}
        self._kept: dict[str, Waiting] = {}

    def __len__(self) -> int:
        """Who waits, or has not taken yet what is kept for them."""
        return len(self._waiting)

    @property
    def kept(self) -> Collection[str]:
        """Devices that were given to who waited, and are not taken yet."""
        return self._kept.keys()

    @property
    def named(self) -> set[str]:
        """Devices that are waited for by their UDID."""
        return {waiting.wish.udid for waiting in self._waiting} - {""}

    def join(self, wish: Wish) -> Waiting:
        """Wait behind all others.

        Raises:
            QueueFullError: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} requests wait for devices already")
        waiting = Waiting(wish)
        self._waiting[waiting] = None
        return waiting

    def leave(self, waiting: Waiting) -> str:
        """Wait no more; returns the device that was kept for them, "" for none.

        It is theirs if they take it in this very moment, and free else.
        """
        del self._waiting[waiting]
        if waiting.given:
            del self._kept[waiting.given]
        return waiting.given

    def withdraw(self, udid: str) -> None:
        """Somebody else has the device: for whom it was kept goes on waiting, in their place."""
        waiting = self._kept.pop(udid, None)
        if waiting is not None:
            waiting.given = ""

    def turn_away(self) -> list[Waiting]:
        """Nobody is given anything any more; returns whom to tell."""
        self._kept.clear()
        for waiting in self._waiting:
            waiting.given, waiting.off = "", True
        return list(self._waiting)

    def serve(self, free: Iterable[Candidate], used_ms: Mapping[str, int]) -> list[Waiting]:
        """Keep these devices, which nobody has, for who waits; returns whom to tell."""
        offer = Offer(free, used_ms)
        served = []
        for waiting in self._waiting:
            if not offer:
                break
            if waiting.over:
                continue
            udid = offer.take(waiting.wish)
            if udid is not None:
                waiting.given = udid
                self._kept[udid] = waiting
                served.append(waiting)
        return served

    def rename(self, old: str, new: str, *, leased: bool) -> None:
        """A device has another UDID; leased: somebody has it."""
        for waiting in self._waiting:
            if waiting.wish.udid == old:
                waiting.wish = replace(waiting.wish, udid=new)
        kept = self._kept.pop(old, None)
        if kept is not None:
            kept.given = "" if leased or new in self._kept else new
            if kept.given:
                self._kept[new] = kept
        if leased:
            self.withdraw(new)
