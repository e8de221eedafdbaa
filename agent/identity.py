"""Which sightings are the same phone, and what its readings are. No clock, no I/O, no await.

A device is keyed by its UDID: the serial on Android, the UDID in its dashed form on iOS. One phone
is seen by udev (by USB serial and port path) and by adb or usbmux (by serial, sometimes with the
port path); `Identities` joins them:

- by serial, compared dash- and case-insensitively for iOS;
- by port path, where the serial says nothing: junk serials, iPhones in recovery or DFU mode;
- `serial@port` once two phones with one serial were seen at the same time. That lasts, restarts
  included: a serial that was shared once cannot be trusted again. The phone that had the plain
  serial before is renamed (`take_renames`), so that it makes no transition by that.

A mode switch changes product ids, interfaces and DEVPATHs but neither serial nor port, so none of
those is part of any key. What a source said is dropped when it goes down; the device stays known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.model import (
    Bridge,
    Changed,
    Down,
    Gone,
    Observation,
    Platform,
    Presence,
    Readings,
    Sighting,
    Snapshot,
    SourceName,
    UsbKind,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_HEX_40 = re.compile(r"[0-9a-fA-F]{40}")
_HEX_24 = re.compile(r"([0-9a-fA-F]{8})-?([0-9a-fA-F]{16})")
_JUNK = re.compile(
    r"\s*|\?+|_+|0+|f+|\(no serial number\)|no serial number|unknown|null", re.IGNORECASE
)
_EMULATOR = re.compile(r"emulator-\d+")
_NETWORK = re.compile(
    r"(?:\[[0-9a-fA-F:.%\w]+\]|[\w.-]+):\d{1,5}|.+\._adb(?:-tls-connect)?\._tcp\.?"
)

BRIDGE_OF = {Platform.ANDROID: SourceName.ADB, Platform.IOS: SourceName.USBMUX}
"""Which source bridges to a platform's phones."""


def canonical(serial: str, platform: Platform | None) -> str:
    """The UDID as it is shown and stored.

    iOS: 40 hex digits in lower case, or 8-16 upper case with the dash that USB serials and older
    usbmuxd leave out. Android serials stay as they are: they are case-sensitive.
    """
    serial = serial.strip().strip("\x00")
    if platform is not Platform.IOS:
        return serial
    if _HEX_40.fullmatch(serial):
        return serial.lower()
    if match := _HEX_24.fullmatch(serial):
        return f"{match[1]}-{match[2]}".upper()
    return serial


def listed(udid: str) -> str:
    """The UDID of a device listed in the config, where its platform is not known yet."""
    ios = _HEX_40.fullmatch(udid.strip()) or _HEX_24.fullmatch(udid.strip())
    return canonical(udid, Platform.IOS if ios else None)


def is_junk(serial: str) -> bool:
    """Whether a serial says nothing of who the phone is; udev writes `_` for odd characters."""
    return _JUNK.fullmatch(serial.strip().strip("\x00")) is not None


def is_network(serial: str) -> bool:
    """Is that the address of a phone on the network? `emulator-5554` is none."""
    return _NETWORK.fullmatch(serial) is not None


def is_off_usb(serial: str) -> bool:
    """Whether adb reaches that serial without a USB cable: an emulator, or a network phone."""
    return _EMULATOR.fullmatch(serial) is not None or is_network(serial)


@dataclass(frozen=True, slots=True)
class Known:
    """A device known before any source spoke: from the store, or listed in the config."""

    udid: str
    platform: Platform | None = None
    """None: only listed in the config, never seen."""
    port: str = ""
    name: str = ""
    model: str = ""


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
    """Two phones have this serial: the key carries the port path."""


@dataclass(slots=True)
class _Device:
    facts: Facts
    members: dict[tuple[SourceName, str], Sighting] = field(default_factory=dict)
    off_usb: bool = False
    network: bool = False
    """Reached over the network alone, when last seen."""
    udev_only: bool = False
    """USB was turned off while udev alone could tell of it, and no bridge has listed it since."""
    on_usb: bool = False
    """udev saw it, when udev last saw anything."""
    left_usb: bool = False
    """udev saw it leave, and it has not become ready since: a list that still has it is stale."""
    beyond_udev: bool = False
    """It has answered its bridge while udev did not see it, and udev has not seen it since."""


_Key = tuple[SourceName, str]


