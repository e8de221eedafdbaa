"""At which USB port of this host a device hangs, or hung last. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.model import BRIDGE_OF, SourceName
from agent.udid import is_off_usb

if TYPE_CHECKING:
    from agent.track.devices import Identity
    from agent.track.sightings import Sightings
    from agent.track.source_states import SourceStates


class Where(NamedTuple):
    """Where one device is."""

    port: str = ""
    """As this host's kernel names it now, `1-4.2`; "": at no port of this host that is known."""
    path: str = ""
    """The port's name that outlives reboots, where udev told it."""
    seen: bool = False
    """A source sees it there now. Else it hung there when it was last seen."""


def where(device: Identity, sources: SourceStates, sightings: Sightings) -> Where:
    """The word of udev goes first. Another host's port is none of this one."""
    facts = device.facts
    by_udev = device.by_udev
    for sighting in (*(() if by_udev is None else (by_udev,)), *device.by_bridge):
        if port := sightings.port_of(sighting):
            return Where(port, sightings.path(port), seen=True)
    if _elsewhere(device, sources):
        return Where()
    return Where(sightings.port_at(facts.path, facts.port), facts.path)


def _elsewhere(device: Identity, sources: SourceStates) -> bool:
    """Whether it is, or was when it was last seen, at no port of this host."""
    if device.members:
        return all(
            each.network or each.source in sources.remote or is_off_usb(each.serial)
            for each in device.members.values()
        )
    facts = device.facts
    if facts.path or SourceName.UDEV in facts.ways.split():
        return False
    return facts.platform is None or BRIDGE_OF[facts.platform] in sources.remote
