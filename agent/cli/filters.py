"""Which devices a command shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.udid import alike

if TYPE_CHECKING:
    from agent.service.devices import DeviceRow, TransitionRow


@dataclass(frozen=True, slots=True)
class Filters:
    """Which devices are shown: those that fit one of each kind that is named."""

    named: tuple[str, ...] = ()
    """UDIDs and names; letter case and a UDID's dashes do not matter."""
    states: tuple[str, ...] = ()
    platform: str | None = None
    tags: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    """Of a fleet's devices."""

    def fit(self, row: DeviceRow | TransitionRow, *states: str | None) -> bool:
        """Whether that row, or that transition between those states, is to be shown."""
        return (
            (not self.states or any(state in self.states for state in states))
            and (self.platform is None or row["platform"] == self.platform)
            and (not self.hosts or row["host"] in self.hosts)
            and (not self.tags or not set(self.tags).isdisjoint(row["tags"]))
            and (not self.named or any(_is_called(row, text) for text in self.named))
        )

    def rows(self, rows: list[DeviceRow]) -> list[DeviceRow]:
        """Those that are to be shown; who writes a UDID as it is means no other one."""
        udids = {row["udid"] for row in rows}
        exact = udids.intersection(self.named)
        meant = {alike(udid) for udid in exact}
        return [
            row
            for row in rows
            if self.fit(row, row["state"])
            and (row["udid"] in exact or alike(row["udid"]) not in meant)
        ]


def _is_called(row: DeviceRow | TransitionRow, text: str) -> bool:
    if row["name"].casefold() == text.casefold():
        return True
    serial = row["udid"].rpartition("@")[0]  # of a twin: its serial means both of them
    return alike(text) in {alike(row["udid"]), alike(serial)}
