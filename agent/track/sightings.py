"""What every source sees now, found by key, serial and port; and what one sighting says. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from agent.model import Bridge, Changed, Sighting, SourceName, UsbKind
from agent.track.joining import MUTE_MODES, is_far
from agent.udid import is_off_usb, lasting_path, recovery_udid, serial_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from agent.model import Observation
    from agent.track.joining import Key
    from agent.track.source_states import SourceStates


class Sightings:
    """All of them, and the lasting paths of the ports that udev has shown.

    Args:
        sources: whether a port that a source names is one of this host.
    """

    def __init__(self, sources: SourceStates) -> None:
        self._sources = sources
        self._seen: dict[SourceName, dict[str, Sighting]] = {name: {} for name in SourceName}
        self._serial: dict[Key, str] = {}
        self._by_serial: defaultdict[str, set[Key]] = defaultdict(set)
        self._by_port: defaultdict[str, set[Key]] = defaultdict(set)
        self._paths: dict[str, str] = {}
        """The lasting path of every port that udev showed."""
        self._port_at: dict[str, str] = {}
        """By their lasting paths."""
        self._left_over: set[tuple[str, str]] = set()
        """(serial, port) of rows whose phone left that port and which have not answered since."""

    def __getitem__(self, key: Key) -> Sighting:
        return self._seen[key[0]][key[1]]

    def __contains__(self, key: Key) -> bool:
        return key[1] in self._seen[key[0]]

    def get(self, key: Key) -> Sighting | None:
        """What the source sees under that address."""
        return self._seen[key[0]].get(key[1])

    def all_keys(self) -> list[Key]:
        """Of all there are."""
        return [(name, address) for name, seen in self._seen.items() for address in seen]

    def of(self, source: SourceName) -> list[Sighting]:
        """All that this source sees."""
        return list(self._seen[source].values())

    def serial(self, key: Key) -> str:
        """What it is joined by; "" where it does not say who the phone is."""
        return self._serial[key]

    def with_serial(self, serial: str) -> AbstractSet[Key]:
        """All that are joined by that serial."""
        return self._by_serial.get(serial, _NONE)

    def at_port(self, port: str) -> AbstractSet[Key]:
        """All that are at that port of this host."""
        return self._by_port.get(port, _NONE)

    def port_of(self, sighting: Sighting) -> str:
        """Where it hangs on this host; "" where that is not told, or it is another host's port."""
        local = sighting.source not in self._sources.remote and not sighting.network
        return sighting.port if local else ""

    def is_of_here(self, sighting: Sighting) -> bool:
        """Whether udev of this host would see that phone."""
        return sighting.source not in self._sources.remote and not is_away(sighting)

    def path(self, port: str, default: str = "") -> str:
        """The lasting path of that port, where udev has shown it."""
        return self._paths.get(port, default)

    def port_at(self, path: str, default: str) -> str:
        """Which port had that lasting path last."""
        return self._port_at.get(path, default)

    def put(self, key: Key, sighting: Sighting) -> set[Key]:
        """Take it; returns those beside which another one stood under that key until now."""
        old = self.get(key)
        neighbours = self._unindex(key, old) if old is not None else set()
        self._seen[key[0]][key[1]] = sighting
        self._index(key, sighting)
        if key[0] is SourceName.UDEV:
            self._left_over.discard((self._serial[key], self.port_of(sighting)))
        elif old is not None:
            self._unlist(old)
        return neighbours

    def renew(self, key: Key, sighting: Sighting) -> None:
        """Take one that is joined as the one before (`joins_alike`)."""
        self._seen[key[0]][key[1]] = sighting

    def drop(self, key: Key) -> set[Key] | None:
        """Forget it; returns those beside which it stood, None where there was none."""
        old = self._seen[key[0]].pop(key[1], None)
        if old is None:
            return None
        neighbours = self._unindex(key, old) - {key}
        self._unlist(old)
        return neighbours

    def reindex(self) -> None:
        """Where a bridge's ports are has changed."""
        self._by_serial.clear()
        self._by_port.clear()
        for key in self.all_keys():
            self._index(key, self[key])

    def answered(self, observation: Observation) -> Sighting | None:
        """The sighting that becomes ready by that observation, which only an answer can do.

        A list read anew (a snapshot) may repeat what a stalled server has said for long, and a row
        that only gets another address (there are others of its serial, or no more) says nothing.
        """
        match observation:
            case Changed(sighting=Sighting(bridge=Bridge.READY) as new):
                known = self.get((new.source, new.address))
                if known is not None:
                    before = [known]
                else:
                    alike = self.with_serial(serial_of(new))
                    rows = [self[key] for key in alike if key[0] is new.source]
                    before = [r for r in rows if (r.serial, r.port) == (new.serial, new.port)]
                return None if any(old.bridge is Bridge.READY for old in before) else new
        return None

    def leave_over(self, keys: Iterable[Key]) -> None:
        """The phone of these rows is at their ports no more: what still has them is an old list."""
        for key in keys:
            if key[0] is not SourceName.UDEV and (port := self.port_of(self[key])):
                self._left_over.add((self._serial[key], port))

    def come_back(self, answered: Sighting) -> None:
        """Its phone has just answered there; what has another one there is an old list."""
        serial, port = serial_of(answered), self.port_of(answered)
        self._left_over.discard((serial, port))
        self.leave_over(key for key in self.at_port(port) if self._serial[key] != serial)

    def is_left_over(self, key: Key) -> bool:
        """Whether udev saw its phone leave its port, and it has not become ready since."""
        if not self._left_over or key[0] is SourceName.UDEV:
            return False
        return (self._serial[key], self.port_of(self[key])) in self._left_over

    def _unlist(self, old: Sighting) -> None:
        """It was taken back: without another row of that phone there nothing is left over."""
        if not self._left_over:
            return
        serial, port = place = serial_of(old), self.port_of(old)
        if place in self._left_over:
            rows = self.with_serial(serial) & self.at_port(port)
            if all(key[0] is SourceName.UDEV for key in rows):
                self._left_over.discard(place)

    def _index(self, key: Key, sighting: Sighting) -> None:
        self._serial[key] = serial = serial_of(sighting)
        if serial:
            self._by_serial[serial].add(key)
        if port := self.port_of(sighting):
            self._by_port[port].add(key)
            path = lasting_path(sighting.address) if key[0] is SourceName.UDEV else ""
            if path:
                self._paths[port] = path
                self._port_at[path] = port

    def _unindex(self, key: Key, sighting: Sighting) -> set[Key]:
        """Take it out of both indexes; returns who stood beside it."""
        neighbours: set[Key] = set()
        for index, value in (
            (self._by_serial, self._serial.pop(key, "")),
            (self._by_port, self.port_of(sighting)),
        ):
            if value:
                index[value].discard(key)
                neighbours |= index[value]
                if not index[value]:
                    del index[value]
        return neighbours


