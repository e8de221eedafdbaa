"""Devices known before any source spoke, and which serial each is meant by. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.udid import is_network, listed, serial_key

if TYPE_CHECKING:
    from agent.model import Platform


@dataclass(frozen=True, slots=True)
class Known:
    """A device known before any source spoke: from the store, or listed in the config."""

    udid: str
    platform: Platform | None = None
    """None: only listed in the config, never seen."""
    port: str = ""
    name: str = ""
    model: str = ""
    path: str = ""
    address: str = ""
    serial: str = ""
    shared: bool = False
    ways: str = ""
    serial_read: bool = False
    there: bool = True
    """Whether it had not left when the agent stopped."""
    since_ms: int = 0


def serial_of_known(known: Known) -> tuple[str, bool]:
    """The serial that a known device's UDID holds, and whether another phone has it, too."""
    head, at, place = known.udid.rpartition("@")
    if at and place in {known.port, known.path}:
        if head == "no-serial":
            return known.serial, known.shared  # told late, and by then its UDID had counted
        serial = serial_key(head, known.platform)
        return serial, bool(serial)
    if known.serial or known.platform is None:
        return known.serial or listed_serial(known.udid), known.shared
    if known.udid == known.address or is_network(known.udid) or known.udid.startswith("no-serial@"):
        return "", known.shared
    return serial_key(known.udid, known.platform), known.shared


def listed_serial(udid: str) -> str:
    """The serial that a device listed in the config is meant by; "" for an address."""
    if is_network(udid):
        return ""
    plain = listed(udid)
    return plain if plain != udid.strip() else serial_key(plain, None)
