"""Whose a sighting is where there is no doubt: the short way for a rack that comes back. Pure.

Most phones are the only one of their serial, are known by it for good, and are seen by udev and
their bridge at one port at most. Then `joining` makes one group of what is seen and `naming` gives
it that device, whatever else is there; and what is decided of others does not hang on it. To find
that out takes a fraction of the time. In every other case nothing is said here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.model import SourceName, UsbKind
from agent.track.devices import lasting_place
from agent.track.joining import MUTE_MODES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.model import Platform
    from agent.track.devices import Devices, Identity
    from agent.track.joining import Key
    from agent.track.sightings import Sightings

_ODD = MUTE_MODES | {UsbKind.OTHER}
"""Modes in which a USB device does not say which phone it is, or that it is one."""


@dataclass(frozen=True, slots=True)
class Home:
    """The device that a group of sightings is, and what the group says of where it is."""

    udid: str = ""
    serial: str = ""
    port: str = ""
    """On this host's USB; "" where that is not sure."""
    on_udev: bool = False
    """Whether udev sees it."""


class Sure:
    """Looks; changes nothing.

    Args:
        devices: who is known.
        sightings: what is seen.
    """

    def __init__(self, devices: Devices, sightings: Sightings) -> None:
        self._devices = devices
        self._sightings = sightings

    def split(
        self, keys: Iterable[Key], aside: Collection[Key]
    ) -> tuple[dict[Key, Home], list[list[Key]], set[Key]]:
        """Whose these are, those of each new phone, and the ones that are in doubt.

        With a sighting that is not in doubt come all that are of the same phone.
        """
        homes: dict[Key, Home] = {}
        new: list[list[Key]] = []
        doubtful: set[Key] = set()
        done: set[Key] = set()
        for key in keys:
            if key in done or key not in self._sightings:
                continue
            found = self.alone(key, aside)
            if found is None:
                doubtful.add(key)
                continue
            mine, home = found
            done.update(mine)
            if home.udid:
                homes.update(dict.fromkeys(mine, home))
            else:
                new.append(mine)
        return homes, new, doubtful

    def alone(self, key: Key, aside: Collection[Key]) -> tuple[list[Key], Home] | None:
        """All sightings of one phone, and whose they are; no UDID: of one that nobody knows.

        Args:
            key: of one of them.
            aside: sightings that were nobody's when udev last saw.
        """
        serial = self._sightings.serial(key)
        if not serial or serial in self._devices.shared:
            return None
        mine = self._sightings.with_serial(serial)
        platform: Platform | None = None
        match self._devices.of_serial(serial):
            case []:
                udid = ""
            case [udid] if self._is_sure(self._devices[udid], mine):
                platform = self._devices[udid].facts.platform
            case _:
                return None
        for each in mine:
            sighting = self._sightings[each]
            odd = sighting.network or sighting.usb in _ODD
            if odd or each in aside or self._is_old(each, udid):
                return None
            if platform is not None and sighting.platform not in {None, platform}:
                return None
            if self._devices.owner.get(each, udid) != udid:
                return None
        return self._at_one_port(mine, udid, serial)

    def _is_sure(self, device: Identity, mine: Collection[Key]) -> bool:
        """Whether its UDID is its for good, and not for its address, and nothing else is of it."""
        facts = device.facts
        own = device.counted and not facts.shared_serial and facts.address != facts.udid
        return own and all(key in mine for key in device.members)

    def _is_old(self, key: Key, udid: str) -> bool:
        """Whether it is an old row, and not that of the very phone that hung last at its port."""
        if not self._sightings.is_left_over(key):
            return False
        port = self._sightings.port_of(self._sightings[key])
        place = lasting_place(self._sightings.path(port), port)
        return self._devices.owner.get(key) != udid or self._devices.ports.last(place) != udid

    def _at_one_port(
        self, mine: Collection[Key], udid: str, serial: str
    ) -> tuple[list[Key], Home] | None:
        """One sighting, or udev's and another one there, or one that tells no port.

        None: they are more, or elsewhere, or something else hangs there.
        """
        first, *others = sorted(mine, key=_not_udevs)
        port, on_udev = self._sightings.port_of(self._sightings[first]), not _not_udevs(first)
        here = 1
        for other in others:
            theirs = self._sightings.port_of(self._sightings[other])
            paired = on_udev and _not_udevs(other) and len(others) == 1
            if not (paired and port and theirs in {"", port}):
                return None
            here += theirs == port
        if port and len(self._sightings.at_port(port)) != here:
            return None
        return [first, *others], Home(udid, serial, port, on_udev)


def _not_udevs(key: Key) -> bool:
    return key[0] is not SourceName.UDEV
