"""The short way to whose a sighting is, held against the long one: whatever is seen, they agree.

The long way is the same code with `Sure` saying nothing.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from agent.model import (
    Bridge,
    Changed,
    Down,
    Gone,
    Platform,
    Sighting,
    Snapshot,
    SourceName,
    UsbKind,
)
from agent.track.identity import Identities
from agent.track.known import Known
from agent.track.sure import Sure
from tests.track.test_identity_walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from agent.model import Observation
    from agent.track.joining import Key
    from agent.track.sure import Home

UDEV, ADB, USBMUX = SourceName.UDEV, SourceName.ADB, SourceName.USBMUX
PLAIN = ("R58M01", "R58M02", "R58M03", "ZUG 5S", "ZUG_5S", "AB-12", "emulator-5554", "12")
ODD = ("0123456789ABCDEF", "????", "", "R58M01@1-1", "CPID:8030 ECID:0001A2B3C4D5E6F7")
APPLE = ("00008030-0001A2B3C4D5E6F7", "000080300002A2B3C4D5E6F7", "00008030-0003A2B3C4D5E6F7")
PORTS = ("1-1", "1-2", "1-3.1", "2-1", "2-3.1")
FAR = ("10.0.0.7:5555", "10.0.0.8:5555")


class World:
    """What a random lab says; most of it is plain."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.odd = self.random.choice((0.0, 0.05, 0.3))
        self.ports_told = self.random.random() < 0.7
        self.homes = dict(zip(PLAIN, self.random.sample(PORTS * 2, len(PLAIN)), strict=True))
        self.homes |= dict(zip(APPLE, self.random.sample(PORTS, len(APPLE)), strict=True))
        self.buses = self.random.random() < 0.2

    def is_odd(self) -> bool:
        return self.random.random() < self.odd

    def serial(self, of: tuple[str, ...]) -> str:
        return self.random.choice(ODD if self.is_odd() else of)

    def port(self, serial: str) -> str:
        if serial not in self.homes or self.is_odd():
            return self.random.choice(PORTS)
        return self.homes[serial]

    def sighting(self, source: SourceName) -> Sighting:
        see = {UDEV: self.on_udev, ADB: self.on_adb, USBMUX: self.on_usbmux}
        return see[source]()

    def on_udev(self) -> Sighting:
        ios = self.random.random() < 0.3
        serial = self.serial(APPLE if ios else PLAIN)
        port = self.port(serial)
        kind = UsbKind.APPLE if ios else self.random.choice((UsbKind.ADB, UsbKind.MTP))
        if self.is_odd():
            kind = self.random.choice(list(UsbKind))
        platform: Platform | None = Platform.IOS if ios else Platform.ANDROID
        if kind in {UsbKind.EMERGENCY, UsbKind.OTHER}:
            platform = None
        controller = "14" if self.buses and self.is_odd() else f"1{port[0]}"
        path = f"/devices/pci0000:00/0000:00:{controller}.0/usb{port[0]}/{port}"
        told = serial.replace(" ", "_")
        model = self.random.choice(("", "SAMSUNG_Android"))
        return Sighting(UDEV, path, told, platform, port, kind, model=model)

    def on_adb(self) -> Sighting:
        serial = self.serial(PLAIN) or "????????????"
        bridge = self.random.choice((Bridge.READY, Bridge.READY, Bridge.NOT_READY, Bridge.UNKNOWN))
        name = self.random.choice(("", "Galaxy"))
        if self.is_odd():
            far = self.random.choice(FAR)
            own = self.random.choice(("", serial))
            return Sighting(
                ADB, far, far, Platform.ANDROID, bridge=bridge, network=True, usb_serial=own
            )
        address = f"{serial}#{self.random.randrange(4)}" if self.is_odd() else serial
        port = self.port(serial) if self.ports_told else ""
        return Sighting(ADB, address, serial, Platform.ANDROID, port, bridge=bridge, name=name)

    def on_usbmux(self) -> Sighting:
        serial = self.serial(APPLE)
        number = str(self.random.randrange(20)) if self.is_odd() else str(hash_of(serial))
        return Sighting(
            USBMUX, number, serial, Platform.IOS, bridge=Bridge.READY, network=self.is_odd()
        )

    def observation(self) -> Observation:
        source = self.random.choice((UDEV, ADB, ADB, USBMUX))
        kind = self.random.random()
        if kind < 0.3:
            many = {s.address: s for s in (self.sighting(source) for _ in range(12))}
            return Snapshot(source, tuple(many.values()))
        if kind < 0.5:
            return Down(source, "away")
        seen = self.sighting(source)
        return Gone(source, seen.address) if kind < 0.6 else Changed(seen)


