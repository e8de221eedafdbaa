"""All USB devices of this host: what messages and looks into sysfs make of them together.

What nobody told is found out by one listing of the bus, held against what is known: a cable pulled
while a killed udevd was not yet back, a `remove` that somebody made up (udevadm trigger), a device
authorized later. A link's inode number is new whenever its device is, so the listing alone says
what came, went or was replaced, interfaces included; only that is read. Measured at 1,000 phones of
two interfaces each: 4 ms in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.model import Changed, Gone, SourceName
from agent.sources.usb_reading import Reading, fill, glance, reading_of
from agent.wire.udev import Database
from agent.wire.usb_sysfs import Marks, marks

if TYPE_CHECKING:
    from agent.model import Sighting
    from agent.wire.udev import UdevDevice

log = structlog.get_logger(__name__)


class Message(NamedTuple):
    """What udevd said of one device, or what was found out by a `look`."""

    action: str
    address: str
    reading: Reading | None
    """None for a `remove`."""


def message_of(device: UdevDevice) -> Message | None:
    """None for what says nothing new: `unbind`, `online`, `offline`, `move`.

    Raises ValueError where a property is no UTF-8.
    """
    match device.action:
        case "remove":
            return Message("remove", device.path, None)
        case "add" | "bind" | "change" as action:
            return Message(action, device.path, reading_of(device.path, device.properties))
    return None


class Devices:
    """What is known of every USB device by now, by address. Pure."""

    def __init__(self, found: dict[str, Reading]) -> None:
        self._known = found

    @property
    def known(self) -> dict[str, Reading]:
        """A copy: the latest reading of each, by address."""
        return dict(self._known)

    def sightings(self) -> tuple[Sighting, ...]:
        """All that concern us, in the order of their addresses."""
        every = (self._known[address].sighting for address in sorted(self._known))
        return tuple(sighting for sighting in every if sighting is not None)

    def holds(self, reading: Reading) -> bool:
        """Is this very reading the latest of its device?"""
        return self._known.get(reading.address) is reading

    def missing(self, address: str) -> Reading | None:
        """The latest reading of that device, if something is missing in it."""
        reading = self._known.get(address)
        return None if reading is None or reading.complete else reading

    def take(self, message: Message) -> Changed | Gone | None:
        """Learn it; returns what it changes for others."""
        known, new = self._known.get(message.address), message.reading
        if new is None:
            self._known.pop(message.address, None)
        elif message.action == "look" and known is not None:
            self._known[message.address] = new = known.with_news(new)
        elif message.action not in {"add", "look"} and known and not _betters(new, known):
            return None
        else:
            self._known[message.address] = new
        before = known.sighting if known is not None else None
        after = new.sighting if new is not None else None
        if after is not None:
            return Changed(after) if after != before else None
        return Gone(SourceName.UDEV, message.address) if before is not None else None


def _betters(new: Reading, known: Reading) -> bool:
    """Whether a `bind` or `change` may replace what is known: only to fill what was missing."""
    return not known.complete and (bool(new.serial) or not known.serial)


class Found(NamedTuple):
    """What enumeration found, by address, and the listing of just before."""

    readings: dict[str, Reading]
    marks: Marks


class Census(NamedTuple):
    """What sysfs says against what was known."""

    marks: Marks
    gone: list[str]
    """Addresses."""
    read: list[Reading]
    """Of all that are unknown or may have changed."""


def enumerated() -> Found:
    """Every USB device there is. May take as long as a hanging device holds sysfs.

    Raises UdevError.
    """
    try:
        before = marks()
    except OSError:
        before = {}  # the first comparison reads them all
    readings: dict[str, Reading] = {}
    for device in Database().devices():
        try:
            reading = glance(reading_of(device.path, device.properties))
        except ValueError as error:  # a property is no UTF-8
            log.warning("udev.malformed", reason=str(error))
            continue
        readings[reading.address] = reading if reading.complete else fill(reading)
    return Found(readings, before)


def compared(known: dict[str, Reading], before: Marks) -> Census:
    """Blocks for as long as sysfs takes, but for no device. Raises OSError, UdevError."""
    now = marks()
    by_name = {reading.port: reading for reading in known.values()}
    gone = [reading.address for name, reading in by_name.items() if name not in now]
    read: list[Reading] = []
    unread: list[str] = []
    database = Database()
    for name, mark in now.items():
        reading = by_name.get(name)
        if reading is not None and mark == before.get(name) and not reading.blocked:
            continue
        try:
            device = database.device(name)
            new = glance(reading_of(device.path, device.properties))
        except (LookupError, ValueError):  # gone again, or not whole yet; no UTF-8
            unread.append(name)
        else:
            if reading is not None and reading.address != new.address:
                gone.append(reading.address)  # its controller is another one now
            read.append(new)
    for name in unread:
        del now[name]  # read again next time
    return Census(now, gone, read)
