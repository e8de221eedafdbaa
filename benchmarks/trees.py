"""Racks as they are built: at which ports phones hang."""

from __future__ import annotations

from itertools import product

PCI = ("0000:00:14.0", "0000:03:00.0", "0000:04:00.0", "0000:05:00.0")
"""Controllers: a bus each."""


def towers(hubs: int = 5) -> list[str]:
    """Of each controller five hubs of 10 ports, whose two chips number them 1 to 3, 4.1 to 4.7.

    200 phones.
    """
    slots = ["1", "2", "3", *(f"4.{n}" for n in range(1, 8))]
    numbered = product(range(1, len(PCI) + 1), range(1, hubs + 1), slots)
    return [f"{bus}-{hub}.{slot}" for bus, hub, slot in numbered]


def racks(hubs: int = 3) -> list[str]:
    """Of each controller hubs of 16 ports: four chips of four behind one. 192 phones."""
    numbered = product(range(1, len(PCI) + 1), range(1, hubs + 1), range(1, 5), range(1, 5))
    return [f"{bus}-{hub}.{chip}.{slot}" for bus, hub, chip, slot in numbered]


def controller(port: str) -> str:
    """On which one it is."""
    return PCI[int(port.partition("-")[0]) - 1]
