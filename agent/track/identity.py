"""Who a phone is: which of its sightings belong together, and under which UDID. No clock, no I/O.

What is seen (`sightings`) is grouped by what it says alone (`joining`), and each group gets its
device (`naming`, where the rules stand), of those that are known (`devices`). An observation that
may change whose a sighting is has that decided anew, for it and for all that it may concern; one
that only says something new of the same phone does not. What a source said is dropped when it goes
down; the device stays known. All of it is one file, for each step needs what the others hold.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING

from agent.model import (
    Changed,
    Down,
    Gone,
    Observation,
    Platform,
    Readings,
    Sighting,
    Snapshot,
    SourceName,
)
from agent.track.devices import Devices, Facts, lasting_place
from agent.track.hanging import Where, where
from agent.track.joining import MUTE_MODES, Group, Key, Seen, is_far, join
from agent.track.naming import Naming
from agent.track.old_rows import OldRows
from agent.track.readings import is_hidden, readings_of
from agent.track.sightings import Sightings, joins_alike, serial_of, tells_serial
from agent.track.source_states import SourceStates, way_of
from agent.track.sure import Home, Sure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.track.known import Known


class Identities:
    """Joins sightings into devices; deterministic, driven by `apply`.

    `devices` are those that are known, `sources` how each source stands: to be asked, not changed.

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
        self.sources = SourceStates(sources, remote, network)
        self.devices = Devices(known)
        self._sightings = Sightings(self.sources)
        self._naming = Naming(self.devices, self._sightings, self.sources)
        self._sure = Sure(self.devices, self._sightings)
        self._old_rows = OldRows(self.devices, self._sightings)
        self._aside: set[Key] = set()
        """Sightings that were nobody's when udev last saw: nor are they while it does not."""
        self._answered: Sighting | None = None
        """What the observation that is taken now made ready: its phone is there."""
        self._begun = self.sources.all_spoke
        self._compared = False
        """Whether adb's rows were held against the store, for which udev has to see the ports."""

    def readings(self, udid: str) -> Readings:
        """What the sources say of a device now; of its usage nothing is known here."""
        return readings_of(self.devices[udid], self.sources)

    def is_hidden(self, udid: str) -> bool:
        """Whether only what is turned off knows of it, so that nothing can be said."""
        return is_hidden(self.devices[udid], self.sources)

    def where(self, udid: str) -> Where:
        """At which port of this host it hangs, or hung last."""
        return where(self.devices[udid], self.sources, self._sightings)

    # --- what changes ----------------------------------------------------------------------

    def apply(self, observation: Observation) -> set[str]:
        """Take one observation; returns the UDIDs whose readings or facts may have changed."""
        source = observation.source
        if source not in self.sources.enabled:
            return set()
        self._answered = answered = self._sightings.answered(observation)
        if answered is not None:
            self._aside.discard((source, answered.address))
            self._sightings.come_back(answered)
        touched = self._take(observation)
        self._weigh(touched)
        if begun := self._begin():  # whoever udev's first word left out has left by then
            self._weigh(begun)
            touched |= begun
        self._answered = None
        return touched

    def _weigh(self, touched: Iterable[str]) -> None:
        """What udev's word on them is worth by now."""
        watched = self.sources.watched
        for udid in touched:
            if (device := self.devices.get(udid)) is not None:
                device.weigh(self._answered, watched=watched)
                if device.left_usb:  # so they stay old, whatever address adb gives them
                    self._sightings.leave_over(device.members)

    def give_up_waiting(self) -> set[str]:
        """The start-up limit has passed: who has not spoken yet is unknown, not waited for."""
        touched: set[str] = set()
        for source in self.sources.give_up_waiting():
            touched |= self.devices.of_bridge(source)
        return touched | self._begin()

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
        before, remote = self.sources.ways, frozenset(remote)
        added = self.sources.turn_on(sources, network)
        touched = self._turn_off(before - self.sources.ways)
        if self.sources.remote != remote:
            self.sources.remote = remote
            self._sightings.reindex()
            touched |= self._regroup(self._sightings.all_keys())
        for source in sorted(added):
            # Its phones on the network are there or not: that it does not list them yet says nil.
            touched |= self.apply(Down(source, "its configuration changed: reconnecting"))
        for udid in self.devices.udids:
            self.devices[udid].note_usb()
        return touched

    def _turn_off(self, ended: Collection[str]) -> set[str]:
        """Drop what was seen in these ways, and note of whom nothing else was."""
        touched: set[str] = set()
        lost: defaultdict[str, set[str]] = defaultdict(set)
        for key in self._sightings.all_keys():
            sighting = self._sightings[key]
            if (way := way_of(sighting)) in ended:
                owner = self.devices.owner.get(key)
                if owner is not None:
                    lost[owner].add(way)
                touched |= self._drop(key)
        for udid, ways in lost.items():
            if (device := self.devices.get(udid)) is not None:
                device.note_ways(device.seen_ways() or ways)
        return touched

    def _take(self, observation: Observation) -> set[str]:
        source = observation.source
        was_up = source not in self.sources.down
        self.sources.hear(observation)
        match observation:
            case Changed(sighting=sighting):
                return self._put(sighting)
            case Gone(address=address):
                return self._take_back((source, address))
            case Snapshot(sightings=sightings):
                now = {sighting.address for sighting in sightings}
                touched = set() if was_up else self.devices.of_bridge(source)
                for seen in self._sightings.of(source):
                    if seen.address not in now:
                        touched |= self._take_back((source, seen.address))
                back = source is SourceName.UDEV and not was_up
                return touched | self._put(*sightings, back=back)
            case Down():
                touched = self.devices.of_bridge(source)
                for seen in self._sightings.of(source):
                    touched |= self._drop((source, seen.address))
                return touched

    def _put(self, *sightings: Sighting, back: bool = False) -> set[str]:
        """Take them, all of them before it is decided whose they are; `back`: udev sees again."""
        touched: set[str] = set()
        changed: set[Key] = set()
        for sighting in sightings:
            key = (sighting.source, sighting.address)
            old = self._sightings.get(key)
            if way_of(sighting) not in self.sources.ways:
                touched |= self._drop(key)
            elif old is not None and key in self.devices.owner and joins_alike(old, sighting):
                if old != sighting:
                    touched |= self._renew(key, sighting)
            elif old != sighting:
                changed |= {key} | self._sightings.put(key, sighting)
        if self._begun:
            self._note_old(changed, back=back)
        return touched | self._regroup(changed)

    def _renew(self, key: Key, sighting: Sighting) -> set[str]:
        """It says something new of the same phone: whose it is stays as it is."""
        self._sightings.renew(key, sighting)
        udid = self.devices.owner[key]
        device = self.devices[udid]
        device.members[key] = sighting
        if sighting is self._answered and sighting.port and device.by_udev is None:
            return {udid} | self._regroup([key])  # that it hangs there is proved by now
        name, model = _told(device.facts, sighting)
        if (name, model) != (device.facts.name, device.facts.model):
            device.facts = replace(device.facts, name=name, model=model)
        return {udid}

    def _take_back(self, key: Key) -> set[str]:
        """The source sees it no more. A phone that udev alone sees now is no more its bridge's."""
        device = self.devices.get(self.devices.owner.get(key))
        if key[0] is SourceName.UDEV and device is not None:
            at = self._sightings.at_port(self._sightings[key].port)
            self._sightings.leave_over(each for each in device.members if each in at)
            device.leave()
        touched = self._drop(key)
        if device is not None and device.by_udev is not None:
            device.note_ways(device.seen_ways() | self.sources.unlooked(device.facts.ways))
        return touched

    def _drop(self, key: Key) -> set[str]:
        neighbours = self._sightings.drop(key)
        if neighbours is None:
            return set()
        self._aside.discard(key)
        if (device := self.devices.get(self.devices.owner.get(key))) is not None:
            # Who hangs at its last port without a serial may be it, now that it is nowhere else.
            neighbours |= self._sightings.at_port(device.facts.port) | set(device.members)
        touched = self._release(key)
        return touched | self._regroup(neighbours - {key})

    # --- whose a sighting is ---------------------------------------------------------------

    def _begin(self) -> set[str]:
        """Once every source has spoken: decide whose all those sightings are."""
        if self._begun or not self.sources.all_spoke:
            return set()
        self._begun = True
        self._note_old(self._sightings.all_keys())
        return self._regroup(self._sightings.all_keys())

    def _note_old(self, keys: Iterable[Key], *, back: bool = False) -> None:
        """Which rows are old: of these, new in adb's list; by the store, once udev has spoken.

        And those of phones that left unseen, by udev's first word and by that when it is `back`.
        """
        old, first = self._old_rows, self.sources.watched and not self._compared
        self._compared |= first
        for key in self._sightings.all_keys() if first else keys:
            if key[0] is SourceName.UDEV:
                continue
            new = key not in self.devices.owner and self._sightings.get(key) is not self._answered
            if (first and old.had_left(key)) or (new and old.is_elsewhere(key)):
                self._sightings.leave_over([key])
        if first or back:
            self._sightings.leave_over(filter(old.is_unread, self._sightings.all_keys()))

    def _regroup(self, keys: Iterable[Key]) -> set[str]:
        """Decide anew whose these sightings are, and those of the same phones, ports, serials.

        Not before every source has spoken: who hangs where it hung before the start goes first.
        """
        if not self._begun:
            return set()
        homes, new, doubtful = self._sure.split(keys, self._aside)
        every, wanted = sorted(self._component(doubtful) - homes.keys()), homes
        if every or new:
            wanted |= self._decide(every, new, {home.udid for home in homes.values()})
        stay = {home.udid for home in wanted.values()}
        touched = self._naming.take_shared()
        for key in every:
            owner, home = self.devices.owner.get(key), wanted.get(key, _NOBODYS)
            if owner is not None and owner != home.udid:
                to = None if owner in stay else home.udid or None
                touched |= self._release(key, to, home.serial)
        for key in sorted(wanted):
            touched |= self._assign(key, wanted[key])
        return touched

    def _component(self, keys: Iterable[Key]) -> set[Key]:
        """Every sighting that may have a say in whose these are."""
        found: set[Key] = set()
        todo = list(keys)
        while todo:
            key = todo.pop()
            sighting = self._sightings.get(key)
            if key in found or sighting is None:
                continue
            found.add(key)
            if port := self._sightings.port_of(sighting):
                todo += self._sightings.at_port(port)
            devices = {self.devices.owner.get(key), self._old_rows.may_be(key)}
            if serial := self._sightings.serial(key):
                todo += self._sightings.with_serial(serial)
                devices.update(self.devices.of_serial(serial))
            for udid in devices - {None}:
                todo += self.devices[udid or ""].members
        return found

    def _decide(self, every: list[Key], new: list[list[Key]], taken: set[str]) -> dict[Key, Home]:
        """Whose each of these sightings is, and of `new` phones; left out: nobody's.

        Others have the UDIDs that are `taken`, for sure.
        """
        component, watched, naming = set(every), self.sources.watched, self._naming
        groups = join(
            [self._seen(key) for key in every if watched or not self._is_nobodys(key)],
            watched=watched,
            twins=self.devices.shared.__contains__,
            shared=self.devices.is_doubtful,
        )
        wanted: dict[Key, Home] = {}
        ranked = [(naming.rank(group), group, False) for group in groups]
        for keys in new:
            phone = Group(
                [self._seen(key) for key in keys], self._sightings.port_of(self._sightings[keys[0]])
            )
            ranked.append((naming.rank_new(phone), phone, True))
        for _, group, is_new in sorted(ranked, key=itemgetter(0)):
            udid = naming.name_new(group) if is_new else naming.name(group, taken, component)
            if udid is not None:
                if udid not in self.devices:
                    self.devices.meet(udid, group.seen[0].sighting.platform, group.serial)
                taken.add(udid)
                home = Home(udid, group.serial, group.port, not group.lacks(SourceName.UDEV))
                wanted.update(dict.fromkeys((each.key for each in group.seen), home))
        if watched:
            self._aside -= wanted.keys()
            self._aside |= component - wanted.keys()
        return wanted

    def _is_nobodys(self, key: Key) -> bool:
        """Whether it was nobody's when udev last saw."""
        unowned = key not in self.devices.owner
        return key in self._aside or (unowned and self._sightings.is_left_over(key))

    def _seen(self, key: Key) -> Seen:
        """A sighting, and what it is joined by."""
        sighting, owner = self._sightings[key], self.devices.owner.get(key)
        left = key in self._aside
        if owner is not None:
            device = self.devices[owner]
            left = device.left_usb and sighting is not self._answered
            owner = None if device.makeshift else owner
        return Seen(
            key,
            sighting,
            self._sightings.serial(key),
            self._sightings.port_of(sighting),
            owner,
            left=left or self._sightings.is_left_over(key),
            holds=self._old_rows.holds(key),
        )

    def _release(self, key: Key, new: str | None = None, serial: str = "") -> set[str]:
        """Take the sighting from the device that it was of; it is of `new` now, with that serial.

        What was only a name for the time being goes over to the new one.
        """
        old = self.devices.owner.pop(key, None)
        if old is None:
            return set()
        device = self.devices[old]
        device.members.pop(key, None)
        device.note_usb()
        same = device.makeshift or device.facts.serial == serial
        if new is not None and same and not device.members and not device.counted:
            self.devices.merge(old, new)
        return {old}

    def _assign(self, key: Key, home: Home) -> set[str]:
        """Make the sighting that device's; returns the devices that it touched."""
        sighting, udid = self._sightings[key], home.udid
        device = self.devices[udid]
        before, old = device.facts, device.members.get(key)
        ways = before.ways
        if not device.members and not home.on_udev and self._sightings.is_left_over(key):
            device.outlive()
        # A row of a phone that left USB tells where it hung, not where it is, until it answers.
        stale = device.left_usb and not home.on_udev and sighting is not self._answered
        if stale:
            home = replace(home, port="")
        if old != sighting:
            if not device.members and not (stale and self._sightings.is_of_here(sighting)):
                ways = " ".join(self.sources.unlooked(ways))
            device.members[key] = sighting
            device.met = True
            self.devices.owner[key] = udid
            device.note_usb()
        learned = self._learned(before, ways, sighting, home)
        if learned != before:
            self.devices.learn(udid, learned)
        if home.port:
            proved = home.on_udev or sighting is self._answered
            place = lasting_place(device.facts.path, home.port)
            self.devices.hang(udid, place, proved=proved)
        if is_far(sighting):
            self.devices.addresses.put(udid, sighting.address)
            listed = self.devices.get(sighting.address)
            if sighting.address != udid and listed is not None and listed.facts.platform is None:
                # The config lists its address: no device of its own once a phone is there.
                self.devices.merge(sighting.address, udid)
        changed = device.facts is not before or device.members.get(key) is not old
        return {udid} if changed else set()

    def _learned(self, facts: Facts, ways: str, sighting: Sighting, home: Home) -> Facts:
        """Keep the newest word on each fact; a source that does not know says nothing."""
        remote = sighting.source in self.sources.remote
        port = home.port or (sighting.port if remote else "") or facts.port
        path = self._sightings.path(port, facts.path if port == facts.port else "")
        serial = facts.serial or home.serial
        name, model = _told(facts, sighting)
        way = way_of(sighting)
        read = facts.serial_read and SourceName.UDEV in ways.split()
        if tells_serial(sighting):
            read = bool(serial_of(sighting))
        return Facts(
            facts.udid,
            # Apple's always have one: what is left is an Android phone with debugging off.
            sighting.platform or facts.platform or Platform.ANDROID,
            name=name,
            model=model,
            port=port,
            shared_serial=serial in self.devices.shared,
            path=path,
            address=sighting.address if is_far(sighting) else facts.address,
            serial=serial,
            ways=" ".join(sorted({*ways.split(), way})) if ways else way,
            serial_read=read,
        )


_NOBODYS = Home()


def _told(facts: Facts, sighting: Sighting) -> tuple[str, str]:
    """The newest word on name and model; a source that does not know says nothing."""
    # udev's model is a descriptor string; what the phone itself says to its bridge is better.
    weak = sighting.source is SourceName.UDEV and (facts.model or sighting.usb in MUTE_MODES)
    return sighting.name or facts.name, facts.model if weak else sighting.model or facts.model
