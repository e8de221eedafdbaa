"""Every device that is known, under its UDID: who it is, what is seen of it, where it was. Pure.

From the store, the config or a source; a device stays known when nothing sees it any more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.model import BRIDGE_OF, Bridge, Platform, Sighting, SourceName
from agent.track.known import Known, listed_serial, serial_of_known
from agent.track.places import Places
from agent.track.sightings import is_away
from agent.track.source_states import way_of
from agent.udid import is_junk, is_off_usb, listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.track.joining import Key


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sources said of who a device is; the last word on each is kept."""

    udid: str
    platform: Platform | None
    name: str = ""
    """The phone's own name."""
    model: str = ""
    port: str = ""
    shared_serial: bool = False
    """Two phones have this serial: it alone does not say which is meant."""
    path: str = ""
    """The port's name that outlives reboots; "" where udev did not tell it."""
    address: str = ""
    """Where adb last reached it on the network."""
    serial: str = ""
    """As it is compared (`udid.serial_key`)."""
    ways: str = ""
    """How it was seen since it last came: by which sources, over USB or the network. While udev
    sees it: how it is seen."""
    serial_read: bool = False
    """Whether udev has read its serial since it last came, and not only its bridge."""


@dataclass(slots=True)
class Identity:
    """Who one device is, what is seen of it, and what udev's word on it is worth."""

    facts: Facts
    members: dict[Key, Sighting] = field(default_factory=dict)
    """What is seen of it now."""
    off_usb: bool = False
    on_usb: bool = False
    """udev saw it, when udev last saw anything; after a restart: when it last came."""
    left_usb: bool = False
    """udev saw it leave, and it has not become ready since: a list that still has it is stale."""
    beyond_udev: bool = False
    """It has answered its bridge while udev did not see it, and udev has not seen it since."""
    met: bool = False
    """Whether it was seen since the agent's start."""
    told: bool = False
    """Whether it counts as there: its UDID must not change."""
    counted: bool = False
    """Whether it ever counted: it is stored, and its UDID is its for good."""

    @property
    def seen(self) -> bool:
        """Whether any source sees it now."""
        return bool(self.members)

    @property
    def by_udev(self) -> Sighting | None:
        """What udev sees of it."""
        for sighting in self.members.values():
            if sighting.source is SourceName.UDEV:
                return sighting
        return None

    @property
    def by_bridge(self) -> list[Sighting]:
        """Its bridge's sightings of it."""
        return [s for s in self.members.values() if s.source is not SourceName.UDEV]

    @property
    def ready(self) -> list[Sighting]:
        """Those of them that are ready."""
        return [s for s in self.members.values() if s.bridge is Bridge.READY]

    @property
    def reached(self) -> str:
        """What its bridge calls the device while it is ready; "" while it is not.

        The adb serial or the usbmux DeviceID; of two ways to one phone that over the cable.
        """
        ready = self.ready
        return min(ready, key=lambda s: (s.network, s.address)).address if ready else ""

    @property
    def nameless(self) -> bool:
        """Whether its UDID is a server's number for it, for want of any lasting name.

        adb lists two phones of one serial without their ports: all it tells of the second is a
        transport id, which another one has after the next start of the server.
        """
        udid = self.facts.udid
        return any(s.address == udid != s.serial for s in self.members.values())

    @property
    def makeshift(self) -> bool:
        """Whether its UDID only stands for one that is not known yet, and was not told."""
        return not self.facts.serial and not self.told

    def count(self, *, there: bool) -> None:
        """A transition of it counts: from now on it keeps its UDID until it has left."""
        self.told, self.counted = there, True

    def note_usb(self) -> None:
        """Note whether it is off USB; without a sighting the last word stays."""
        if self.members:
            self.off_usb = all(is_away(s) for s in self.members.values())

    def note_ways(self, ways: Collection[str]) -> None:
        """It is, or was last, seen so."""
        told = " ".join(sorted(ways))
        if told != self.facts.ways:
            read = self.facts.serial_read and SourceName.UDEV in ways
            self.facts = replace(self.facts, ways=told, serial_read=read)

    def by_ways(self, source: SourceName) -> bool:
        """Whether that source saw it over USB since it last came."""
        return source in self.facts.ways.split()

    def seen_ways(self) -> set[str]:
        """How it is seen now."""
        return {way_of(sighting) for sighting in self.members.values()}

    def leave(self) -> None:
        """Note that udev sees it no more, if it did."""
        self.left_usb |= self.on_usb
        self.on_usb = False

    def outlive(self) -> None:
        """Note that all there is of it is an old list: where it answered it is no more."""
        self.left_usb, self.beyond_udev = True, False

    def weigh(self, answered: Sighting | None, *, watched: bool) -> None:
        """Note what udev's word on it is worth beside its bridge's.

        Args:
            answered: a sighting, of this device or of another one, that has just become ready.
            watched: udev sees this host's ports.
        """
        if watched and self.by_udev is not None:
            self.on_usb, self.left_usb, self.beyond_udev = True, False, False
            return
        if watched:
            self.leave()
        if answered is not None and answered in self.members.values():
            self.left_usb = False
        if self.ready and not self.on_usb and not self.left_usb:
            self.beyond_udev |= watched
            if self.by_ways(SourceName.UDEV):
                self.note_ways(set(self.facts.ways.split()) - {SourceName.UDEV})


