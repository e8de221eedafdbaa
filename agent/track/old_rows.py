"""Which rows of adb's list are old: of a phone that hung at that port once. Pure.

adb goes on listing a phone that left, now and then for as long as it runs. What udev sees says so
at once (`Sightings.leave_over`); here is looked at rows that are new in the list, as all are after
a start: what hangs where is then known from the store alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import SourceName, UsbKind
from agent.track.devices import lasting_place
from agent.track.joining import MUTE_MODES
from agent.track.sightings import tells_serial

if TYPE_CHECKING:
    from agent.track.devices import Devices
    from agent.track.joining import Key
    from agent.track.sightings import Sightings


class OldRows:
    """Looks; changes nothing.

    Args:
        devices: who is known.
        sightings: what is seen.
    """

    def __init__(self, devices: Devices, sightings: Sightings) -> None:
        self._devices = devices
        self._sightings = sightings

    def is_elsewhere(self, key: Key) -> bool:
        """Whether it is a row of a phone that udev sees, but at other ports.

        Both read the serial in the same place: were it there, udev would tell it at that port.
        """
        port, serial = self._where(key)
        ports = self._on_udev(serial) if port and serial else set()
        return bool(ports) and port not in ports

    def had_left(self, key: Key) -> bool:
        """Whether, by the store, its phone is at that port no more, and udev does not see it there.

        It was gone when the agent stopped, or in a mute mode at another port and is it still; or
        udev saw somebody else there last.
        """
        port, serial = self._where(key)
        if not port or not serial or port in self._on_udev(serial):
            return False
        place, ports = self.place(key), self._devices.ports
        holder = self._devices.get(ports.last(place))
        if holder is not None and holder.by_ways(SourceName.UDEV) and holder.facts.serial != serial:
            return True
        if self._devices.had_left(serial, place):
            return True
        mine = {udid: ports.of(udid) for udid in self._devices.of_serial(serial)}
        held = [at for udid, at in mine.items() if ports.last(at) == udid]
        return place not in held and any(self._is_mute_at(at) for at in held)

    def is_unread(self, key: Key) -> bool:
        """Whether udev, which has read that serial, sees a phone at its port that has none.

        For when udev has its first word, or is back: what it sees come is another phone anyhow.
        """
        port, serial = self._where(key)
        if not port or not serial or not self._is_nameless_at(port):
            return False
        known = (self._devices[udid].facts for udid in self._devices.of_serial(serial))
        return any(facts.serial_read for facts in known)

    def holds(self, key: Key) -> bool:
        """Whether its phone is the one that hung last at its port."""
        last = self._devices.ports.last(self.place(key))
        owner = self._devices.owner.get(key)
        if last is None or owner is not None:
            return last is not None and last == owner
        return self._devices[last].facts.serial == self._sightings.serial(key)

    def may_be(self, key: Key) -> str | None:
        """Who it may be for its port alone: whoever was there last, if its mode is a mute one."""
        mute = self._sightings[key].usb in MUTE_MODES
        return self._devices.ports.last(self.place(key)) if mute else None

    def place(self, key: Key) -> str:
        """What its port is remembered by."""
        port = self._sightings.port_of(self._sightings[key])
        return lasting_place(self._sightings.path(port), port)

    def _where(self, key: Key) -> tuple[str, str]:
        """The port and the serial of a row; "" for what is none."""
        if key[0] is SourceName.UDEV or (sighting := self._sightings.get(key)) is None:
            return "", ""
        return self._sightings.port_of(sighting), self._sightings.serial(key)

    def _on_udev(self, serial: str) -> set[str]:
        """Where udev sees phones of that serial; a thing makes no clash."""
        alike = (key for key in self._sightings.with_serial(serial) if key[0] is SourceName.UDEV)
        seen = (self._sightings[key] for key in alike)
        return {sighting.port for sighting in seen if sighting.usb is not UsbKind.OTHER}

    def _is_nameless_at(self, port: str) -> bool:
        """Whether udev sees there what would tell its serial, and does not."""
        keys = self._sightings.at_port(port)
        bare = (self._sightings[key] for key in keys if not self._sightings.serial(key))
        return any(tells_serial(sighting) for sighting in bare)

    def _is_mute_at(self, place: str) -> bool:
        """Whether what udev sees there is in a mode that does not say who it is."""
        port = self._sightings.port_at(place, place.removeprefix("port "))
        seen = (self._sightings[key] for key in self._sightings.at_port(port))
        return any(sighting.usb in MUTE_MODES for sighting in seen)