_NONE: frozenset[Key] = frozenset()


def serial_of(sighting: Sighting) -> str:
    """The serial as it is compared; "" where it says nothing of who the phone is."""
    if sighting.usb is UsbKind.APPLE_RECOVERY:
        return recovery_udid(sighting.serial)
    if sighting.usb is UsbKind.EMERGENCY:
        return ""
    if is_far(sighting):
        return serial_key(sighting.usb_serial, sighting.platform)
    return serial_key(sighting.usb_serial or sighting.serial, sighting.platform)


def joins_alike(old: Sighting, new: Sighting) -> bool:
    """Whether all that sightings are joined by is the same in both."""
    return (old.serial, old.port, old.usb_serial, old.usb, old.platform, old.network) == (
        new.serial,
        new.port,
        new.usb_serial,
        new.usb,
        new.platform,
        new.network,
    )


def tells_serial(sighting: Sighting) -> bool:
    """Whether udev sees a phone in a mode in which it would tell its serial, if it had one."""
    return sighting.source is SourceName.UDEV and sighting.usb not in MUTE_MODES


def is_away(sighting: Sighting) -> bool:
    """Whether udev of this host cannot be expected to see that phone."""
    if sighting.source is SourceName.UDEV:
        return False
    return sighting.network or is_off_usb(sighting.serial)
