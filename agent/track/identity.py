"""Who a phone is: which of its sightings belong together, and under which UDID. No clock, no I/O.

`joining` groups sightings by what they say alone; here a group gets its UDID:

- A phone that is there keeps the one it has. A better spelling, or the serial that a phone tells
  late, changes it only as long as no transition of it counted (`take_renames`).
- A phone that comes gets its serial (`udid` says how serials compare); the one that it had before,
  where the store knows that serial.
- Once two phones of one serial were there at the same time, that serial is not trusted again,
  restarts included. The first keeps the plain serial, the second is `serial@path`; from then on
  each is known by the port that it hangs at (`places`), and a further port is a further phone. On
  the network the address stands for the port, and is the key.
- Without a serial it is `no-serial@path`, or its address.
- A mode whose serial is no UDID (Apple's recovery, EDL, download mode) is whoever was at that port
  last, unless that one is elsewhere, or had left before the agent started; else nobody.
- A USB device that is no phone by its descriptors makes no clash and takes no serial from a phone;
  it is a phone only in that phone's place, or, once that phone was seen, if nothing else can be
  meant.
- adb goes on listing phones that left. Two ports in its list are no two phones while udev knows
  that serial on this host's USB: udev says where they hang.

Bus numbers change at a reboot, so ports are remembered by their lasting path where udev tells it.
What a source said is dropped when it goes down; the device stays known.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.model import (
    BRIDGE_OF,
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
from agent.track.joining import FAR_MODES, Group, Key, Seen, join
from agent.track.places import Places
from agent.udid import (
    canonical,
    digits,
    is_junk,
    is_network,
    is_off_usb,
    is_placeholder,
    lasting_path,
    listed,
    may_be,
    recovery_udid,
    serial_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable


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
    there: bool = True
    """Whether it had not left when the agent stopped."""
    since_ms: int = 0


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


@dataclass(slots=True)
class _Device:
    facts: Facts
    members: dict[Key, Sighting] = field(default_factory=dict)
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


class Identities:
    """Joins sightings into devices; deterministic, driven by `apply`.

    Args:
        sources: the enabled ones; the others stay unknown for ever.
        known: devices of the store and of the config.
        remote: the bridges whose servers run on other hosts, so that udev cannot see their phones.
        network: the sources whose phones on the network count; of the others' nothing is taken.
    """

    def __init__(
        self,
        *,
        sources: Iterable[SourceName],
        known: Iterable[Known] = (),
        remote: Iterable[SourceName] = (),
        network: Collection[SourceName] = frozenset(SourceName),
    ) -> None:
        self._enabled = frozenset(sources)
        self._network = frozenset(network)
        self._remote = frozenset(remote)
        self._udev_missing = False
        self._udev_spoke = False
        self._waiting = set(self._enabled)
        self._down: dict[SourceName, str] = dict.fromkeys(self._enabled, "not connected yet")
        self._sightings: dict[SourceName, dict[str, Sighting]] = {name: {} for name in SourceName}
        self._serials: dict[Key, str] = {}
        """What each sighting is joined by; "" where it does not say who the phone is."""
        self._by_serial: defaultdict[str, set[Key]] = defaultdict(set)
        self._by_port: defaultdict[str, set[Key]] = defaultdict(set)
        self._owner: dict[Key, str] = {}
        self._devices: dict[str, _Device] = {}
        self._of_serial: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """The devices that have a serial, in the order in which they became known."""
        self._shared: set[str] = set()
        self._ports = Places()
        self._addresses = Places()
        self._paths: dict[str, str] = {}
        """The lasting path of every port that udev showed."""
        self._port_at: dict[str, str] = {}
        """By their lasting paths."""
        self._beside: set[str] = set()
        """Serials that a thing had beside a phone: elsewhere they say nothing of a thing."""
        self._aside: set[Key] = set()
        """Sightings that were nobody's when udev last saw: nor are they while it does not."""
        self._listed: set[str] = set()
        self._renames: list[tuple[str, str]] = []
        self._newly_shared: set[str] = set()
        self._begun = not self._waiting
        for device in sorted(known, key=lambda each: each.since_ms):
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

    def is_seen(self, udid: str) -> bool:
        """Whether any source sees it now."""
        return bool(self._devices[udid].members)

    def is_hidden(self, udid: str) -> bool:
        """Whether only what is turned off knows of it, so that nothing can be said."""
        ways = set(self._devices[udid].facts.ways.split())
        return bool(ways) and ways.isdisjoint(self._ways())

    def aliases(self, udid: str) -> tuple[str, ...]:
        """What else the device is called: its serial in every spelling, its addresses, its place.

        The serial of two phones is an alias of both; `serial@path` is one of them.
        """
        device = self._devices[udid]
        facts = device.facts
        names: list[str] = []
        if facts.shared_serial and facts.serial:
            names += [f"{facts.serial}@{place}" for place in (facts.path, facts.port) if place]
        if facts.address and self._addresses.at(facts.address)[:1] == [udid]:
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

    # --- what changes ----------------------------------------------------------------------

    def know(self, known: Known) -> None:
        """Remember a device that no source has shown yet."""
        if known.udid in self._devices:
            return
        serial, shared = _serial_of_key(known)
        ways = known.ways.split()
        self._devices[known.udid] = _Device(
            Facts(
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
            ),
            off_usb=is_off_usb(known.udid) or (bool(known.address) and not known.port),
            on_usb=SourceName.UDEV in ways,
            beyond_udev=known.there and bool(ways) and SourceName.UDEV not in ways,
            told=known.platform is not None and known.there,
            counted=known.platform is not None,
        )
        self._of_serial[serial][known.udid] = None
        if serial and shared:
            self._shared.add(serial)
        if place := _place(known.path, known.port):
            self._ports.recall(known.udid, place, there=known.there)
        if known.address:
            self._addresses.recall(known.udid, known.address, there=known.there)

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
            serial = _listed_serial(udid)
            if not self._addresses.at(udid) and not (serial and self._of_serial.get(serial)):
                self.know(Known(udid))
        return forgotten

    def forget(self, udid: str) -> None:
        """Drop a device that nothing lists and no source sees."""
        device = self._devices.get(udid)
        if device is not None and not device.members:
            self._erase(udid)

    def is_nameless(self, udid: str) -> bool:
        """Whether its key is a server's number for it, for want of any lasting name.

        adb lists two phones of one serial without their ports: all it tells of the second is a
        transport id, which another one has after the next start of the server.
        """
        seen = self._devices[udid].members.values()
        return any(each.address == udid != each.serial for each in seen)

    def count(self, udid: str, *, there: bool) -> None:
        """A transition of it counts: from now on it keeps its UDID until it has left."""
        device = self._devices[udid]
        device.told, device.counted = there, True

    def reconfigure(
        self,
        *,
        sources: Iterable[SourceName],
        remote: Iterable[SourceName],
        network: Collection[SourceName] = frozenset(SourceName),
    ) -> set[str]:
        """Enable and disable sources; an added one is down (not waited for) until it speaks.

        What a source that is turned off saw is not absent: see `is_hidden`.
        """
        wanted, before = frozenset(sources), self._ways()
        for source in self._enabled - wanted:
            self._down.pop(source, None)
            self._waiting.discard(source)
        for source in wanted - self._enabled:
            self._down[source] = "not connected yet"
        added = (frozenset(network) - self._network) & self._enabled & wanted
        self._enabled, self._network = wanted, frozenset(network)
        touched = self._turn_off(before - self._ways())
        if self._remote != frozenset(remote):
            self._remote = frozenset(remote)
            touched |= self._reindex()
        for source in sorted(added):
            # Its phones on the network are there or not: that it does not list them yet says nil.
            touched |= self.apply(Down(source, "its configuration changed: reconnecting"))
        for device in self._devices.values():
            self._place(device)
        return touched

    def _turn_off(self, ended: Collection[str]) -> set[str]:
        """Drop what was seen in these ways, and note of whom nothing else was."""
        touched: set[str] = set()
        lost: defaultdict[str, set[str]] = defaultdict(set)
        for source, seen in self._sightings.items():
            for sighting in [each for each in seen.values() if _way(each) in ended]:
                owner = self._owner.get((source, sighting.address))
                if owner is not None:
                    lost[owner].add(_way(sighting))
                touched |= self._drop(source, sighting.address)
        for udid, ways in lost.items():
            if (device := self._devices.get(udid)) is not None:
                self._see_by(device, {_way(s) for s in device.members.values()} or ways)
        return touched

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
        if answered is not None:
            self._aside.discard((source, answered.address))
        touched = self._apply(observation) | self._begin()
        left = source is SourceName.UDEV and isinstance(observation, (Gone, Snapshot))
        for udid in touched:
            if udid in self._devices:
                self._weigh(self._devices[udid], answered, left=left)
        return touched

    def _answered(self, observation: Observation) -> Sighting | None:
        """The sighting that becomes ready by that observation, which only an answer can do.

        A list read anew (a snapshot) may repeat what a stalled server has said for long, and a row
        that only gets another address (there are others of its serial, or no more) says nothing.
        """
        match observation:
            case Changed(sighting=Sighting(bridge=Bridge.READY) as new):
                source, serial = new.source, _serial_of(new)
                before = [self._sightings[source].get(new.address)]
                if before == [None]:
                    alike = self._by_serial.get(serial, ())
                    rows = [self._sighting(key) for key in alike if key[0] is source]
                    before += [r for r in rows if (r.serial, r.port) == (new.serial, new.port)]
                ready = any(old is not None and old.bridge is Bridge.READY for old in before)
                return None if ready else new
        return None

    def _weigh(self, device: _Device, answered: Sighting | None, *, left: bool) -> None:
        """Note what udev's word on the device is worth beside its bridge's."""
        if not self._watched:
            if answered is not None and answered in device.members.values():
                device.left_usb = False
            return
        if _on_usb(device) is not None:
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
                return self._take_back(source, address)
            case Snapshot(sightings=sightings):
                was_up = source not in self._down
                self._down.pop(source, None)
                self._waiting.discard(source)
                now = {sighting.address for sighting in sightings}
                touched = set() if was_up else self._concerned(source)
                for address in [a for a in self._sightings[source] if a not in now]:
                    touched |= self._take_back(source, address)
                return touched | self._put(*sightings)
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
        return touched | self._begin()

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

    def _put(self, *sightings: Sighting) -> set[str]:
        """Take them, all of them before it is decided whose they are."""
        touched: set[str] = set()
        changed: set[Key] = set()
        ways = self._ways()
        for sighting in sightings:
            key = (sighting.source, sighting.address)
            old = self._sightings[sighting.source].get(sighting.address)
            if _way(sighting) not in ways:
                touched |= self._drop(*key)
            elif old is not None and key in self._owner and _joins_alike(old, sighting):
                if old != sighting:
                    touched |= self._renew(key, sighting)
            elif old != sighting:
                changed |= {key} | (self._unindex(key, old) if old is not None else set())
                self._sightings[sighting.source][sighting.address] = sighting
                self._index(key, sighting)
        return touched | self._settle(changed)

    def _take_back(self, source: SourceName, address: str) -> set[str]:
        """The source sees it no more. A phone that udev alone sees now is no more its bridge's."""
        owner = self._owner.get((source, address))
        touched = self._drop(source, address)
        device = self._devices.get(owner or "")
        if device is not None and _on_usb(device) is not None:
            ways = {_way(sighting) for sighting in device.members.values()}
            kept = {way for way in device.facts.ways.split() if way.partition("-")[0] in self._down}
            self._see_by(device, ways | kept)
        return touched

    def _drop(self, source: SourceName, address: str) -> set[str]:
        old = self._sightings[source].pop(address, None)
        if old is None:
            return set()
        key = (source, address)
        self._aside.discard(key)
        neighbours = self._unindex(key, old) - {key}
        if (owner := self._owner.get(key)) is not None:
            # Who hangs at its last port without a serial may be it, now that it is nowhere else.
            port = self._devices[owner].facts.port
            neighbours |= self._by_port.get(port, set()) | set(self._devices[owner].members)
            neighbours.discard(key)
        touched = self._release(key)
        return touched | self._settle(neighbours)

    def _index(self, key: Key, sighting: Sighting) -> None:
        self._serials[key] = serial = _serial_of(sighting)
        if serial:
            self._by_serial[serial].add(key)
        if port := self._port_of(sighting):
            self._by_port[port].add(key)
            path = lasting_path(sighting.address) if key[0] is SourceName.UDEV else ""
            if path:
                self._paths[port] = path
                self._port_at[path] = port

    def _unindex(self, key: Key, sighting: Sighting) -> set[Key]:
        """Take a sighting out of both indexes; returns who stood beside it."""
        neighbours: set[Key] = set()
        for index, value in (
            (self._by_serial, self._serials.pop(key, "")),
            (self._by_port, self._port_of(sighting)),
        ):
            if value:
                index[value].discard(key)
                neighbours |= index[value]
                if not index[value]:
                    del index[value]
        return neighbours

    def _reindex(self) -> set[str]:
        """Where adb's ports are has changed."""
        self._by_serial.clear()
        self._by_port.clear()
        keys = {(source, at) for source, seen in self._sightings.items() for at in seen}
        for key in keys:
            self._index(key, self._sighting(key))
        return self._settle(keys)

    def _settle(self, keys: Iterable[Key]) -> set[str]:
        """Decide anew whose these sightings are, and those of the same phones, ports, serials.

        Not before every source has spoken: who hangs where it hung before the start goes first.
        """
        if not self._begun:
            return set()
        every = sorted(self._component(keys))
        wanted = self._decide(every)
        stay = {udid for udid, _ in wanted.values()}
        touched, self._newly_shared = self._newly_shared, set()
        for key in every:
            owner, (udid, group) = self._owner.get(key), wanted.get(key, (None, _NOBODY))
            if owner is not None and owner != udid:
                touched |= self._release(key, None if owner in stay else udid, group.serial)
        for key in every:
            if key in wanted:
                touched |= self._assign(key, *wanted[key])
        return touched

    def _decide(self, every: list[Key]) -> dict[Key, tuple[str, Group]]:
        """Whose each of these sightings is, and the group it stands in; left out: nobody's."""
        component, watched = set(every), self._watched
        groups = join(
            [self._seen(key) for key in every if watched or key not in self._aside],
            watched=watched,
            twins=self._shared.__contains__,
            shared=self._doubtful,
        )
        wanted: dict[Key, tuple[str, Group]] = {}
        taken: set[str] = set()
        for group in sorted(groups, key=self._rank):
            udid = self._name(group, taken, component)
            if udid is not None:
                if udid not in self._devices:
                    self._meet(udid, group)
                taken.add(udid)
                wanted.update(dict.fromkeys((each.key for each in group.seen), (udid, group)))
        if watched:
            self._aside -= wanted.keys()
            self._aside |= component - wanted.keys()
        return wanted

    def _doubtful(self, serial: str) -> bool:
        """Whether that serial is of more than one device that we know."""
        return serial in self._shared or len(self._of_serial.get(serial, ())) > 1

    def _begin(self) -> set[str]:
        """Once every source has spoken: decide whose all those sightings are."""
        if self._begun or self._waiting:
            return set()
        self._begun = True
        return self._settle([(name, at) for name, seen in self._sightings.items() for at in seen])

    def _component(self, keys: Iterable[Key]) -> set[Key]:
        """Every sighting that may have a say in whose these are."""
        found: set[Key] = set()
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key in found or key[1] not in self._sightings[key[0]]:
                continue
            found.add(key)
            sighting = self._sighting(key)
            if port := self._port_of(sighting):
                todo += self._by_port[port]
            devices = {self._owner.get(key)}
            if serial := self._serials[key]:
                todo += self._by_serial[serial]
                devices.update(self._of_serial.get(serial, ()))
            for udid in devices - {None}:
                todo += self._devices[udid or ""].members
        return found

    def _seen(self, key: Key) -> Seen:
        sighting = self._sighting(key)
        owner, left = self._owner.get(key), key in self._aside
        if owner is not None:
            left = self._devices[owner].left_usb
            owner = None if self._is_makeshift(owner) else owner
        return Seen(key, sighting, self._serials[key], self._port_of(sighting), owner, left)

    def _rank(self, group: Group) -> tuple[bool, bool, bool, bool, Key]:
        """Who is named before whom: it takes the UDID that both might have."""
        known = self._of_serial.get(group.serial, ()) if group.serial else ()
        address = group.seen[0].sighting.address
        at_home = any(self._is_at(udid, group) for udid in known) or (
            group.far and any(self._devices[udid].facts.address == address for udid in known)
        )
        return (
            not group.serial,
            not group.phone,
            group.owner is None,
            not at_home,
            min(each.key for each in group.seen),
        )

    # --- naming ----------------------------------------------------------------------------

    def _name(self, group: Group, taken: Collection[str], component: Collection[Key]) -> str | None:
        """The UDID of the phone that a group is; None: no phone, or nobody we can name."""

        def free(udid: str) -> bool:
            device = self._devices.get(udid)
            return (
                device is not None
                and udid not in taken
                and all(key in component for key in device.members)
            )

        owners = dict.fromkeys(self._owner.get(each.key, "") for each in group.seen)
        keeps = [udid for udid in owners if free(udid) and self._keeps(udid, group)]
        if keeps:
            return self._respell(max(keeps, key=lambda udid: self._devices[udid].told), group)
        if group.serial and not group.phone:
            return self._thing(group, free)
        if not group.serial:
            return self._without_serial(group, free)
        newcomer = self._newcomer(group, free)
        return None if newcomer is None else self._respell(newcomer, group)

    def _keeps(self, udid: str, group: Group) -> bool:
        """Whether a group that was that device until now is it still."""
        facts = self._devices[udid].facts
        sightings = [each.sighting for each in group.seen]
        if facts.platform and any(s.platform not in {None, facts.platform} for s in sightings):
            return False
        if not group.serial:
            alike = not (facts.serial and any(_is_plain(s) for s in sightings))
        elif facts.serial and not group.fits(facts.serial):
            alike = False  # another phone hangs there by now
        elif group.port and not facts.serial and self._of_serial.get(group.serial):
            alike = False  # one that we know
        elif not facts.serial and self._devices[udid].left_usb:
            alike = False  # it left, and is in adb's list for a moment more
        else:
            alike = not self._is_makeshift(udid) and (group.phone or self._is_at(udid, group))
        return alike and self._may_hang_at(udid, group)

    def _may_hang_at(self, udid: str, group: Group) -> bool:
        """Whether one that is known by its place is known by that one."""
        facts, path = self._devices[udid].facts, self._paths.get(group.port, "")
        if not group.port or (facts.serial and not facts.shared_serial):
            return True
        if not path:
            return facts.port in {"", group.port}
        if not facts.path and not self._devices[udid].counted:
            return not udid.endswith(f"@{group.port}")  # named by a bus number, for want of better
        return facts.path in {"", path}

    def _newcomer(self, group: Group, free: Callable[[str], bool]) -> str | None:
        """Of a phone with a serial that was not there."""
        serial, address = group.serial, group.seen[0].sighting.address
        known = list(self._of_serial.get(serial, ()))
        here = [udid for udid in known if free(udid)]
        if group.far and address in here:
            return address
        if serial not in self._shared:
            # One that was told by its address before it told its serial is that address's alone.
            plain = [udid for udid in known if self._devices[udid].facts.address != udid]
            if all(udid in here or not (group.far or udid in plain) for udid in known):
                mine = [udid for udid in here if udid in plain]
                if not mine:
                    return self._unused(_spelled(group))
                return min(mine, key=lambda udid: not self._is_at(udid, group))
            if self._is_udevs(group):
                return None
            self._share(serial)
        return self._twin(group, here)

    def _twin(self, group: Group, here: list[str]) -> str | None:
        """Which of several phones of one serial came: the one of that place, or a new one."""
        address = group.seen[0].sighting.address
        if group.far:
            mine = [udid for udid in here if self._devices[udid].facts.address == address]
            return mine[0] if mine else self._unused(address)
        if group.port:
            return self._by_port_alone(group, here, _spelled(group))
        if here and not group.seen[0].numbered:
            # One of them, and which will be told with its port; where udev is not there, perhaps.
            return None if self._watched else here[0]
        return None if self._is_udevs(group) else self._unused(address)

    def _thing(self, group: Group, free: Callable[[str], bool]) -> str | None:
        """Of a USB device that is no phone by its descriptors: a known one in an odd mode?"""
        known = list(self._of_serial.get(group.serial, ()))
        here = [udid for udid in known if free(udid)]
        if at := self._of_place(group, here, exact=True):
            return at
        if here != known:
            self._beside.add(group.serial)
        alike = [key for key in self._by_serial[group.serial] if key[0] is SourceName.UDEV]
        if len(here) != 1 or here != known or group.serial in self._beside or len(alike) > 1:
            return None
        moved = bool(self._ports.of(here[0]))
        sure = self._devices[here[0]].met and not is_placeholder(group.serial)
        return None if moved and not sure else here[0]

    def _without_serial(self, group: Group, free: Callable[[str], bool]) -> str | None:
        sighting = group.seen[0].sighting
        if sighting.usb in FAR_MODES:
            return self._holder(group, sighting, free)
        if sighting.usb is UsbKind.OTHER:
            return None
        if group.port:
            nameless = [udid for udid in self._of_serial.get("", ()) if free(udid)]
            return self._by_port_alone(group, nameless, "no-serial")
        address = sighting.address
        before = self._addresses.at(address) if group.far else []
        if before and free(before[0]):
            return before[0]
        return address if address in self._devices and free(address) else self._unused(address)

    def _holder(self, group: Group, sighting: Sighting, free: Callable[[str], bool]) -> str | None:
        """Who was at that port last, if it may be that phone in a mode that does not say."""
        udid = self._ports.last(_place(self._paths.get(group.port, ""), group.port))
        if udid is None or not free(udid):
            return None
        platform = self._devices[udid].facts.platform
        if platform is None or sighting.platform not in {None, platform}:
            return None
        return udid if may_be(sighting.serial, udid) else None

    def _by_port_alone(self, group: Group, here: list[str], head: str) -> str | None:
        """Who hung at that port of these, or a new one; None: udev, which is late, will tell."""
        path = self._paths.get(group.port, "")
        if self._watched and not path and any(self._devices[udid].facts.path for udid in here):
            return None
        if at := self._of_place(group, here):
            return at
        return None if self._is_udevs(group) else self._unused(f"{head}@{path or group.port}")

    def _is_udevs(self, group: Group) -> bool:
        """Whether it is udev's to say if another phone of that serial hangs there.

        A phone that moves stays in adb's list where it hung, now and then for as long as adb runs:
        two ports there are no two phones while udev sees where phones of that serial are.
        """
        placed = group.port or group.displaced
        if not self._watched or not placed or not group.lacks(SourceName.UDEV):
            return False
        known = (self._devices[udid] for udid in self._of_serial.get(group.serial, ()))
        return bool(group.serial) and any(each.on_usb or each.left_usb for each in known)

    def _is_at(self, udid: str, group: Group) -> bool:
        return self._of_place(group, [udid], exact=True) is not None

    def _of_place(self, group: Group, udids: list[str], *, exact: bool = False) -> str | None:
        """Which of these devices was last where the group hangs; the newest of several."""
        if not group.port or not udids:
            return None
        path = self._paths.get(group.port, "")
        for place in filter(None, (path, f"port {group.port}")):
            for udid in self._ports.at(place):
                if udid in udids and (place == path or self._devices[udid].counted):
                    return udid
        # Where udev does not tell, or a store is from before it was asked, the kernel's name of the
        # port is all there is; but for its bus number, that one lasts. A name whose place udev has
        # shown under another one is from before a reboot.
        old = [
            udid
            for udid, facts in ((udid, self._devices[udid].facts) for udid in udids)
            if not (path and facts.path) and self._port_at.get(facts.path, group.port) == group.port
        ]
        same = [udid for udid in old if self._devices[udid].facts.port == group.port]
        if same or exact:
            return same[0] if same else None
        alike = digits(group.port)
        nameless = [udid for udid in old if not self._devices[udid].facts.path]
        same = [udid for udid in nameless if digits(self._devices[udid].facts.port) == alike]
        return same[0] if len(same) == 1 else None

    def _share(self, serial: str) -> None:
        """Two phones have this serial: from now on it does not say which of them is meant."""
        self._shared.add(serial)
        for udid in self._of_serial[serial]:
            device = self._devices[udid]
            device.facts = replace(device.facts, shared_serial=True)
            self._newly_shared.add(udid)

    def _respell(self, udid: str, group: Group) -> str:
        """As adb spells it, as long as nobody was told of another spelling."""
        device = self._devices.get(udid)
        if device is None or device.counted:
            return udid
        known = group.serial and serial_key(udid, None) == group.serial
        if not known or group.lacks(SourceName.ADB):
            return udid
        spelled = _spelled(group)
        if spelled == udid or spelled in self._devices:
            return udid
        self._rename(udid, spelled)
        return spelled

    def _meet(self, udid: str, group: Group) -> None:
        """A device that nobody knew."""
        platform = group.seen[0].sighting.platform
        self._devices[udid] = _Device(Facts(udid, platform, serial=group.serial))
        self._of_serial[group.serial][udid] = None

    def _unused(self, udid: str) -> str:
        """That name, or one like it that no device has."""
        number, name = 2, udid
        while (device := self._devices.get(name)) is not None:
            if device.facts.platform is None and not device.members:
                self._erase(name)  # the config's word on that very device
                break
            name, number = f"{udid}+{number}", number + 1
        return name

    def _is_makeshift(self, udid: str) -> bool:
        """Whether its UDID only stands for one that is not known yet, and was not told."""
        device = self._devices[udid]
        return not device.facts.serial and not device.told

    def _rename(self, old: str, new: str) -> None:
        device = self._devices.pop(old)
        device.facts = replace(device.facts, udid=new)
        self._devices[new] = device
        for key in device.members:
            self._owner[key] = new
        if old in (mine := self._of_serial.get(device.facts.serial, {})):
            del mine[old]
            mine[new] = None
        self._ports.rename(old, new)
        self._addresses.rename(old, new)
        self._renames.append((old, new))

    def _erase(self, udid: str) -> None:
        device = self._devices.pop(udid)
        self._of_serial.get(device.facts.serial, {}).pop(udid, None)
        self._ports.forget(udid)
        self._addresses.forget(udid)

    # --- membership ------------------------------------------------------------------------

    def _release(self, key: Key, new: str | None = None, serial: str = "") -> set[str]:
        """Take the sighting from the device that it was of; it is of `new` now, with that serial.

        What was only a name for the time being goes over to the new one.
        """
        old = self._owner.pop(key, None)
        if old is None:
            return set()
        device = self._devices[old]
        device.members.pop(key, None)
        self._place(device)
        same = self._is_makeshift(old) or device.facts.serial == serial
        if new is not None and same and not device.members and not device.counted:
            self._erase(old)
            self._renames.append((old, new))
        return {old}

    def _assign(self, key: Key, udid: str, group: Group) -> set[str]:
        """Make the sighting that device's; returns the devices that it touched."""
        sighting = self._sighting(key)
        device = self._devices[udid]
        before, old = device.facts, device.members.get(key)
        ways = before.ways
        if old != sighting:
            if not device.members:
                ways = ""
            device.members[key] = sighting
            device.met = True
            self._owner[key] = udid
            self._place(device)
        device.facts = self._learned(before, ways, sighting, group)
        if device.facts.serial != before.serial:
            del self._of_serial[before.serial][udid]
            self._of_serial[device.facts.serial][udid] = None
        if group.port and not (device.left_usb and group.lacks(SourceName.UDEV)):
            self._ports.put(udid, _place(device.facts.path, group.port))
        if sighting.network and sighting.source is SourceName.ADB:
            self._addresses.put(udid, sighting.address)
            self._drop_ghost(sighting.address, udid)
        changed = device.facts is not before or device.members.get(key) is not old
        return {udid} if changed else set()

    def _drop_ghost(self, address: str, udid: str) -> None:
        """An address that the config lists is no device of its own once a phone is there."""
        ghost = self._devices.get(address)
        if ghost is not None and address != udid and ghost.facts.platform is None:
            self._erase(address)
            self._renames.append((address, udid))

    def _learned(self, facts: Facts, ways: str, sighting: Sighting, group: Group) -> Facts:
        """Keep the newest word on each fact; a source that does not know says nothing."""
        port = (
            group.port or (sighting.port if sighting.source in self._remote else "") or facts.port
        )
        path = self._paths.get(port, facts.path if port == facts.port else "")
        far = sighting.network and sighting.source is SourceName.ADB
        serial = facts.serial or group.serial
        name, model = _told(facts, sighting)
        way = _way(sighting)
        learned = Facts(
            facts.udid,
            # Apple's always have one: what is left is an Android phone with debugging off.
            sighting.platform or facts.platform or Platform.ANDROID,
            name=name,
            model=model,
            port=port,
            shared_serial=serial in self._shared,
            path=path,
            address=sighting.address if far else facts.address,
            serial=serial,
            ways=" ".join(sorted({*ways.split(), way})) if ways else way,
        )
        return facts if learned == facts else learned

    def _renew(self, key: Key, sighting: Sighting) -> set[str]:
        """It says something new of the same phone: whose it is stays as it is."""
        self._sightings[key[0]][key[1]] = sighting
        udid = self._owner[key]
        device = self._devices[udid]
        device.members[key] = sighting
        name, model = _told(device.facts, sighting)
        if (name, model) != (device.facts.name, device.facts.model):
            device.facts = replace(device.facts, name=name, model=model)
        return {udid}

    def _see_by(self, device: _Device, ways: Collection[str]) -> None:
        told = " ".join(sorted(ways))
        if told != device.facts.ways:
            device.facts = replace(device.facts, ways=told)

    def _place(self, device: _Device) -> None:
        """Note whether the device is off USB; without a sighting the last word stays."""
        if device.members:
            device.off_usb = all(_off_usb(s) for s in device.members.values())

    def _port_of(self, sighting: Sighting) -> str:
        """Where it hangs on this host; "" where that is not told, or it is another host's port."""
        local = sighting.source not in self._remote and not sighting.network
        return sighting.port if local else ""

    @property
    def _watched(self) -> bool:
        return SourceName.UDEV in self._enabled and SourceName.UDEV not in self._down

    def _ways(self) -> set[str]:
        """How phones can be seen, as far as it is turned on; see `_way`."""
        far = {f"{source}-network" for source in self._enabled & self._network}
        return {str(source) for source in self._enabled} | far

    def _sighting(self, key: Key) -> Sighting:
        return self._sightings[key[0]][key[1]]

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
        if _on_usb(device) is not None:
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
            stale = device.left_usb and SourceName.UDEV in self._down  # and nobody to say so
            return (Bridge.UNKNOWN, _unseen(device)) if stale else (Bridge.READY, "")
        if seen:
            # The cable's word before the network's: that is where the operator can help.
            worst = min(seen, key=lambda s: (s.network, s.address))
            return worst.bridge or Bridge.UNKNOWN, worst.reason
        return Bridge.ABSENT, _not_seen(platform, device)