class Identities:
    """Joins sightings into devices; deterministic, driven by `apply`.

    Args:
        sources: the enabled ones; the others stay unknown for ever.
        known: devices of the store and of the config.
        remote: the bridges whose servers run on other hosts, so that udev cannot see their phones.
    """

    def __init__(
        self,
        *,
        sources: Iterable[SourceName],
        known: Iterable[Known] = (),
        remote: Iterable[SourceName] = (),
    ) -> None:
        self._enabled = frozenset(sources)
        self._remote = frozenset(remote)
        self._udev_missing = False
        self._udev_spoke = False
        self._waiting = set(self._enabled)
        self._down: dict[SourceName, str] = dict.fromkeys(self._enabled, "not connected yet")
        self._sightings: dict[SourceName, dict[str, Sighting]] = {name: {} for name in SourceName}
        self._by_serial: defaultdict[str, set[_Key]] = defaultdict(set)
        self._by_port: defaultdict[str, set[_Key]] = defaultdict(set)
        self._owner: dict[_Key, str] = {}
        self._devices: dict[str, _Device] = {}
        self._at_port: dict[str, str] = {}
        self._shared: set[str] = set()
        self._renames: list[tuple[str, str]] = []
        for device in known:
            self.know(device)

    # --- what others ask -------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether every enabled source has given its first word."""
        return not self._waiting

    @property
    def waiting(self) -> frozenset[SourceName]:
        """The enabled sources that have not spoken yet."""
        return frozenset(self._waiting)

    @property
    def down(self) -> dict[SourceName, str]:
        """The enabled sources that cannot see, each with its reason."""
        return dict(self._down)

    @property
    def udids(self) -> tuple[str, ...]:
        """Every device known, seen or only listed."""
        return tuple(self._devices)

    def __contains__(self, udid: str) -> bool:
        return udid in self._devices

    def facts(self, udid: str) -> Facts:
        """Who the device is; KeyError when unknown."""
        return self._devices[udid].facts

    def take_renames(self) -> list[tuple[str, str]]:
        """(old, new) UDIDs since the last call: the same phone under its new key."""
        renames, self._renames = self._renames, []
        return renames

    # --- what changes ----------------------------------------------------------------------

    def know(self, known: Known) -> None:
        """Remember a device that no source has shown yet."""
        if known.udid in self._devices or known.udid in self._shared:
            return
        serial, at, port = known.udid.rpartition("@")
        if at and port == known.port and not is_junk(serial):
            self._shared.add(self._serial_key(serial, known.platform))
        self._devices[known.udid] = _Device(
            Facts(
                known.udid,
                known.platform,
                name=known.name,
                model=known.model,
                port=known.port,
                shared_serial=bool(at),
            ),
            off_usb=is_off_usb(known.udid),
            network=is_network(known.udid),
        )
        if known.port:
            self._at_port.setdefault(known.port, known.udid)

    def forget(self, udid: str) -> None:
        """Drop a device that nothing lists and no source sees."""
        device = self._devices.get(udid)
        if device is not None and not device.members:
            del self._devices[udid]

    def reconfigure(
        self,
        *,
        sources: Iterable[SourceName],
        remote: Iterable[SourceName],
    ) -> set[str]:
        """Enable and disable sources; an added one is down (not waited for) until it speaks."""
        touched: set[str] = set()
        wanted = frozenset(sources)
        if SourceName.UDEV in self._enabled - wanted:
            for device in self._devices.values():
                device.udev_only = not _listed(device) and self._may_be_on_usb(device)
        for source in self._enabled - wanted:
            touched |= self.apply(Down(source, "turned off in the configuration"))
            del self._down[source]
        for source in wanted - self._enabled:
            self._down[source] = "not connected yet"
        self._enabled = wanted
        self._remote = frozenset(remote)
        return touched

    def cut_off(self, udid: str, network: Collection[Platform]) -> bool:
        """Whether nothing that is turned on can see that device as it was last seen.

        Args:
            udid: a known one.
            network: the platforms whose network phones are wanted.
        """
        device = self._devices[udid]
        platform = device.facts.platform
        if platform is None:
            return False
        return (
            BRIDGE_OF[platform] not in self._enabled
            or (device.network and platform not in network)
            or (device.udev_only and SourceName.UDEV not in self._enabled)
        )

    def apply(self, observation: Observation) -> set[str]:
        """Take one observation; returns the UDIDs whose readings or facts may have changed."""
        source = observation.source
        if source not in self._enabled:
            return set()
        if source is SourceName.UDEV:
            self._udev_spoke |= isinstance(observation, Snapshot)
            if isinstance(observation, Down):
                self._udev_missing = observation.missing and not self._udev_spoke
        answered = self._answered(observation)
        touched = self._apply(observation)
        left = source is SourceName.UDEV and isinstance(observation, (Gone, Snapshot))
        for udid in touched:
            if udid in self._devices:
                self._weigh(self._devices[udid], answered, left=left)
        return touched

    def _answered(self, observation: Observation) -> Sighting | None:
        """The sighting that becomes ready by that observation, which only an answer can do.

        A list read anew (a snapshot) may repeat what a stalled server has said for long.
        """
        match observation:
            case Changed(sighting=Sighting(bridge=Bridge.READY) as new):
                old = self._sightings[new.source].get(new.address)
                return new if old is None or old.bridge is not Bridge.READY else None
        return None

    def _weigh(self, device: _Device, answered: Sighting | None, *, left: bool) -> None:
        """Note what udev's word on the device is worth beside its bridge's."""
        device.udev_only &= not _listed(device)
        if SourceName.UDEV not in self._enabled or SourceName.UDEV in self._down:
            return
        if any(sighting.source is SourceName.UDEV for sighting in device.members.values()):
            device.on_usb, device.left_usb, device.beyond_udev = True, False, False
            return
        device.left_usb |= device.on_usb and left
        device.on_usb = False
        if answered is not None and answered in device.members.values():
            device.left_usb = False
        if not device.left_usb and any(
            sighting.bridge is Bridge.READY for sighting in device.members.values()
        ):
            device.beyond_udev = True

    def _apply(self, observation: Observation) -> set[str]:
        source = observation.source
        match observation:
            case Changed(sighting=sighting):
                return self._put(sighting)
            case Gone(address=address):
                return self._drop(source, address)
            case Snapshot(sightings=sightings):
                was_up = source not in self._down
                self._down.pop(source, None)
                self._waiting.discard(source)
                now = {sighting.address for sighting in sightings}
                touched = set() if was_up else self._concerned(source)
                for address in [a for a in self._sightings[source] if a not in now]:
                    touched |= self._drop(source, address)
                for sighting in sightings:
                    touched |= self._put(sighting)
                return touched
            case Down(reason=reason):
                self._down[source] = reason
                self._waiting.discard(source)
                touched = self._concerned(source)
                for address in list(self._sightings[source]):
                    touched |= self._drop(source, address)
                return touched

    def give_up_waiting(self) -> set[str]:
        """The start-up limit has passed: who has not spoken yet is unknown, not waited for."""
        touched: set[str] = set()
        for source in self._waiting:
            self._down[source] = "it has said nothing since the start"
            touched |= self._concerned(source)
        self._waiting.clear()
        return touched

    def readings(self, udid: str) -> Readings:
        """Presence and bridge of a device as the sources stand now; its usage is not known here."""
        device = self._devices[udid]
        presence, presence_reason = self._presence(device)
        bridge, bridge_reason = self._bridge(device)
        return Readings(
            presence=presence,
            bridge=bridge,
            presence_reason=presence_reason,
            bridge_reason=bridge_reason,
            bridge_is_presence=self._bridge_is_presence(device),
            bridge_ruled_out=_ruled_out(device),
            bridge_name=_bridge_name(device),
        )

    def reached(self, udid: str) -> str:
        """What its bridge calls the device while it is ready; "" while it is not.

        The adb serial or the usbmux DeviceID; of two ways to one phone that over the cable.
        """
        ready = [
            sighting
            for sighting in self._devices[udid].members.values()
            if sighting.bridge is Bridge.READY
        ]
        return min(ready, key=lambda s: (s.network, s.address)).address if ready else ""

    # --- joining ---------------------------------------------------------------------------

    def _put(self, sighting: Sighting) -> set[str]:
        key = (sighting.source, sighting.address)
        old = self._sightings[sighting.source].get(sighting.address)
        if old == sighting:
            return set()
        neighbours = self._unindex(key, old) if old is not None else set()
        self._sightings[sighting.source][sighting.address] = sighting
        if serial := self._serial_of(sighting):
            self._by_serial[serial].add(key)
            neighbours |= self._by_serial[serial]
        if sighting.port:
            self._by_port[sighting.port].add(key)
            neighbours |= self._by_port[sighting.port]
        return self._settle(neighbours | {key}) | self._owners({key})

    def _drop(self, source: SourceName, address: str) -> set[str]:
        old = self._sightings[source].pop(address, None)
        if old is None:
            return set()
        key = (source, address)
        neighbours = self._unindex(key, old) - {key}
        touched = self._assign(key, None)
        return touched | self._settle(neighbours)

    def _unindex(self, key: _Key, sighting: Sighting) -> set[_Key]:
        """Take a sighting out of both indexes; returns who stood beside it."""
        neighbours: set[_Key] = set()
        for index, value in (
            (self._by_serial, self._serial_of(sighting)),
            (self._by_port, sighting.port),
        ):
            if value:
                index[value].discard(key)
                neighbours |= index[value]
                if not index[value]:
                    del index[value]
        return neighbours

    def _settle(self, keys: set[_Key]) -> set[str]:
        """Decide anew whose each of these sightings is, and each at their ports."""
        touched: set[str] = set()
        ports = {self._sighting(key).port for key in keys} - {""}
        keys = keys.union(*(self._by_port[port] for port in ports))
        # Good serials first: junk ones and recovery modes lean on who stands at their port.
        for key in sorted(keys, key=lambda k: (self._leans_on_port(self._sighting(k)), k)):
            touched |= self._assign(key, self._resolve(self._sighting(key)))
        return touched

    def _resolve(self, sighting: Sighting) -> str | None:
        """The UDID a sighting belongs to; None while that cannot be told."""
        serial = self._serial_of(sighting)
        if not serial:
            return self._resolve_by_port(sighting)
        if sighting.network and sighting.source is SourceName.ADB and not sighting.usb_serial:
            return None  # `ip:port` says where, not who: its ro.serialno will
        group = [self._sighting(key) for key in self._by_serial[serial]]
        if serial not in self._shared and _clash(group):
            self._share(serial, group)
        if serial in self._shared:
            port = sighting.port
            return f"{serial}@{port}" if port else None
        if sighting.usb is UsbKind.OTHER and not self._is_phone(serial, group):
            return None
        return serial

    def _resolve_by_port(self, sighting: Sighting) -> str | None:
        port = sighting.port
        if not port:
            return None
        owners = {self._owner.get(key) for key in self._by_port[port] if self._serial_at(key)}
        owners.discard(None)
        if owners:
            return min(owner for owner in owners if owner)
        if sighting.usb is UsbKind.APPLE_RECOVERY:
            # Its serial is not the UDID: it is whoever was at this port before, or nobody we know.
            before = self._at_port.get(port)
            known = self._devices.get(before) if before else None
            return before if known and known.facts.platform is Platform.IOS else None
        if sighting.usb is UsbKind.OTHER:
            return None
        return f"no-serial@{port}"

    def _share(self, serial: str, group: list[Sighting]) -> None:
        """Two phones have this serial: from now on the port path is part of its key."""
        self._shared.add(serial)
        device = self._devices.get(serial)
        if device is None or device.facts.platform is None:
            return
        ports = sorted(sighting.port for sighting in group if sighting.port)
        port = device.facts.port if device.facts.port in ports else ports[0]
        renamed = f"{serial}@{port}"
        del self._devices[serial]
        device.facts = replace(device.facts, udid=renamed, port=port, shared_serial=True)
        self._devices[renamed] = device
        for key in device.members:
            self._owner[key] = renamed
        self._at_port[port] = renamed
        self._renames.append((serial, renamed))

    def _assign(self, key: _Key, udid: str | None) -> set[str]:
        """Make the sighting that device's, or nobody's; returns the devices it touched."""
        touched: set[str] = set()
        old = self._owner.get(key)
        if old is not None and old != udid:
            del self._owner[key]
            left = self._devices[old]
            left.members.pop(key, None)
            self._place(left)
            touched.add(old)
        if udid is None:
            return touched
        sighting = self._sighting(key)
        device = self._devices.get(udid)
        if device is None:
            device = self._devices[udid] = _Device(Facts(udid, sighting.platform))
        if device.members.get(key) == sighting and old == udid:
            return touched
        device.members[key] = sighting
        self._owner[key] = udid
        self._place(device)
        device.facts = _learn(device.facts, sighting, shared="@" in udid)
        if device.facts.port:
            self._at_port[device.facts.port] = udid
        return touched | {udid}

    def _place(self, device: _Device) -> None:
        """Note whether the device is off USB; without a sighting the last word stays."""
        if device.members:
            device.off_usb = all(_off_usb(s) for s in device.members.values())
            device.network = all(s.network for s in device.members.values())

    def _is_phone(self, serial: str, group: list[Sighting]) -> bool:
        return serial in self._devices or any(s.usb is not UsbKind.OTHER for s in group)

    def _serial_of(self, sighting: Sighting) -> str:
        """The key a sighting's serial gives; "" where it says nothing of who the phone is."""
        if sighting.usb is UsbKind.APPLE_RECOVERY:
            return ""
        serial = sighting.usb_serial or sighting.serial
        return "" if is_junk(serial) else self._serial_key(serial, sighting.platform)

    def _serial_key(self, serial: str, platform: Platform | None) -> str:
        return canonical(serial, platform)

    def _serial_at(self, key: _Key) -> str:
        return self._serial_of(self._sighting(key))

    def _leans_on_port(self, sighting: Sighting) -> bool:
        return not self._serial_of(sighting)

    def _sighting(self, key: _Key) -> Sighting:
        return self._sightings[key[0]][key[1]]

    def _owners(self, keys: Iterable[_Key]) -> set[str]:
        return {owner for key in keys if (owner := self._owner.get(key)) is not None}

    def _concerned(self, source: SourceName) -> set[str]:
        """The devices whose readings hang on that source."""
        if source is SourceName.UDEV:
            return set(self._devices)
        return {
            udid
            for udid, device in self._devices.items()
            if device.facts.platform is not None and BRIDGE_OF[device.facts.platform] is source
        }

    # --- readings --------------------------------------------------------------------------

    def _presence(self, device: _Device) -> tuple[Presence, str]:
        if any(sighting.source is SourceName.UDEV for sighting in device.members.values()):
            return Presence.PRESENT, ""
        if SourceName.UDEV not in self._enabled or self._expected_elsewhere(device):
            return Presence.UNKNOWN, ""
        if SourceName.UDEV in self._down:
            return Presence.UNKNOWN, self._down[SourceName.UDEV]
        seen = _listed(device)
        if _beyond_udev(device):
            return Presence.UNKNOWN, _unseen(device) if seen else ""
        if any(s.bridge is Bridge.UNKNOWN for s in seen) and not device.left_usb:
            return Presence.UNKNOWN, ""  # it is being asked: its answer will be proof
        return Presence.ABSENT, _unseen(device) if seen else ""

    def _bridge_is_presence(self, device: _Device) -> bool:
        """Whether what its bridge's list leaves out is unplugged, where udev cannot tell."""
        return (
            SourceName.UDEV not in self._enabled
            or self._udev_missing
            or _beyond_udev(device)
            or self._expected_elsewhere(device)
        )

    def _expected_elsewhere(self, device: _Device) -> bool:
        """Whether udev of this host cannot be expected to see the device."""
        platform = device.facts.platform
        return device.off_usb or (platform is not None and BRIDGE_OF[platform] in self._remote)

    def _may_be_on_usb(self, device: _Device) -> bool:
        return (
            not self._bridge_is_presence(device)
            and self._presence(device)[0] is not Presence.ABSENT
        )

    def _bridge(self, device: _Device) -> tuple[Bridge, str]:
        platform = device.facts.platform
        if platform is None:
            return Bridge.ABSENT, "never seen"
        source = BRIDGE_OF[platform]
        if source not in self._enabled:
            return Bridge.UNKNOWN, f"{source} is turned off in the configuration"
        if source in self._down:
            return Bridge.UNKNOWN, self._down[source]
        seen = [s for s in device.members.values() if s.source is source]
        ready = next((s for s in seen if s.bridge is Bridge.READY), None)
        if ready is not None:
            return Bridge.READY, ""
        if seen:
            # The cable's word before the network's: that is where the operator can help.
            worst = min(seen, key=lambda s: (s.network, s.address))
            return worst.bridge or Bridge.UNKNOWN, worst.reason
        return Bridge.ABSENT, _not_seen(platform, device)


