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


def choose(
    wish: Wish,
    candidates: Iterable[Candidate],
    held: Collection[str],
    used_ms: Mapping[str, int],
) -> str | None:
    """The device to give, None: none now. Of several the one that was used longest ago.

    A device that is asked for by name is given in whatever state it is: its lease begins to
    show when it comes online.

    Args:
        wish: what is asked for.
        candidates: all devices.
        held: those with a lease.
        used_ms: when devices were last given, by UDID.
    """
    free = [
        candidate.udid
        for candidate in candidates
        if wish.fits(candidate) and candidate.udid not in held and (wish.udid or candidate.online)
    ]
    return min(free, key=lambda udid: (used_ms.get(udid, 0), udid), default=None)
