"""Figures of phones put together as somebody wants to see them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.history.replay import STATES, Figures, Place
from agent.model import DeviceState
from agent.udid import hub_above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_ONLINE, _UTILIZING, _OFFLINE, _UNPLUGGED = (
    STATES.index(state)
    for state in (
        DeviceState.ONLINE,
        DeviceState.UTILIZING,
        DeviceState.OFFLINE,
        DeviceState.UNPLUGGED,
    )
)
NOWHERE: Final = ""


@dataclass(slots=True)
class Group:
    """Figures of some phones."""

    udids: set[str] = field(default_factory=set)
    figures: Figures = field(default_factory=Figures)

    @property
    def seen_ms(self) -> int:
        """Time in which somebody could see them."""
        return sum(self.figures.ms)

    @property
    def online_ms(self) -> int:
        """Of that, in `online`."""
        return self.figures.ms[_ONLINE]

    @property
    def utilizing_ms(self) -> int:
        """Of that, in `utilizing`."""
        return self.figures.ms[_UTILIZING]

    @property
    def offline_ms(self) -> int:
        """Of that, in `offline`."""
        return self.figures.ms[_OFFLINE]

    @property
    def unplugged_ms(self) -> int:
        """Of that, in `unplugged`."""
        return self.figures.ms[_UNPLUGGED]

    @property
    def offline_count(self) -> int:
        """Transitions to `offline`."""
        return self.figures.entered[_OFFLINE]

    @property
    def unplugged_count(self) -> int:
        """Transitions to `unplugged`."""
        return self.figures.entered[_UNPLUGGED]

    @property
    def availability(self) -> float | None:
        """Which part of the seen time they could be used, or were; None: they were not seen."""
        return (self.online_ms + self.utilizing_ms) / self.seen_ms if self.seen_ms else None

    @property
    def utilization(self) -> float | None:
        """Which part of that they were used; None: it was none."""
        there = self.online_ms + self.utilizing_ms
        return self.utilizing_ms / there if there else None

    @property
    def repair_ms_mean(self) -> int | None:
        """How long their outages took, as far as they were seen; None: none ended."""
        done = self.figures.repairs
        return round(self.figures.repair_ms / done) if done else None


def grouped(
    figures: Mapping[Place, Figures], keys: Callable[[Place], Iterable[str]]
) -> tuple[dict[str, Group], Group]:
    """The figures by each of the keys of their places, in order of the keys, and all together."""
    found: dict[str, Group] = {}
    total = Group()
    for place, each in figures.items():
        for group in (total, *(found.setdefault(key, Group()) for key in keys(place))):
            group.udids.add(place.udid)
            group.figures.add(each)
    return dict(sorted(found.items())), total


def hub_of(host: str, port: str) -> str:
    """What names the hub that a port belongs to, `rack-3/1-4`; "": at no port that is known."""
    if not port:
        return NOWHERE
    hub = hub_above(port) if "-" in port else port
    return f"{host}/{hub}" if host else hub


def ranked(reasons: Mapping[str, Sequence[int]]) -> list[tuple[str, int, int]]:
    """Codes with how often and how long, what took the most time first."""
    rows = [(code, count, ms) for code, (count, ms) in reasons.items()]
    return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))