def _off_usb(sighting: Sighting) -> bool:
    """Whether udev of this host cannot be expected to see that phone."""
    if sighting.source is SourceName.UDEV:
        return False
    return sighting.network or is_off_usb(sighting.serial)


def _beyond_udev(device: _Device) -> bool:
    """Whether udev's absence says nothing of it. Of twins an answer may have been the other's."""
    if not device.facts.shared_serial:
        return device.beyond_udev
    ready = any(sighting.bridge is Bridge.READY for sighting in device.members.values())
    return device.beyond_udev and ready


def _listed(device: _Device) -> list[Sighting]:
    """Its bridge's sightings of it."""
    return [s for s in device.members.values() if s.source is not SourceName.UDEV]


def _on_usb(device: _Device) -> Sighting | None:
    """What udev sees of it."""
    return next((s for s in device.members.values() if s.source is SourceName.UDEV), None)


def _bridge_name(device: _Device) -> str:
    """As operators call it."""
    return "usbmuxd" if device.facts.platform is Platform.IOS else "adb"


def _ruled_out(device: _Device) -> bool:
    """Whether udev says why no bridge can see the phone as it is now."""
    sighting = _on_usb(device)
    if sighting is None:
        return False
    return bool(sighting.reason) or sighting.usb not in {UsbKind.ADB, UsbKind.APPLE}


