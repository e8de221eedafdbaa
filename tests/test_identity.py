"""Which sightings are one phone: the traps of the field, and properties over any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import Identities, Known, canonical, is_junk, listed
from agent.model import (
    Bridge,
    Changed,
    Down,
    Gone,
    Observation,
    Platform,
    Presence,
    Sighting,
    Snapshot,
    SourceName,
    UsbKind,
)

UDEV, ADB, USBMUX = SourceName.UDEV, SourceName.ADB, SourceName.USBMUX
UDID = "00008030-001A2B3C4D5E6F70"


def usb(serial: str, port: str, kind: UsbKind = UsbKind.ADB) -> Sighting:
    platform = {
        UsbKind.APPLE: Platform.IOS,
        UsbKind.APPLE_RECOVERY: Platform.IOS,
        UsbKind.OTHER: None,
    }.get(kind, Platform.ANDROID)
    return Sighting(UDEV, f"/devices/{port}", serial, platform, port, kind)


def adb(serial: str, port: str = "", bridge: Bridge = Bridge.READY, tid: str = "") -> Sighting:
    address = f"{serial}#{tid}" if tid else serial
    return Sighting(ADB, address, serial, Platform.ANDROID, port, bridge=bridge)


def mux(serial: str, number: int = 1, network: bool = False) -> Sighting:
    return Sighting(USBMUX, str(number), serial, Platform.IOS, bridge=Bridge.READY, network=network)


def house(*known: Known, sources: tuple[SourceName, ...] = (UDEV, ADB, USBMUX)) -> Identities:
    identities = Identities(sources=sources, known=known)
    for source in sources:
        identities.apply(Snapshot(source, ()))
    return identities


def see(identities: Identities, *observations: Sighting | Observation) -> set[str]:
    touched: set[str] = set()
    for o in observations:
        touched |= identities.apply(Changed(o) if isinstance(o, Sighting) else o)
    return touched


def both(identities: Identities, udid: str) -> tuple[Presence, Bridge]:
    readings = identities.readings(udid)
    return readings.presence, readings.bridge


@pytest.mark.parametrize(
    ("serial", "platform", "udid"),
    [
        ("00008030001A2B3C4D5E6F70", Platform.IOS, UDID),
        ("00008030-001a2b3c4d5e6f70", Platform.IOS, UDID),
        ("AB" * 20, Platform.IOS, "ab" * 20),
        ("00008030001A2B3C4D5E6F70\x00\x00", Platform.IOS, UDID),
        ("00008030001A2B3C4D5E6F70", Platform.ANDROID, "00008030001A2B3C4D5E6F70"),
        ("ce0917198075440c057e", Platform.ANDROID, "ce0917198075440c057e"),
        ("abcDEF", Platform.ANDROID, "abcDEF"),
    ],
)
def test_canonical(serial: str, platform: Platform, udid: str) -> None:
    assert canonical(serial, platform) == udid


@given(st.text("0123456789abcdefABCDEF", min_size=24, max_size=24))
def test_canonical_is_one_form_for_all_spellings(digits: str) -> None:
    forms = {digits, digits.lower(), digits.upper(), f"{digits[:8]}-{digits[8:]}"}
    assert len({canonical(form, Platform.IOS) for form in forms}) == 1
    assert len({listed(form) for form in forms}) == 1


@pytest.mark.parametrize(
    "serial",
    [
        "",
        "  ",
        "????????????",
        "____________",
        "(no serial number)",
        "ffffffff",
        "FFFF",
        "0000000000",
    ],
)
def test_junk(serial: str) -> None:
    assert is_junk(serial)


@pytest.mark.parametrize("serial", ["0123456789ABCDEF", "ce09", "f0f0f0", "emulator-5554"])
def test_not_junk(serial: str) -> None:
    assert not is_junk(serial)


def test_udev_and_adb_see_one_phone() -> None:
    identities = house()
    assert see(identities, usb("ce09", "1-4")) == {"ce09"}
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.ABSENT)
    assert see(identities, adb("ce09")) == {"ce09"}
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.READY)
    assert identities.facts("ce09").port == "1-4"


def test_an_iphone_is_joined_over_the_missing_dash() -> None:
    identities = house()
    see(identities, usb("00008030001A2B3C4D5E6F70", "2-1", UsbKind.APPLE), mux(UDID))
    assert identities.udids == (UDID,)
    assert both(identities, UDID) == (Presence.PRESENT, Bridge.READY)


def test_usb_and_network_entries_of_one_iphone_are_one_device() -> None:
    identities = house()
    see(identities, usb(UDID, "2-1", UsbKind.APPLE), mux(UDID, 1), mux(UDID, 2, network=True))
    assert identities.udids == (UDID,)
    see(identities, Gone(UDEV, "/devices/2-1"), Gone(USBMUX, "1"))
    assert both(identities, UDID) == (Presence.UNKNOWN, Bridge.READY)
    see(identities, Gone(USBMUX, "2"))
    assert identities.readings(UDID).bridge is Bridge.ABSENT


def test_a_mode_switch_keeps_the_device() -> None:
    identities = house()
    see(identities, usb("ce09", "1-4"), adb("ce09"))
    see(identities, Gone(UDEV, "/devices/1-4"), Gone(ADB, "ce09"))
    see(identities, replace(usb("ce09", "1-4", UsbKind.MTP), address="/devices/other"))
    assert identities.udids == ("ce09",)
    readings = identities.readings("ce09")
    assert (readings.presence, readings.bridge) == (Presence.PRESENT, Bridge.ABSENT)
    assert "USB debugging is off" in readings.bridge_reason


def test_fastboot_says_so() -> None:
    identities = house()
    see(identities, usb("ce09", "1-4", UsbKind.FASTBOOT))
    assert identities.readings("ce09").bridge_reason == "in the bootloader (fastboot)"


def test_a_keyboard_is_no_phone_but_a_known_serial_is() -> None:
    identities = house(Known("ce09", Platform.ANDROID))
    see(identities, usb("keyboard-1", "1-1", UsbKind.OTHER), usb("ce09", "1-2", UsbKind.OTHER))
    assert identities.udids == ("ce09",)
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.ABSENT)


def test_an_unrecognised_device_becomes_a_phone_once_adb_lists_it() -> None:
    identities = house()
    see(identities, usb("ce09", "1-2", UsbKind.OTHER))
    assert identities.udids == ()
    see(identities, adb("ce09"))
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.READY)


def test_two_phones_of_one_serial_are_told_apart_by_port() -> None:
    identities = house()
    serial = "0123456789ABCDEF"
    see(identities, usb(serial, "1-1"), adb(serial, "1-1"))
    assert identities.udids == (serial,)
    see(identities, usb(serial, "1-2"))
    assert identities.take_renames() == [(serial, f"{serial}@1-1")]
    see(
        identities,
        Gone(ADB, serial),
        adb(serial, "1-1", tid="1"),
        adb(serial, "1-2", Bridge.NOT_READY, tid="2"),
    )
    assert set(identities.udids) == {f"{serial}@1-1", f"{serial}@1-2"}
    assert both(identities, f"{serial}@1-1") == (Presence.PRESENT, Bridge.READY)
    assert both(identities, f"{serial}@1-2") == (Presence.PRESENT, Bridge.NOT_READY)
    assert identities.facts(f"{serial}@1-1").shared_serial
    see(identities, Gone(UDEV, "/devices/1-2"), Gone(ADB, f"{serial}#2"))
    assert both(identities, f"{serial}@1-2")[0] is Presence.ABSENT
    assert both(identities, f"{serial}@1-1") == (Presence.PRESENT, Bridge.READY)


def test_a_shared_serial_is_remembered_over_a_restart() -> None:
    identities = house(Known("0123@1-1", Platform.ANDROID, "1-1"))
    see(identities, usb("0123", "1-1"), adb("0123", "1-1"))
    assert identities.udids == ("0123@1-1",)
    assert both(identities, "0123@1-1") == (Presence.PRESENT, Bridge.READY)


def test_junk_serials_are_told_apart_by_port() -> None:
    identities = house()
    see(identities, usb("", "1-1"), usb("????????????", "1-2"))
    assert set(identities.udids) == {"no-serial@1-1", "no-serial@1-2"}


def test_a_row_without_permissions_joins_the_phone_at_its_port() -> None:
    identities = house()
    see(identities, adb("????????????", "1-4", Bridge.NOT_READY))
    see(identities, usb("ce09", "1-4"))
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.NOT_READY)


def test_an_iphone_in_recovery_keeps_its_identity_by_port() -> None:
    identities = house()
    see(identities, usb(UDID, "2-1", UsbKind.APPLE), mux(UDID))
    see(identities, Gone(USBMUX, "1"), Gone(UDEV, "/devices/2-1"))
    see(identities, usb("SDOM:01 CPID:8030 ECID:001A", "2-1", UsbKind.APPLE_RECOVERY))
    assert identities.udids == (UDID,)
    readings = identities.readings(UDID)
    assert (readings.presence, readings.bridge) == (Presence.PRESENT, Bridge.ABSENT)
    assert readings.bridge_reason == "in recovery or DFU mode"


def test_an_unknown_iphone_in_recovery_is_nobody() -> None:
    identities = house()
    see(identities, usb("SDOM:01", "2-1", UsbKind.APPLE_RECOVERY))
    assert identities.udids == ()


def test_a_network_phone_is_who_its_serialno_says() -> None:
    identities = house()
    row = Sighting(
        ADB, "10.0.0.7:5555", "10.0.0.7:5555", Platform.ANDROID, bridge=Bridge.READY, network=True
    )
    assert see(identities, row) == set()
    see(identities, replace(row, usb_serial="ce09"))
    assert identities.udids == ("ce09",)
    assert both(identities, "ce09") == (Presence.UNKNOWN, Bridge.READY)
    see(identities, usb("ce09", "1-4"))
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.READY)


def test_an_emulator_is_not_expected_on_usb() -> None:
    identities = house()
    see(identities, adb("emulator-5554"))
    assert both(identities, "emulator-5554") == (Presence.UNKNOWN, Bridge.READY)
    see(identities, Gone(ADB, "emulator-5554"))
    assert both(identities, "emulator-5554") == (Presence.UNKNOWN, Bridge.ABSENT)


def test_a_stored_emulator_is_not_absent_before_adb_speaks() -> None:
    identities = Identities(sources=(UDEV, ADB), known=[Known("emulator-5554", Platform.ANDROID)])
    see(identities, Snapshot(UDEV, ()))
    assert both(identities, "emulator-5554") == (Presence.UNKNOWN, Bridge.UNKNOWN)
    assert not identities.settled


def test_a_source_that_is_down_is_unknown_never_absent() -> None:
    identities = house()
    see(identities, usb("ce09", "1-4"), adb("ce09"))
    assert see(identities, Down(ADB, "server died")) == {"ce09"}
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.UNKNOWN)
    assert identities.readings("ce09").bridge_reason == "server died"
    see(identities, Down(UDEV, "no udevd"))
    assert both(identities, "ce09") == (Presence.UNKNOWN, Bridge.UNKNOWN)
    see(identities, Snapshot(ADB, ()))
    assert both(identities, "ce09") == (Presence.UNKNOWN, Bridge.ABSENT)


def test_a_snapshot_tells_what_is_gone() -> None:
    identities = house()
    see(identities, adb("a"), adb("b"))
    assert see(identities, Snapshot(ADB, (adb("b"), adb("c")))) == {"a", "c"}
    assert identities.readings("a").bridge is Bridge.ABSENT


def test_a_phone_not_asked_yet_is_unknown() -> None:
    identities = house()
    see(identities, usb("ce09", "1-4"), adb("ce09", bridge=Bridge.UNKNOWN))
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.UNKNOWN)


def test_a_disabled_source_is_unknown_for_ever() -> None:
    identities = house(sources=(ADB,))
    assert see(identities, usb("ce09", "1-4")) == set()
    see(identities, adb("ce09"))
    assert both(identities, "ce09") == (Presence.UNKNOWN, Bridge.READY)


def test_who_leans_on_a_port_follows_its_owner_to_a_new_key() -> None:
    identities = house()
    see(identities, usb("", "1-3"), usb("r58m", "1-1"), adb("r58m", "1-3"), usb("r58m", "1-2"))
    assert both(identities, "r58m@1-3") == (Presence.PRESENT, Bridge.READY)


PORTS = ("1-1", "1-2", "1-3")
SERIALS = ("ce09", "r58m", "0123", "", "????????????", UDID)
KINDS = (UsbKind.ADB, UsbKind.MTP, UsbKind.FASTBOOT, UsbKind.OTHER)
ON_USB = st.builds(
    usb, st.sampled_from(SERIALS[:5]), st.sampled_from(PORTS), st.sampled_from(KINDS)
)
ON_ADB = st.builds(
    adb,
    st.sampled_from(SERIALS[:3]),
    st.sampled_from(("", *PORTS)),
    st.sampled_from((Bridge.READY, Bridge.NOT_READY)),
    st.sampled_from(("", "1", "2")),
)
SIGHTINGS = st.one_of(ON_USB, ON_ADB, st.builds(mux, st.just(UDID), st.integers(1, 3)))
OBSERVATIONS = st.one_of(
    SIGHTINGS.map(Changed),
    SIGHTINGS.map(lambda s: Gone(s.source, s.address)),
    st.builds(Down, st.sampled_from(SourceName), st.just("x")),
    st.lists(ON_ADB, max_size=4, unique_by=lambda s: s.address).map(
        lambda rows: Snapshot(ADB, tuple(rows))
    ),
    st.lists(ON_USB, max_size=4, unique_by=lambda s: s.address).map(
        lambda rows: Snapshot(UDEV, tuple(rows))
    ),
)


@given(st.lists(OBSERVATIONS, max_size=40))
def test_what_is_not_touched_does_not_change(observations: list[Observation]) -> None:
    identities = house()
    for observation in observations:
        before = {udid: identities.readings(udid) for udid in identities.udids}
        touched = identities.apply(observation)
        renamed = {old for old, _ in identities.take_renames()}
        for udid, readings in before.items():
            if udid not in touched and udid not in renamed:
                assert identities.readings(udid) == readings


@given(st.lists(OBSERVATIONS, max_size=40))
def test_applying_an_observation_again_changes_nothing(observations: list[Observation]) -> None:
    identities = house()
    for observation in observations:
        identities.apply(observation)
        before = {udid: identities.readings(udid) for udid in identities.udids}
        identities.apply(observation)
        assert {udid: identities.readings(udid) for udid in identities.udids} == before


@given(st.lists(SIGHTINGS, max_size=8, unique_by=lambda s: (s.source, s.address)), st.randoms())
def test_the_order_of_arrival_does_not_matter(sightings: list[Sighting], random: object) -> None:
    """Once all have spoken, the devices on the bench are the same whatever came first."""

    def present(order: list[Sighting]) -> dict[str, tuple[Presence, Bridge]]:
        identities = house()
        see(identities, *order)
        return {
            udid: state
            for udid in identities.udids
            if (state := both(identities, udid)) != (Presence.ABSENT, Bridge.ABSENT)
        }

    shuffled = list(sightings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert present(sightings) == present(shuffled)