_NOBODY = Group()


def _serial_of_key(known: Known) -> tuple[str, bool]:
    """The serial that a known device's UDID holds, and whether another phone has it, too."""
    head, at, place = known.udid.rpartition("@")
    if at and place in {known.port, known.path}:
        if head == "no-serial":
            return known.serial, known.shared  # told late, and by then its UDID had counted
        serial = serial_key(head, known.platform)
        return serial, bool(serial)
    if known.serial or known.platform is None:
        return known.serial or _listed_serial(known.udid), known.shared
    if known.udid == known.address or is_network(known.udid) or known.udid.startswith("no-serial@"):
        return "", known.shared
    return serial_key(known.udid, known.platform), known.shared


def _listed_serial(udid: str) -> str:
    """The serial that a device listed in the config is meant by; "" for an address."""
    if is_network(udid):
        return ""
    plain = listed(udid)
    return plain if plain != udid.strip() else serial_key(plain, None)


def _serial_of(sighting: Sighting) -> str:
    """The serial as it is compared; "" where it says nothing of who the phone is."""
    if sighting.usb is UsbKind.APPLE_RECOVERY:
        return recovery_udid(sighting.serial)
    if sighting.usb is UsbKind.EMERGENCY:
        return ""
    if sighting.network and sighting.source is SourceName.ADB:
        return serial_key(sighting.usb_serial, sighting.platform)
    return serial_key(sighting.usb_serial or sighting.serial, sighting.platform)


