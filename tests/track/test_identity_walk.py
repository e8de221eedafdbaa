"""A random walk: phones on a bench, and whether each is one device, the same one, all the way.

The bench is true (who hangs where, in which mode), the sources tell of it in any order, late, or
not at all for a while; the agent and the machine are started anew. Whatever comes:

- every phone that is there is one device, no two are the same one, and it stays that one;
- nothing makes a transition but what happened to the phone;
- a port's memory never takes a phone for one that is elsewhere.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.model import (
    Bridge,
    Changed,
    DeviceRecord,
    DeviceState,
    Down,
    Gone,
    Platform,
    Sighting,
    Snapshot,
    SourceName,
    Transition,
    UsbKind,
)
from tests.kit import reasons
from tests.kit.clock import StubClock
from tests.kit.tracking import pipeline_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Callback, Observation

UDEV, ADB, USBMUX = SourceName.UDEV, SourceName.ADB, SourceName.USBMUX
CONFIG = "[android]\nnetwork_devices = true\n"
PLACES = (("14", "1"), ("14", "2.1"), ("15", "1"), ("15", "3"))
"""(controller, port below it): what a reboot does not change."""
TWIN = "0123456789ABCDEF"
EMERGENCY = {"edl", "dfu"}
ANDROID_MODES = {
    "adb": UsbKind.ADB,
    "unauthorized": UsbKind.ADB,
    "recovery": UsbKind.ADB,
    "mtp": UsbKind.MTP,
    "fastboot": UsbKind.FASTBOOT,
    "edl": UsbKind.EMERGENCY,
}
IOS_MODES = {"normal": UsbKind.APPLE, "dfu": UsbKind.APPLE_RECOVERY}


@dataclass
class Phone:
    """One on the bench, or in a drawer."""

    name: str
    serial: str
    ios: bool = False
    address: str = ""
    """Of one on the network: it has no place."""
    place: tuple[str, str] | None = None
    mode: str = ""
    number: int = 0
    """The id that adb or usbmuxd gave it when it came."""
    key: str = ""
    """The device that it was when all was quiet."""
    changed: bool = False
    """Since then."""
    left: bool = False
    """Since then, for longer than any hold."""
    named: bool = False
    """Whether it was seen in a mode that says who it is, since it came."""
    seen: bool = False
    """Whether udev told of it and its serial, since it came."""
    unplaced: bool = False
    """Whether adb told of it where nobody could know which port of before the reboot that is."""

    @property
    def there(self) -> bool:
        return bool(self.place) or (bool(self.address) and bool(self.mode))

    @property
    def state(self) -> DeviceState:
        ready = self.mode in {"adb", "normal"}
        return DeviceState.ONLINE if ready else DeviceState.OFFLINE

    @property
    def blind(self) -> bool:
        """Whether it has not said who it is, and does not."""
        return self.mode in EMERGENCY and not self.named

    @property
    def unique(self) -> bool:
        """Whether its serial says who it is."""
        return bool(self.serial) and self.serial != TWIN and not self.address


@dataclass
class Recorder:
    """A store that keeps what it is told in memory."""

    records: dict[str, DeviceRecord] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)

    async def record(
        self, record: DeviceRecord, transition: Transition | None, callbacks: Sequence[Callback]
    ) -> tuple[Callback, ...]:
        self.records[record.udid] = record
        if transition is not None:
            self.transitions.append(transition)
        return tuple(callbacks)


class Bench:
    """The walk; everything hangs on its seed.

    With `stale`, adb lists phones where they hung for long after they left.
    """

    def __init__(self, seed: int, *, stale: bool = False) -> None:
        self.random = Random(seed)
        self.stale = stale
        self.left_behind: list[Phone] = []
        """As adb still lists them; `seen`: udev told this agent that it hangs there no more."""
        self.phones = [
            *(Phone(f"twin {n}", TWIN) for n in (1, 2, 3)),
            Phone("plain", "ce09"),
            Phone("blanks", "ZUG 5S"),
            Phone("nameless", ""),
            *(Phone(f"iphone {n}", f"00008030-00{n}A2B3C4D5E6F70", ios=True) for n in (1, 2)),
            *(Phone(f"wifi {n}", "cafe", address=f"10.0.0.{n}:5555") for n in (7, 8)),
        ]
        self.modem: tuple[str, str] | None = None
        self.buses = {"14": 1, "15": 2}
        self.renamed: set[tuple[str, str]] = set()
        """Places at which udev has shown no twin since the buses were exchanged."""
        self.shown: set[tuple[str, str]] = set()
        """Places at which udev has shown anything since the agent's start."""
        self.numbers = 0
        self.up = dict.fromkeys(SourceName, True)
        self.told: dict[SourceName, dict[str, Sighting]] = {name: {} for name in SourceName}
        self.store = Recorder()
        self.clock = StubClock()
        self.twin_keys: dict[tuple[str, str], str] = {}
        self.twins_met = self.wifi_met = False
        self.moved: set[str] = set()
        """The devices to whose phones something happened since the last check."""
        self.guessed = False
        """Whether since the last check a phone was there that did not say who it is."""
        self.log: list[str] = []
        self.start()

    # --- what the sources see --------------------------------------------------------------

    def port(self, place: tuple[str, str]) -> str:
        return f"{self.buses[place[0]]}-{place[1]}"

    def devpath(self, place: tuple[str, str]) -> str:
        bus = self.buses[place[0]]
        first, *more = place[1].split(".")
        chain = [f"{bus}-{first}", *([self.port(place)] if more else [])]
        return "/".join(["/devices/pci0000:00", f"0000:00:{place[0]}.0", f"usb{bus}", *chain])

    def on_udev(self) -> list[Sighting]:
        found = []
        for phone in self.phones:
            if phone.place is None:
                continue
            kind = (IOS_MODES if phone.ios else ANDROID_MODES)[phone.mode]
            serial = phone.serial.replace(" ", "_")
            platform: Platform | None = Platform.IOS if phone.ios else Platform.ANDROID
            if phone.mode == "dfu":
                serial = "CPID:8030 ECID:0001"
            if phone.mode == "edl":
                serial, platform = "", None
            found.append(
                Sighting(
                    UDEV, self.devpath(phone.place), serial, platform, self.port(phone.place), kind
                )
            )
        if self.modem is not None:
            at = self.devpath(self.modem), TWIN, None, self.port(self.modem), UsbKind.OTHER
            found.append(Sighting(UDEV, *at))
        return found

    def on_adb(self) -> list[Sighting]:
        listed = [
            phone
            for phone in self.phones
            if not phone.ios and phone.there and phone.mode in {"adb", "unauthorized", "recovery"}
        ]
        listed += self.left_behind
        found = []
        for phone in listed:
            serial = phone.address or phone.serial or "????????????"
            alike = [other for other in listed if other.serial == phone.serial and phone.place]
            found.append(
                Sighting(
                    ADB,
                    f"{serial}#{phone.number}" if len(alike) > 1 else serial,
                    serial,
                    Platform.ANDROID,
                    self.port(phone.place) if phone.place else "",
                    bridge=Bridge.READY if phone.mode == "adb" else Bridge.NOT_READY,
                    reason="" if phone.mode == "adb" else phone.mode,
                    network=bool(phone.address),
                    usb_serial=phone.serial if phone.address and phone.mode == "adb" else "",
                )
            )
        return found

    def on_usbmux(self) -> list[Sighting]:
        return [
            Sighting(USBMUX, str(p.number), p.serial, Platform.IOS, bridge=Bridge.READY)
            for p in self.phones
            if p.mode == "normal"
        ]

    def truth(self, source: SourceName) -> dict[str, Sighting]:
        see = {UDEV: self.on_udev, ADB: self.on_adb, USBMUX: self.on_usbmux}[source]
        return {sighting.address: sighting for sighting in see()}

    def deliver(self, source: SourceName) -> None:
        """The source tells what differs from what it told."""
        if not self.up[source]:
            return
        told, truth = self.told[source], self.truth(source)
        if source is UDEV:
            # Another mode is another enumeration, and so is another phone: it goes, and comes.
            often = self.random.random() < 0.7
            for address in [a for a in told if a in truth and told[a] != truth[a]]:
                if told[address].serial == truth[address].serial and not often:
                    continue
                self.pipeline.observe(Gone(source, address))
                self.pipeline.observe(Changed(truth[address]))
                told[address] = truth[address]
        gone: list[Observation] = [
            Gone(source, address) for address in told if address not in truth
        ]
        new: list[Observation] = [
            Changed(truth[address]) for address in truth if told.get(address) != truth[address]
        ]
        # adb's source tells a phone's new address before it takes the old one back.
        for observation in [*new, *gone] if source is ADB else [*gone, *new]:
            self.pipeline.observe(observation)
        self.told[source] = truth
        self.note_seen()
        self.note_unplaced()

    # --- what happens ----------------------------------------------------------------------

    def start(self) -> None:
        self.shown = set()
        self.pipeline = pipeline_of(
            parse(CONFIG, "walk.toml"),
            {},
            list(self.store.records.values()),
            self.store,
            lambda _: None,
            self.clock,
        )
        for source in self.random.sample(list(SourceName), 3):
            self.say(source)

    def say(self, source: SourceName) -> None:
        """A source's first word, or its word when it comes back or goes."""
        self.told[source] = self.truth(source) if self.up[source] else {}
        self.note_seen()
        self.note_unplaced()
        sightings = tuple(self.told[source].values())
        self.pipeline.observe(
            Snapshot(source, sightings) if self.up[source] else Down(source, "away")
        )

    def note_seen(self) -> None:
        """What udev has told of by now, in a mode that says who it is."""
        for phone in self.phones:
            if phone.place is not None:
                told = self.told[UDEV].get(self.devpath(phone.place))
                phone.seen |= told is not None and told.serial == phone.serial.replace(" ", "_")
                if told is not None:
                    self.shown.add(phone.place)
                if phone.seen and phone.serial == TWIN:
                    self.renamed.discard(phone.place)
        for old in self.left_behind:
            assert old.place is not None
            there = self.told[UDEV].get(self.devpath(old.place))
            gone = there is None or there.serial != old.serial.replace(" ", "_")
            old.seen |= self.up[UDEV] and gone

    def note_unplaced(self) -> None:
        """Which twins hang, for all that anybody can know, at ports of no known place.

        adb alone tells of them, and by a port's name that is another port's since the reboot. Each
        is a new device there, and keeps its name, for it was told: from now on it is the place's.
        """
        rows = {} if self.up[UDEV] else self.told[ADB]
        ports = {row.port for row in rows.values() if row.serial == TWIN}
        for phone in self.phones:
            if phone.serial == TWIN and phone.place in self.renamed - self.shown:
                phone.unplaced |= self.port(phone.place) in ports

    def is_left_behind(self, phone: Phone) -> bool:
        """Whether adb may list it where it hung, and one can tell that this is an old list.

        That takes udev's word that it hung there, and adb's that it was ready, before it left: an
        answer is proof of a phone that udev does not see, and so is one that comes afterwards.
        """
        if not phone.serial or phone.place is None or phone.mode != "adb" or not phone.seen:
            return False
        port = self.port(phone.place)
        return any(
            (row.serial, row.port, row.bridge) == (phone.serial, port, Bridge.READY)
            for row in self.told[ADB].values()
        )

    def plug(self, phone: Phone, place: tuple[str, str] | None) -> None:
        self.numbers += 1
        phone.place, phone.number, phone.changed = place, self.numbers, True
        phone.mode = self.random.choice(self.modes(phone))
        phone.named = phone.seen = phone.unplaced = False
        self.left_behind = [
            old for old in self.left_behind if (old.serial, old.place) != (phone.serial, place)
        ]

    def modes(self, phone: Phone) -> list[str]:
        if phone.address:
            # One that lost its serial's word yields to one that has it: the phone may have moved.
            return ["adb", "unauthorized"] if self.wifi_met else ["adb"]
        if phone.ios:
            return list(IOS_MODES)
        # As long as nobody knows that it has twins, one in an emergency mode is anybody's guess.
        hidden = {"edl"} if phone.serial == TWIN and not self.twins_met else set()
        return [mode for mode in ANDROID_MODES if mode not in hidden]

    def unplug(self, phone: Phone) -> None:
        if self.stale and self.is_left_behind(phone) and self.random.random() < 0.5:
            self.left_behind.append(replace(phone, seen=False))
        phone.place, phone.mode, phone.changed, phone.left = None, "", True, True
        phone.named = False

    def free(self) -> list[tuple[str, str]]:
        taken = {phone.place for phone in self.phones}
        return [place for place in PLACES if place not in taken]

    def tell(self) -> None:
        """The sources tell, in any order; or some of them do not, for now."""
        for source in self.random.sample(list(SourceName), 3):
            if self.random.random() < 0.8:
                self.clock.advance(self.random.choice((0.0, 0.1, 0.4)))
                self.deliver(source)
        for phone in self.phones:
            if phone.changed and phone.there:
                views = self.pipeline.views.all()
                self.moved |= {v.udid for v in views if self.is_of(v.udid, v.port, phone)}

    async def step(self) -> None:
        there = [phone for phone in self.phones if phone.there]
        away = [phone for phone in self.phones if not phone.there]
        act = self.random.choice(("plug", "plug", "unplug", "mode", "mode", "flicker", "rest"))
        if act == "plug" and away:
            phone = self.random.choice(away)
            free = self.free()
            # A twin that comes unseen, before anybody knows of twins, is the other one, moved.
            strange = phone.serial == TWIN and not self.twins_met and not all(self.up.values())
            strange |= self.is_doubled(phone)
            if (phone.address or free) and not strange:
                self.plug(phone, None if phone.address else self.random.choice(free))
                self.log.append(f"plug {phone}")
        elif act == "unplug" and there:
            phone = self.random.choice(there)
            self.log.append(f"unplug {phone}")
            self.unplug(phone)
            self.deliver(UDEV)  # a hand takes longer to plug in another than udev to say so
        elif act == "mode" and there:
            phone = self.random.choice(there)
            phone.mode, phone.changed = self.random.choice(self.modes(phone)), True
            self.log.append(f"mode {phone}")
        elif act == "unplug" and self.left_behind:
            self.left_behind.pop()
        elif act == "flicker" and there:
            self.flicker(self.random.choice(there))
        elif act == "rest":
            await self.rest()
        self.guessed |= any(phone.blind for phone in self.phones)
        self.tell()
        self.check_reasons()

    @property
    def told_apart(self) -> set[str]:
        """Serials whose phones are known by their ports."""
        return {TWIN} if self.twins_met else set()

    def is_doubled(self, phone: Phone) -> bool:
        """Whether one that comes now is two, for all that anybody can know.

        adb has a row of it at another port, udev does not watch, and did not see it leave there.
        """
        if self.up[UDEV] or phone.serial in self.told_apart:
            return False
        return any(old.serial == phone.serial and not old.seen for old in self.left_behind)

    def flicker(self, phone: Phone) -> None:
        """Off the bus for less than a hold."""
        if phone.blind:
            return
        self.log.append(f"flicker {phone}")
        for source in SourceName:
            self.deliver(source)
        place, mode = phone.place, phone.mode
        phone.place, phone.mode, phone.changed = None, "", True
        for source in SourceName:
            self.deliver(source)
        self.clock.advance(self.random.choice((0.2, 1.0, 2.0)))
        phone.place, phone.mode, phone.seen = place, mode, False
        self.numbers += 1
        phone.number = self.numbers
        for source in self.random.sample(list(SourceName), 3):
            self.deliver(source)  # before its twin comes: that one would be it, moved

    async def rest(self) -> None:
        """What is no phone's doing."""
        act = self.random.choice(("source", "source", "restart", "reboot", "modem"))
        if act == "source":
            source = self.random.choice(list(SourceName))
            new = any(p.serial == TWIN and p.place and not p.key for p in self.phones)
            if source is UDEV and self.up[UDEV] and new and not self.twins_met:
                return  # one that has not counted yet is the other one, moved, once udev is down
            self.up[source] = not self.up[source]
            self.left_behind = [] if source is ADB else self.left_behind
            self.log.append(f"{source} {'up' if self.up[source] else 'down'}")
            self.say(source)
            if not self.up[UDEV]:
                for phone in self.phones:
                    # What has not counted yet is forgotten, and with it what udev saw of it.
                    phone.seen &= bool(phone.key)
        elif act == "modem":
            self.modem = ("15", "4") if self.modem is None else None
            self.log.append(f"modem {self.modem}")
        else:
            self.log.append(act)
            for phone in self.phones:
                stored = self.store.records.get(phone.key)
                if phone.mode in EMERGENCY and stored and stored.state is DeviceState.UNPLUGGED:
                    phone.named = False  # back, but not for long enough to count by then
            # Whoever is listed is asked anew, and none of these answers.
            silent = [replace(old, mode="unauthorized", seen=False) for old in self.left_behind]
            if not self.up[UDEV]:  # who is listed twice then, by a silent row, may well be two
                there = {p.serial for p in self.phones if p.place} - self.told_apart
                silent = [old for old in silent if old.serial not in there]
            self.left_behind = [] if act == "reboot" else silent
            if act == "reboot" and self.random.random() < 0.5:
                self.buses = {"14": self.buses["15"], "15": self.buses["14"]}
                self.renamed = set(PLACES)
                self.up[UDEV] = True  # without it nobody knows which port is which by now
            await self.pipeline.close()
            self.start()

    # --- what must be so -------------------------------------------------------------------

    async def check(self) -> None:
        """Let everybody speak and every hold end; then look."""
        for source in self.random.sample(list(SourceName), 3):
            if not self.up[source]:
                self.up[source] = True
                self.say(source)
            self.deliver(source)
        self.clock.advance(300)
        await self.pipeline.commits.drain()
        views = [v for v in self.pipeline.views.all() if v.state is not DeviceState.UNPLUGGED]
        self.check_reasons()
        allowed, self.moved = self.moved, set()
        found: dict[str, Phone] = {}
        for phone in self.phones:
            if not phone.there:
                continue
            mine = [v for v in views if self.is_of(v.udid, v.port, phone)]
            if phone.blind:
                # Taken for whoever was there last, at most: never for one that is elsewhere.
                assert len(mine) <= 1, self.why(phone, views)
                assert all(v.state is phone.state for v in mine), self.why(phone, views)
                allowed |= {v.udid for v in mine}
                continue
            assert len(mine) == 1, self.why(phone, views)
            udid = mine[0].udid
            assert udid not in found, self.why(phone, views)
            found[udid] = phone
            assert mine[0].state is phone.state, self.why(phone, views)
            if phone.key and (phone.unique or not phone.left):
                assert udid == phone.key, self.why(phone, views)
            if phone.changed:
                allowed |= {udid, phone.key}
            phone.key, phone.named = udid, True
        blind = [phone for phone in self.phones if phone.blind]
        assert len(views) <= len(found) + len(blind), self.why(None, views)
        self.check_twins()
        allowed |= {phone.key for phone in self.phones if phone.changed}
        allowed |= {phone.serial for phone in self.phones if phone.changed and phone.unique}
        here = {phone.key for phone in self.phones if phone.there and not phone.blind}
        for transition in self.store.transitions:
            udid = transition.udid
            # A phone that came without saying who it is may have been taken for one that is gone.
            assert udid in allowed or (self.guessed and udid not in here), (
                transition,
                self.why(None, views),
            )
        self.guessed = any(phone.blind for phone in self.phones)
        self.store.transitions.clear()
        for phone in self.phones:
            phone.changed = False
            phone.left &= not phone.there or phone.blind

    def check_reasons(self) -> None:
        """Whoever is told of one is told its code, too."""
        for view in self.pipeline.views.all():
            reasons.check(view.reason, view.code)
        for record in self.store.records.values():
            reasons.check(record.reason, record.code)
        for transition in self.store.transitions:
            reasons.check(transition.reason, transition.code)

    def check_twins(self) -> None:
        """Once two of them met, each place has its device for good."""
        twins = [p for p in self.phones if p.serial == TWIN and p.place and not p.blind]
        self.twins_met |= len(twins) > 1
        self.wifi_met |= all(p.there for p in self.phones if p.address)
        if self.twins_met:
            for twin in twins:
                assert twin.place is not None
                if twin.unplaced:
                    self.twin_keys[twin.place] = twin.key
                assert self.twin_keys.setdefault(twin.place, twin.key) == twin.key, self.why(twin)

    def is_of(self, udid: str, port: str, phone: Phone) -> bool:
        if phone.place is not None:
            return port == self.port(phone.place)
        return udid in self.pipeline.roster.named(phone.address)

    def why(self, phone: Phone | None, views: object = "") -> str:
        tail = "\n".join(self.log[-40:])
        shown = "\n".join(map(str, views)) if isinstance(views, list) else ""
        return f"{phone}\nbuses {self.buses} modem {self.modem}\n{tail}\n{shown}"


async def walk(seed: int, steps: int, *, stale: bool = False) -> None:
    bench = Bench(seed, stale=stale)
    for _ in range(steps):
        await bench.step()
        await asyncio.sleep(0)
        if bench.random.random() < 0.3:
            await bench.check()
            bench.log.append("--- checked")
    await bench.check()


@pytest.mark.parametrize(
    "seeds", [range(15), pytest.param(range(15, 1000), marks=pytest.mark.long)]
)
async def test_every_phone_is_one_device_all_the_way(seeds: range) -> None:
    for seed in seeds:
        try:
            await walk(seed, 60)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None


@pytest.mark.parametrize(
    "seeds", [range(15), pytest.param(range(15, 1000), marks=pytest.mark.long)]
)
async def test_every_phone_is_one_device_also_while_adb_lists_where_it_hung(seeds: range) -> None:
    for seed in seeds:
        try:
            await walk(seed, 60, stale=True)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