class Devices:
    """All of them, and by which serial, place and address each is known.

    Args:
        known: those of the store.
    """

    def __init__(self, known: Iterable[Known]) -> None:
        self.owner: dict[Key, str] = {}
        """Whose each sighting is: the other side of `Identity.members`."""
        self.ports = Places()
        self.addresses = Places()
        self.shared: set[str] = set()
        """Serials of which two phones were there at the same time."""
        self._devices: dict[str, Identity] = {}
        self._of_serial: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """In the order in which they became known."""
        self._listed: set[str] = set()
        self._renames: list[tuple[str, str]] = []
        for device in sorted(known, key=lambda each: each.since_ms):
            self.know(device)

    # --- what others ask -------------------------------------------------------------------

    @property
    def udids(self) -> tuple[str, ...]:
        """Every device known, seen or only listed."""
        return tuple(self._devices)

    def __contains__(self, udid: object) -> bool:
        return udid in self._devices

    def __getitem__(self, udid: str) -> Identity:
        return self._devices[udid]

    def get(self, udid: str | None) -> Identity | None:
        """The device of that UDID, where there is one."""
        return None if udid is None else self._devices.get(udid)

    def of_serial(self, serial: str) -> list[str]:
        """The devices that have that serial, in the order in which they became known."""
        return list(self._of_serial.get(serial, ()))

    def of_bridge(self, source: SourceName) -> set[str]:
        """The devices whose readings hang on that source; on udev all of them do."""
        if source is SourceName.UDEV:
            return set(self._devices)
        return {
            udid
            for udid, device in self._devices.items()
            if device.facts.platform is not None and BRIDGE_OF[device.facts.platform] is source
        }

    def had_left(self, serial: str, place: str) -> bool:
        """Whether one of that serial, which udev saw, is known to be gone from that place."""
        mine = [self._devices[udid] for udid in self.ports.at(place)]
        return any(
            each.facts.serial == serial and not each.told and each.by_ways(SourceName.UDEV)
            for each in mine
        )

    def hang(self, udid: str, place: str, *, proved: bool) -> None:
        """It is at that port, by a row of its bridge or, `proved`, by its answer or udev's word.

        A mere row takes a port from nobody whom udev saw there when it last saw.
        """
        last = self.ports.last(place)
        if proved or last is None or last == udid or not self._devices[last].on_usb:
            self.ports.put(udid, place)
        elif self.ports.of(udid) != place:
            self.ports.recall(udid, place, there=False)

    def aliases(self, udid: str) -> tuple[str, ...]:
        """What else the device is called: its serial in every spelling, its addresses, its place.

        The serial of two phones is an alias of both; `serial@path` is one of them.
        """
        device = self._devices[udid]
        facts = device.facts
        names: list[str] = []
        if facts.shared_serial and facts.serial:
            names += [f"{facts.serial}@{place}" for place in (facts.path, facts.port) if place]
        if facts.address and self.addresses.at(facts.address)[:1] == [udid]:
            names.append(facts.address)
        names += [s.usb_serial for s in device.members.values()]
        names.append(facts.serial)
        for sighting in device.members.values():
            if sighting.source is SourceName.ADB:
                names += [sighting.serial, sighting.address]
        return tuple(name for name in dict.fromkeys(names) if name != udid and not is_junk(name))

    def take_renames(self) -> list[tuple[str, str]]:
        """(old, new) UDIDs since the last call: the same phone, which no transition told of."""
        renames, self._renames = self._renames, []
        return renames

    # --- who is known ----------------------------------------------------------------------

    def know(self, known: Known) -> None:
        """Remember a device that no source has shown yet."""
        if known.udid in self._devices:
            return
        serial, shared = serial_of_known(known)
        ways = known.ways.split()
        facts = Facts(
            known.udid,
            known.platform,
            name=known.name,
            model=known.model,
            port=known.port,
            shared_serial=shared,
            path=known.path,
            address=known.address,
            serial=serial,
            ways=known.ways,
            serial_read=known.serial_read,
        )
        self._devices[known.udid] = Identity(
            facts,
            off_usb=is_off_usb(known.udid) or (bool(known.address) and not known.port),
            on_usb=SourceName.UDEV in ways,
            beyond_udev=known.there and bool(ways) and SourceName.UDEV not in ways,
            told=known.platform is not None and known.there,
            counted=known.platform is not None,
        )
        self._of_serial[serial][known.udid] = None
        if serial and shared:
            self.shared.add(serial)
        if place := lasting_place(known.path, known.port):
            self.ports.recall(known.udid, place, there=known.there)
        if known.address:
            self.addresses.recall(known.udid, known.address, there=known.there)

    def know_listed(self, udids: Iterable[str]) -> set[str]:
        """Remember the devices of the config; returns those that it names no more: forgotten.

        One that is known under another name (its address, its serial as udev spells it) is no
        device of its own. One that was seen stays known.
        """
        wanted = {listed(udid) for udid in udids}
        forgotten = set()
        for udid in self._listed - wanted:
            device = self._devices.get(udid)
            if device is not None and device.facts.platform is None:
                self._erase(udid)
                forgotten.add(udid)
        self._listed = wanted
        for udid in sorted(wanted):
            serial = listed_serial(udid)
            if not self.addresses.at(udid) and not (serial and self._of_serial.get(serial)):
                self.know(Known(udid))
        return forgotten

    def meet(self, udid: str, platform: Platform | None, serial: str) -> None:
        """A device that nobody knew."""
        self._devices[udid] = Identity(Facts(udid, platform, serial=serial))
        self._of_serial[serial][udid] = None

    def unused(self, udid: str) -> str:
        """That UDID, or one like it that no device has."""
        number, name = 2, udid
        while (device := self._devices.get(name)) is not None:
            if device.facts.platform is None and not device.members:
                self._erase(name)  # the config's word on that very device
                break
            name, number = f"{udid}+{number}", number + 1
        return name

    def learn(self, udid: str, facts: Facts) -> None:
        """Take what is newly told of it."""
        device = self._devices[udid]
        if facts.serial != device.facts.serial:
            del self._of_serial[device.facts.serial][udid]
            self._of_serial[facts.serial][udid] = None
        device.facts = facts

    def is_doubtful(self, serial: str) -> bool:
        """Whether that serial is of more than one device that we know."""
        return serial in self.shared or len(self._of_serial.get(serial, ())) > 1

    def share(self, serial: str) -> list[str]:
        """From now on that serial does not say which phone is meant; returns those that have it."""
        self.shared.add(serial)
        for udid in self._of_serial[serial]:
            device = self._devices[udid]
            device.facts = replace(device.facts, shared_serial=True)
        return list(self._of_serial[serial])

    def rename(self, old: str, new: str) -> None:
        """The device is known under another UDID from now on."""
        device = self._devices.pop(old)
        device.facts = replace(device.facts, udid=new)
        self._devices[new] = device
        for key in device.members:
            self.owner[key] = new
        if old in (mine := self._of_serial.get(device.facts.serial, {})):
            del mine[old]
            mine[new] = None
        self.ports.rename(old, new)
        self.addresses.rename(old, new)
        self._renames.append((old, new))

    def merge(self, old: str, new: str) -> None:
        """What was a device of its own until now is that other one."""
        self._erase(old)
        self._renames.append((old, new))

    def forget(self, udid: str) -> None:
        """Drop a device that nothing lists and no source sees."""
        device = self._devices.get(udid)
        if device is not None and not device.members:
            self._erase(udid)

    def _erase(self, udid: str) -> None:
        device = self._devices.pop(udid)
        self._of_serial.get(device.facts.serial, {}).pop(udid, None)
        self.ports.forget(udid)
        self.addresses.forget(udid)


def lasting_place(path: str, port: str) -> str:
    """What a USB port is remembered by; the kernel's name only where there is no better one."""
    return path or (f"port {port}" if port else "")