def _unseen(device: _Device) -> str:
    """What to say of a phone that its bridge lists and udev does not see."""
    name = _bridge_name(device)
    if any(sighting.bridge is Bridge.READY for sighting in _listed(device)):
        if device.left_usb:
            return f"{name} still lists it, but it left this host's USB: is {name} stalled?"
        return (
            f"it answers {name}, but this host's udev does not see it: is the {name} server "
            "forwarded from another host?"
        )
    reason = next((s.reason for s in _listed(device) if s.reason), "not ready")
    return f"this host's udev does not see it, and {name} says: {reason}"


def _clash(group: list[Sighting]) -> bool:
    """Whether one source sees one serial at two ports at the same time: two phones."""
    ports: defaultdict[SourceName, set[str]] = defaultdict(set)
    for sighting in group:
        if sighting.port:
            ports[sighting.source].add(sighting.port)
    return any(len(at) > 1 for at in ports.values())


def _learn(facts: Facts, sighting: Sighting, *, shared: bool) -> Facts:
    """Keep the newest word on each fact; a source that does not know says nothing."""
    # udev's model is a descriptor string; what the phone itself says to its bridge is better.
    model = sighting.model if sighting.source is not SourceName.UDEV or not facts.model else ""
    # Only a device known by its serial gets a sighting without a platform, and Apple's always
    # have one: what is left is an Android phone with debugging off.
    learned = Facts(
        facts.udid,
        sighting.platform or facts.platform or Platform.ANDROID,
        name=sighting.name or facts.name,
        model=model or facts.model,
        port=sighting.port or facts.port,
        shared_serial=shared,
    )
    return facts if learned == facts else learned