def _place(path: str, port: str) -> str:
    """What a USB port is remembered by; the kernel's name only where there is no better one."""
    return path or (f"port {port}" if port else "")


def _joins_alike(old: Sighting, new: Sighting) -> bool:
    """Whether all that sightings are joined by is the same in both."""
    return (old.serial, old.port, old.usb_serial, old.usb, old.platform, old.network) == (
        new.serial,
        new.port,
        new.usb_serial,
        new.usb,
        new.platform,
        new.network,
    )


def _told(facts: Facts, sighting: Sighting) -> tuple[str, str]:
    """The newest word on name and model; a source that does not know says nothing."""
    # udev's model is a descriptor string; what the phone itself says to its bridge is better.
    weak = sighting.source is SourceName.UDEV and (facts.model or sighting.usb in FAR_MODES)
    return sighting.name or facts.name, facts.model if weak else sighting.model or facts.model


def _is_plain(sighting: Sighting) -> bool:
    """Whether udev sees a phone in a mode in which it would tell its serial, if it had one."""
    return sighting.source is SourceName.UDEV and sighting.usb not in FAR_MODES


def _way(sighting: Sighting) -> str:
    return f"{sighting.source}-network" if sighting.network else str(sighting.source)


def _spelled(group: Group) -> str:
    """The UDID that the serial of a group gives: adb's spelling before any other."""
    named = [each for each in group.seen if each.serial]
    best = min(named, key=lambda each: each.sighting.source is not SourceName.ADB)
    sighting = best.sighting
    if sighting.usb is UsbKind.APPLE_RECOVERY:
        return best.serial
    far = sighting.network and sighting.source is SourceName.ADB
    serial = sighting.usb_serial if far else sighting.usb_serial or sighting.serial
    return canonical(serial, sighting.platform)


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
    for sighting in device.members.values():
        if sighting.source is SourceName.UDEV:
            return sighting
    return None


