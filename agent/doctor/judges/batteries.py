"""The phones' batteries: which are hot, low or bad, and what to do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section
from agent.track.battery import BAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import Facts
    from agent.service.devices import BatteryRow, DeviceRow

_BATTERIES = Section("Batteries")
SHOWN = 20
"""Phones with a line of their own."""
_BAD = "take it out of the rack today: look whether it swells, and have its battery replaced"
_HOT = (
    "give it air, or a smaller load; look whether its back swells: if it does, take it out of the "
    "rack at once"
)
_EMPTY = "it is not charged: another cable, port or hub with more power; see dmesg"
_LOW = "it charges: leave it alone for a while; if it stays low under load, a port with more power"


def judge_batteries(facts: Facts) -> Iterator[Finding]:
    """Each phone whose battery is a concern; nothing where no phone tells of any."""
    if not facts.agent.runs:
        return
    known = [(row, row["battery"]) for row in facts.agent.devices if row["battery"] is not None]
    if not known:
        return
    bad = [each for row, battery in known for each in _findings(row, battery)]
    yield from bad[:SHOWN]
    more = f"; {len(bad) - SHOWN} more concerns" if len(bad) > SHOWN else ""
    warm = [t for _, battery in known if (t := battery["temperature"]) is not None]
    full = [n for _, battery in known if (n := battery["level"]) is not None]
    told = ", ".join(
        [
            f"{len(known)} known",
            *([f"the emptiest at {min(full)} %"] if full else []),
            *([f"the warmest at {max(warm):.0f} °C"] if warm else []),
        ]
    )
    yield _BATTERIES.ok("batteries", told + more)


def _findings(row: DeviceRow, battery: BatteryRow) -> Iterator[Finding]:
    name = row["name"]
    where = f" at {row['port']}" if row["port"] else ""
    udid = f" ({row['udid']}{where})" if name != row["udid"] else where
    if battery["health"] in BAD:
        yield _BATTERIES.warn(name, f"its battery is bad{udid}: {battery['health']}", _BAD)
    if battery["hot"]:
        warm = battery["temperature"]
        degrees = "by its own word" if warm is None else f"{warm:.0f} °C"
        yield _BATTERIES.warn(name, f"its battery is too hot{udid}: {degrees}", _HOT)
    if battery["low"]:
        charged = battery["charging"]
        how = {True: ", and is charged", False: ", and is not charged", None: ""}[charged]
        yield _BATTERIES.warn(
            name,
            f"its battery is low{udid}: {battery['level']} %{how}",
            _LOW if charged else _EMPTY,
        )
