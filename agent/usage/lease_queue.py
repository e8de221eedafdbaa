"""Who gets which device. Pure: no await, no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.model import Platform


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that may be given."""

    udid: str
    platform: Platform | None
    tags: tuple[str, ...]
    online: bool
    """Plugged in, reachable, and used by nobody."""


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

        A device that is asked for by name is given in whatever state it is: its lease begins to
        show when it comes online.
        """
        if wish.udid:
            return wish.udid if self._free.pop(wish.udid, None) else None
        fitting = self._fitting.get(wish)
        if fitting is None:
            fitting = self._fitting[wish] = sorted(
                (each.udid for each in self._free.values() if each.online and wish.fits(each)),
                key=lambda udid: (self._used_ms.get(udid, 0), udid),
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