def _bridge_name(device: _Device) -> str:
    """As operators call it."""
    source = BRIDGE_OF[device.facts.platform or Platform.ANDROID]
    return _DAEMONS.get(source, source.value)


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


def _not_seen(platform: Platform, device: _Device) -> str:
    """Why its bridge does not list the device."""
    sighting = _on_usb(device)
    usb = sighting.usb if sighting is not None else None
    if sighting is not None and sighting.reason:
        return sighting.reason  # udev knows: blocked on this host, or in which emergency mode
    return (
        _NOT_SEEN.get((platform, usb))
        or _NOT_SEEN.get((platform, None))
        or f"not seen by {_bridge_name(device)}"
    )


_DAEMONS = {SourceName.USBMUX: "usbmuxd"}
"""What operators call bridges that they do not know by the source's name."""
_DEBUGGING_OFF = "USB debugging is off: turn it on in the phone's developer options"
_NOT_SEEN: dict[tuple[Platform, UsbKind | None], str] = {
    (Platform.ANDROID, UsbKind.FASTBOOT): "in the bootloader (fastboot)",
    (Platform.ANDROID, UsbKind.EMERGENCY): "in an emergency mode of its chip: restart the phone",
    (Platform.ANDROID, UsbKind.ADB): (
        "not seen by adb although USB debugging is on: check the device node's permissions "
        "(udev rules), another adb server, or replug the phone"
    ),
    (Platform.ANDROID, UsbKind.MTP): _DEBUGGING_OFF,
    (Platform.ANDROID, UsbKind.OTHER): _DEBUGGING_OFF,
    (Platform.IOS, UsbKind.APPLE_RECOVERY): "in recovery or DFU mode",
    (Platform.IOS, None): (
        "not seen by usbmuxd: unlock the phone and tap Trust; if it stays, unplug and replug it, "
        "or restart usbmuxd"
    ),
}
"""Why a platform's bridge does not list a phone, by what udev sees; None: whatever it sees."""