def _not_seen(platform: Platform, device: _Device) -> str:
    """Why its bridge does not list the device."""
    sighting = _on_usb(device)
    usb = sighting.usb if sighting is not None else None
    if sighting is not None and sighting.reason:
        return sighting.reason  # udev knows: blocked on this host, or in which emergency mode
    if platform is Platform.IOS:
        if usb is UsbKind.APPLE_RECOVERY:
            return "in recovery or DFU mode"
        return (
            "not seen by usbmuxd: unlock the phone and tap Trust; if it stays, unplug and replug "
            "it, or restart usbmuxd"
        )
    return (_NOT_SEEN_BY_ADB.get(usb) if usb else None) or "not seen by adb"


_DEBUGGING_OFF = "USB debugging is off: turn it on in the phone's developer options"
_NOT_SEEN_BY_ADB = {
    UsbKind.FASTBOOT: "in the bootloader (fastboot)",
    UsbKind.EMERGENCY: "in an emergency mode of its chip: restart the phone",
    UsbKind.ADB: (
        "not seen by adb although USB debugging is on: check the device node's permissions "
        "(udev rules), another adb server, or replug the phone"
    ),
    UsbKind.MTP: _DEBUGGING_OFF,
    UsbKind.OTHER: _DEBUGGING_OFF,
}