def hash_of(serial: str) -> int:
    """A number of its own for each of Apple's."""
    return APPLE.index(serial) + 1 if serial in APPLE else 9


class Both:
    """The same lab, known in two ways."""

    def __init__(self, known: list[Known]) -> None:
        self.short, self.long = (
            Identities(sources=SourceName, known=known, network=frozenset(SourceName))
            for _ in range(2)
        )

    def each(self, do: Callable[[Identities], object]) -> None:
        """Do it in both, and hold all that can be asked against each other."""
        told = do(self.short)
        with patch.object(Sure, "alone", return_value=None):
            assert told == do(self.long)
        assert list(facts_of(self.short)) == list(facts_of(self.long))


def facts_of(identities: Identities) -> Iterator[object]:
    """All that can be asked."""
    devices = identities.devices
    yield devices.owner
    yield devices.shared
    yield devices.take_renames()
    for udid in devices.udids:
        yield udid
        yield devices[udid]
        yield list(devices[udid].members.items())
        yield devices.aliases(udid)
        yield identities.readings(udid)
        yield devices.of_serial(devices[udid].facts.serial)
        for places in (devices.ports, devices.addresses):
            place = places.of(udid)
            yield place, places.at(place), places.last(place)


def known_before(world: World) -> list[Known]:
    """A few of the store, with and without a place."""
    return [
        Known(
            serial,
            Platform.ANDROID if serial in PLAIN else Platform.IOS,
            port=world.random.choice(("", *PORTS)),
            address=world.random.choice(("", "", "", *FAR)),
            there=world.random.random() < 0.5,
            since_ms=number,
        )
        for number, serial in enumerate(PLAIN + APPLE)
        if world.random.random() < 0.3
    ]


def live(seed: int, steps: int) -> None:
    """That many things happen in the lab of that seed."""
    world = World(seed)
    both = Both(known_before(world))
    if world.random.random() < 0.8:
        both.each(lambda i: i.give_up_waiting())
    for _ in range(steps):
        step(world, both)


def step(world: World, both: Both) -> None:
    random = world.random
    act = random.random()
    if act < 0.15:
        udids = both.short.devices.udids
        if udids:
            udid, there = random.choice(udids), random.random() < 0.8
            if both.short.devices[udid].facts.platform is not None:
                both.each(lambda i: i.devices[udid].count(there=there))
    elif act < 0.18:
        listed = random.sample(PLAIN + APPLE + FAR, 3)
        both.each(lambda i: i.devices.know_listed(listed))
    elif act < 0.2:
        on = [name for name in SourceName if random.random() < 0.9]
        remote = [ADB] if random.random() < 0.3 else []
        far = [name for name in SourceName if random.random() < 0.7]
        both.each(lambda i: i.reconfigure(sources=on, remote=remote, network=far))
    elif act < 0.22:
        both.each(lambda i: i.give_up_waiting())
    elif act < 0.25 and both.short.devices.udids:
        udid = random.choice(both.short.devices.udids)
        if not both.short.devices[udid].counted:
            both.each(lambda i: i.devices.forget(udid))
    else:
        observation = world.observation()
        both.each(lambda i: i.apply(observation))


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 600), marks=pytest.mark.long)])
def test_whatever_is_seen_the_short_way_agrees_with_the_long_one(
    seeds: range, ways: Counter[str]
) -> None:
    for seed in seeds:
        try:
            live(seed, 60)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
    assert ways["home"] > 500
    assert ways["new"] > 50
    assert ways["doubt"] > 500


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(5, 200), marks=pytest.mark.long)])
async def test_both_agree_on_the_walk(
    seeds: range, ways: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    apply = Identities.apply

    def noted(identities: Identities, observation: Observation) -> set[str]:
        touched = apply(identities, observation)
        told.append((touched, list(facts_of(identities))))
        return touched

    monkeypatch.setattr(Identities, "apply", noted)
    for seed in seeds:
        for stale in (False, True):
            await walk(seed, 40, stale=stale)
            short = told.copy()
            told.clear()
            with patch.object(Sure, "alone", return_value=None):
                await walk(seed, 40, stale=stale)
            assert short == told, f"seed {seed}, stale {stale}"
            told.clear()
    assert ways["home"] > 50
    assert ways["doubt"] > 50


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the short way was gone, and how often there was doubt."""
    gone: Counter[str] = Counter()
    alone = Sure.alone

    def counted(sure: Sure, key: Key, aside: Collection[Key]) -> tuple[list[Key], Home] | None:
        found = alone(sure, key, aside)
        gone["doubt" if found is None else "home" if found[1].udid else "new"] += 1
        return found

    monkeypatch.setattr(Sure, "alone", counted)
    return gone
