"""Which sightings are one phone: the traps of the field, and properties over any order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from agent.track.identity import Identities
from agent.track.known import Known
from agent.udid import canonical, is_junk, listed
from tests.kit.tracking import far

if TYPE_CHECKING:
    from random import Random

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
    assert identities.devices["ce09"].facts.port == "1-4"


def test_an_iphone_is_joined_over_the_missing_dash() -> None:
    identities = house()
    see(identities, usb("00008030001A2B3C4D5E6F70", "2-1", UsbKind.APPLE), mux(UDID))
    assert identities.devices.udids == (UDID,)
    assert both(identities, UDID) == (Presence.PRESENT, Bridge.READY)


def test_usb_and_network_entries_of_one_iphone_are_one_device() -> None:
    identities = house()
    see(identities, usb(UDID, "2-1", UsbKind.APPLE), mux(UDID, 1), mux(UDID, 2, network=True))
    assert identities.devices.udids == (UDID,)
    see(identities, Gone(UDEV, "/devices/2-1"), Gone(USBMUX, "1"))
    assert both(identities, UDID) == (Presence.UNKNOWN, Bridge.READY)
    see(identities, Gone(USBMUX, "2"))
    assert identities.readings(UDID).bridge is Bridge.ABSENT


def test_a_mode_switch_keeps_the_device() -> None:
    identities = house()
    see(identities, usb("ce09", "1-4"), adb("ce09"))
    see(identities, Gone(UDEV, "/devices/1-4"), Gone(ADB, "ce09"))
    see(identities, replace(usb("ce09", "1-4", UsbKind.MTP), address="/devices/other"))
    assert identities.devices.udids == ("ce09",)
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
    assert identities.devices.udids == ("ce09",)
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.ABSENT)


def test_an_unrecognised_device_becomes_a_phone_once_adb_lists_it() -> None:
    identities = house()
    see(identities, usb("ce09", "1-2", UsbKind.OTHER))
    assert identities.devices.udids == ()
    see(identities, adb("ce09"))
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.READY)


def test_two_phones_of_one_serial_are_told_apart_by_port() -> None:
    identities = house()
    serial = "0123456789ABCDEF"
    see(identities, usb(serial, "1-1"), adb(serial, "1-1"))
    assert identities.devices.udids == (serial,)
    see(identities, usb(serial, "1-2"))
    see(
        identities,
        Gone(ADB, serial),
        adb(serial, "1-1", tid="1"),
        adb(serial, "1-2", Bridge.NOT_READY, tid="2"),
    )
    assert identities.devices.take_renames() == [], "nobody is renamed while it is there"
    assert set(identities.devices.udids) == {serial, f"{serial}@1-2"}
    assert both(identities, serial) == (Presence.PRESENT, Bridge.READY)
    assert both(identities, f"{serial}@1-2") == (Presence.PRESENT, Bridge.NOT_READY)
    assert identities.devices[serial].facts.shared_serial
    see(identities, Gone(UDEV, "/devices/1-1"), Gone(ADB, f"{serial}#1"))
    assert both(identities, serial)[0] is Presence.ABSENT
    assert both(identities, f"{serial}@1-2") == (Presence.PRESENT, Bridge.NOT_READY)


def test_rows_that_exchange_their_addresses_in_one_snapshot_are_the_same_phones() -> None:
    identities = house()
    see(identities, Snapshot(ADB, (adb("ce09", "1-1"), adb("ce09", "1-2", tid="1"))))
    before = set(identities.devices.udids)
    see(identities, Snapshot(ADB, (adb("ce09", "1-1", tid="1"), adb("ce09", "1-2"))))
    assert set(identities.devices.udids) == before == {"ce09", "ce09@1-2"}
    assert {udid: identities.devices[udid].facts.port for udid in before} == {
        "ce09": "1-1",
        "ce09@1-2": "1-2",
    }


def test_a_shared_serial_is_remembered_over_a_restart() -> None:
    identities = house(Known("0123@1-1", Platform.ANDROID, "1-1"))
    see(identities, usb("0123", "1-1"), adb("0123", "1-1"))
    assert identities.devices.udids == ("0123@1-1",)
    assert both(identities, "0123@1-1") == (Presence.PRESENT, Bridge.READY)


def test_junk_serials_are_told_apart_by_port() -> None:
    identities = house()
    see(identities, usb("", "1-1"), usb("????????????", "1-2"))
    assert set(identities.devices.udids) == {"no-serial@1-1", "no-serial@1-2"}


def test_a_row_without_a_serial_whose_port_is_told_late_stays_one_phone() -> None:
    identities = house()
    see(identities, adb("????????????"))
    see(identities, adb("????????????", "1-4"))
    assert len(identities.devices.udids) == 1
    see(identities, usb("", "1-4"))
    assert [both(identities, udid) for udid in identities.devices.udids] == [
        (Presence.PRESENT, Bridge.READY)
    ]


def test_a_row_without_a_serial_beside_one_that_has_it_is_not_that_phone() -> None:
    identities = house()
    see(identities, usb("ce09", "1-1"), adb("ce09", "1-1"), adb("????????????", "1-1"))
    see(identities, Gone(ADB, "ce09"))
    see(identities, Gone(UDEV, "/devices/1-1"))
    assert both(identities, "ce09")[0] is Presence.ABSENT


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
    assert identities.devices.udids == (UDID,)
    readings = identities.readings(UDID)
    assert (readings.presence, readings.bridge) == (Presence.PRESENT, Bridge.ABSENT)
    assert readings.bridge_reason == "in recovery or DFU mode"


def test_an_unknown_iphone_in_recovery_is_nobody() -> None:
    identities = house()
    see(identities, usb("SDOM:01", "2-1", UsbKind.APPLE_RECOVERY))
    assert identities.devices.udids == ()


def test_a_network_phone_is_who_its_serialno_says() -> None:
    identities = house()
    row = Sighting(
        ADB, "10.0.0.7:5555", "10.0.0.7:5555", Platform.ANDROID, bridge=Bridge.READY, network=True
    )
    assert see(identities, row) == {"10.0.0.7:5555"}, "shown by its address until it tells"
    see(identities, replace(row, usb_serial="ce09"))
    assert identities.devices.udids == ("ce09",)
    assert identities.devices.take_renames() == [("10.0.0.7:5555", "ce09")]
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
    assert not identities.sources.all_spoke


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


SERIAL = "0123456789ABCDEF"


def at(
    serial: str, bus: int, port: str, controller: str = "14", kind: UsbKind = UsbKind.ADB
) -> Sighting:
    """On udev, below a controller that a reboot may give another bus number."""
    sighting = usb(serial, f"{bus}-{port}", kind)
    devpath = f"/devices/pci0000:00/0000:00:{controller}.0/usb{bus}/{bus}-{port}"
    return replace(sighting, address=devpath)


@pytest.mark.parametrize(
    ("adbs", "udevs"),
    [
        ("ZUG 5S", "ZUG_5S"),
        (" ZUG  5S ", "ZUG_5S"),
        ("a/b(c)d&e", "a_b_c_d_e"),
        ("SN#1+2-3.4:5=6@7_8", "SN#1+2-3.4:5=6@7_8"),
        ("GER\u00c4T\u00e9", "GER\u00c4T\u00e9"),
        ("tab\tbed", "tab_bed"),
    ],
)
@pytest.mark.parametrize("port", ["1-4", ""])
@pytest.mark.parametrize("first", ["adb", "udev"])
def test_one_serial_in_the_spelling_of_adb_and_of_udev(
    adbs: str, udevs: str, port: str, first: str
) -> None:
    identities = house()
    both_say = [adb(adbs, port), usb(udevs, "1-4")]
    see(identities, *(both_say if first == "adb" else reversed(both_say)))
    assert identities.devices.udids == (adbs.strip(),), "adb's spelling is the UDID"
    assert both(identities, adbs.strip()) == (Presence.PRESENT, Bridge.READY)


def test_a_spelling_that_counted_stays() -> None:
    identities = house()
    see(identities, usb("ZUG_5S", "1-4", UsbKind.MTP))
    identities.devices["ZUG_5S"].count(there=True)
    see(identities, adb("ZUG 5S", "1-4"))
    assert identities.devices.udids == ("ZUG_5S",)
    assert "ZUG 5S" in identities.devices.aliases("ZUG_5S")
    again = house(Known("ZUG_5S", Platform.ANDROID))
    see(again, adb("ZUG 5S", "1-4"))
    assert again.devices.udids == ("ZUG_5S",)


def test_a_port_that_both_name_joins_what_no_rule_of_spelling_does() -> None:
    identities = house()
    see(identities, usb("GERT", "1-4"), adb("GER\u00c4T", "1-4"))
    assert len(identities.devices.udids) == 1


def test_a_list_that_is_late_joins_nobody_to_the_phone_at_its_old_port() -> None:
    identities = house()
    see(identities, usb("r58m", "1-1"), adb("r58m", "1-1"))
    see(identities, Gone(UDEV, "/devices/1-1"), usb("ce09", "1-1"))
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.ABSENT)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_modem_and_a_disk_with_a_phones_serial_are_none(order: tuple[int, ...]) -> None:
    identities = house()
    things = [
        usb(SERIAL, "1-1"),
        usb(SERIAL, "1-2", UsbKind.OTHER),
        usb(SERIAL, "1-3", UsbKind.OTHER),
    ]
    see(identities, *(things[n] for n in order), adb(SERIAL, "1-1"))
    assert identities.devices.udids == (SERIAL,)
    assert identities.devices.take_renames() == []
    assert identities.devices[SERIAL].facts.port == "1-1"
    assert not identities.devices[SERIAL].facts.shared_serial
    see(identities, Gone(ADB, SERIAL), Gone(UDEV, "/devices/1-1"))
    assert both(identities, SERIAL)[0] is Presence.ABSENT, "the modem is not the phone"


def test_a_modem_alone_is_not_the_phone_that_hung_elsewhere() -> None:
    identities = house(Known(SERIAL, Platform.ANDROID, "1-1"))
    see(identities, usb(SERIAL, "1-2", UsbKind.OTHER))
    assert both(identities, SERIAL)[0] is Presence.ABSENT


def test_a_phone_in_an_odd_mode_is_itself_at_its_port() -> None:
    identities = house()
    see(identities, usb(SERIAL, "1-1"), usb(SERIAL, "1-2", UsbKind.OTHER))
    see(identities, Gone(UDEV, "/devices/1-1"), usb(SERIAL, "1-1", UsbKind.OTHER))
    assert both(identities, SERIAL)[0] is Presence.PRESENT
    assert identities.devices[SERIAL].facts.port == "1-1"


def test_two_network_phones_of_one_serial_are_two() -> None:
    identities = house()
    see(identities, far("10.0.0.7:5555", "ce09"), far("10.0.0.8:5555", "ce09"))
    assert set(identities.devices.udids) == {"ce09", "10.0.0.8:5555"}
    see(identities, Gone(ADB, "10.0.0.7:5555"))
    assert identities.readings("ce09").bridge is Bridge.ABSENT
    assert identities.readings("10.0.0.8:5555").bridge is Bridge.READY
    see(identities, Gone(ADB, "10.0.0.8:5555"))
    see(identities, far("10.0.0.8:5555", "ce09"), far("10.0.0.7:5555", "ce09"))
    assert identities.readings("ce09").bridge is Bridge.READY, "each has its address's UDID again"
    assert identities.devices["ce09"].facts.address == "10.0.0.7:5555"


@pytest.mark.parametrize("serialno", ["", "unknown", "0000000000"])
def test_a_network_phone_without_a_serial_is_its_address(serialno: str) -> None:
    identities = house()
    see(identities, far("10.0.0.7:5555", serialno), far("[fe80::1]:5555", serialno))
    assert set(identities.devices.udids) == {"10.0.0.7:5555", "[fe80::1]:5555"}
    assert both(identities, "10.0.0.7:5555") == (Presence.UNKNOWN, Bridge.READY)


def test_a_network_phone_that_was_told_keeps_its_address_until_it_left() -> None:
    identities = house()
    see(identities, far("10.0.0.7:5555", bridge=Bridge.NOT_READY))
    identities.devices["10.0.0.7:5555"].count(there=True)
    see(identities, far("10.0.0.7:5555", "ce09"))
    assert identities.devices.udids == ("10.0.0.7:5555",)
    assert "ce09" in identities.devices.aliases("10.0.0.7:5555")


def test_a_network_phone_listed_offline_after_a_restart_is_who_was_there() -> None:
    identities = house(Known("ce09", Platform.ANDROID, address="10.0.0.7:5555"))
    see(identities, far("10.0.0.7:5555", bridge=Bridge.NOT_READY))
    assert identities.devices.udids == ("ce09",)
    assert identities.readings("ce09").bridge is Bridge.NOT_READY


def test_one_phone_by_its_mdns_name_and_its_address_is_one() -> None:
    identities = house()
    see(
        identities, far("adb-ce09-Ab1._adb-tls-connect._tcp", "ce09"), far("10.0.0.7:37001", "ce09")
    )
    assert identities.devices.udids == ("ce09",)


def test_an_emergency_mode_is_who_was_at_that_port_last() -> None:
    identities = house()
    see(identities, usb("ce09", "1-4"), adb("ce09", "1-4"))
    see(identities, Gone(ADB, "ce09"), Gone(UDEV, "/devices/1-4"))
    edl = Sighting(UDEV, "/devices/1-4", "", None, "1-4", UsbKind.EMERGENCY, reason="in EDL mode")
    see(identities, edl)
    assert both(identities, "ce09") == (Presence.PRESENT, Bridge.ABSENT)
    assert "EDL" in identities.readings("ce09").bridge_reason
    see(identities, usb("ce09", "1-2"))
    assert identities.devices["ce09"].facts.port == "1-2", (
        "it is elsewhere: the other one is nobody"
    )
    assert identities.devices.udids == ("ce09",)


def test_an_iphone_that_moved_is_not_the_one_in_recovery_at_its_old_port() -> None:
    identities = house()
    see(identities, usb(UDID, "1-1", UsbKind.APPLE), mux(UDID))
    see(identities, Gone(UDEV, "/devices/1-1"), usb(UDID, "1-2", UsbKind.APPLE))
    see(identities, usb("CPID:8030 ECID:0001", "1-1", UsbKind.APPLE_RECOVERY))
    see(identities, Gone(UDEV, "/devices/1-2"), Gone(USBMUX, "1"))
    assert both(identities, UDID)[0] is Presence.ABSENT


def test_whose_place_it_was_before_the_last_one_is_nobodys() -> None:
    other = "00008101-001A2B3C4D5E6F70"
    identities = house()
    see(identities, usb(other, "1-1", UsbKind.APPLE), Gone(UDEV, "/devices/1-1"))
    see(identities, usb(UDID, "1-1", UsbKind.APPLE), Gone(UDEV, "/devices/1-1"))
    see(identities, usb(UDID, "1-2", UsbKind.APPLE))
    see(identities, usb("CPID:8030 ECID:0001", "1-1", UsbKind.APPLE_RECOVERY))
    assert both(identities, other)[0] is Presence.ABSENT


@pytest.mark.parametrize(("there", "present"), [(True, Presence.PRESENT), (False, Presence.ABSENT)])
def test_over_a_restart_a_port_is_only_whose_who_had_not_left(
    there: bool, present: Presence
) -> None:
    identities = house(Known(UDID, Platform.IOS, "1-1", there=there))
    see(identities, usb("CPID:8030 ECID:0001", "1-1", UsbKind.APPLE_RECOVERY))
    assert both(identities, UDID)[0] is present


def test_of_two_that_the_store_has_at_a_port_the_later_one_holds_it() -> None:
    first, second = "00008101-001A2B3C4D5E6F70", "00008110-001A2B3C4D5E6F70"
    identities = house(
        Known(second, Platform.IOS, "1-1", since_ms=2),
        Known(first, Platform.IOS, "1-1", since_ms=1),
    )
    see(identities, usb("CPID:8030 ECID:0001", "1-1", UsbKind.APPLE_RECOVERY))
    assert both(identities, second)[0] is Presence.PRESENT
    assert both(identities, first)[0] is Presence.ABSENT


def test_of_two_that_the_store_has_at_a_port_it_is_the_one_that_is_there_still() -> None:
    """The other one had left long before, which counted later: udev was away."""
    place = "pci-0000:00:14.0-usb-0:1"
    there = f"{SERIAL}@2-1"
    identities = house(
        Known(there, Platform.ANDROID, "2-1", path=place, serial=SERIAL, shared=True, since_ms=1),
        Known(SERIAL, Platform.ANDROID, "1-1", path=place, shared=True, there=False, since_ms=2),
    )
    see(identities, at(SERIAL, 2, "1"))
    assert identities.devices[there].seen
    assert not identities.devices[SERIAL].seen


def test_a_recovery_serial_that_tells_who_it_is_is_believed() -> None:
    identities = house(Known("00008101-000A1234A1B2C3D4", Platform.IOS, "1-1"))
    whole = "CPID:8030_CPRV:11_ECID:001A2B3C4D5E6F70_IBFL:3C"
    see(identities, usb(whole, "1-1", UsbKind.APPLE_RECOVERY))
    assert both(identities, UDID)[0] is Presence.PRESENT
    assert both(identities, "00008101-000A1234A1B2C3D4")[0] is Presence.ABSENT


def test_bus_numbers_exchanged_at_a_reboot_change_nobody() -> None:
    before = house()
    see(before, at(SERIAL, 1, "1"), at(SERIAL, 2, "1", "15"), at("", 1, "2"))
    names = {before.devices[udid].facts.path: udid for udid in before.devices.udids}
    assert not any("@1-" in udid or "@2-" in udid for udid in before.devices.udids)
    after = house(
        *(
            Known(
                udid,
                Platform.ANDROID,
                facts.port,
                path=facts.path,
                serial=facts.serial,
                shared=facts.shared_serial,
            )
            for udid in before.devices.udids
            for facts in (before.devices[udid].facts,)
        )
    )
    see(after, at(SERIAL, 2, "1"), at(SERIAL, 1, "1", "15"), at("", 2, "2"))
    assert {after.devices[udid].facts.path: udid for udid in after.devices.udids} == names
    assert all(both(after, udid)[0] is Presence.PRESENT for udid in after.devices.udids)


def test_an_old_store_is_carried_over_although_the_buses_changed() -> None:
    old = [
        Known(f"{SERIAL}@1-4.2", Platform.ANDROID, "1-4.2"),
        Known(f"{SERIAL}@2-1", Platform.ANDROID, "2-1"),
        Known("no-serial@2-3", Platform.ANDROID, "2-3"),
    ]
    identities = house(*old)
    see(identities, at(SERIAL, 2, "4.2"), at(SERIAL, 1, "1", "15"), at("", 1, "3", "15"))
    assert set(identities.devices.udids) == {known.udid for known in old}
    assert all(both(identities, udid)[0] is Presence.PRESENT for udid in identities.devices.udids)
    assert identities.devices[f"{SERIAL}@2-1"].facts.path == "pci-0000:00:15.0-usb-0:1"


def test_of_two_that_had_a_port_of_that_name_it_is_the_one_that_is_there() -> None:
    """One had it before the reboot; udev is down, so nobody knows which port is which."""
    there = f"{SERIAL}@pci-0000:00:15.0-usb-0:1"
    old, new = "pci-0000:00:14.0-usb-0:1", "pci-0000:00:15.0-usb-0:1"
    known = [
        Known(SERIAL, Platform.ANDROID, "2-1", path=old, shared=True, there=False, since_ms=1),
        Known(there, Platform.ANDROID, "2-1", path=new, since_ms=2),
    ]
    identities = Identities(sources=(UDEV, ADB), known=known)
    see(identities, Down(UDEV, "away"), Snapshot(ADB, (adb(SERIAL, "2-1", Bridge.NOT_READY),)))
    assert identities.devices[there].seen
    assert not identities.devices[SERIAL].seen


def test_what_is_turned_off_is_hidden_not_absent() -> None:
    identities = house()
    see(identities, far("10.0.0.7:5555", "ce09"), usb("r58m", "1-1", UsbKind.MTP))
    on = {"sources": (UDEV, ADB, USBMUX), "remote": ()}
    identities.reconfigure(**on, network=())
    assert identities.is_hidden("ce09")
    assert not identities.is_hidden("r58m")
    see(identities, far("10.0.0.7:5555", "ce09"))
    assert not identities.devices["ce09"].seen, "it is not wanted"
    identities.reconfigure(**on, network=(ADB,))
    assert not identities.is_hidden("ce09")
    assert identities.readings("ce09").bridge is Bridge.UNKNOWN, "adb has not said yet"
    identities.reconfigure(sources=(ADB, USBMUX), remote=(), network=(ADB,))
    assert identities.is_hidden("r58m")


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
        before = {udid: identities.readings(udid) for udid in identities.devices.udids}
        touched = identities.apply(observation)
        renamed = {old for old, _ in identities.devices.take_renames()}
        for udid, readings in before.items():
            if udid not in touched and udid not in renamed:
                assert identities.readings(udid) == readings


@given(st.lists(OBSERVATIONS, max_size=40))
def test_applying_an_observation_again_changes_nothing(observations: list[Observation]) -> None:
    identities = house()
    for observation in observations:
        identities.apply(observation)
        before = {udid: identities.readings(udid) for udid in identities.devices.udids}
        identities.apply(observation)
        assert {udid: identities.readings(udid) for udid in identities.devices.udids} == before


BENCHES = st.dictionaries(
    st.sampled_from(("1-1", "1-2", "1-3", "1-4")),
    st.tuples(
        st.sampled_from(SERIALS[:3]),
        st.sampled_from((Bridge.READY, Bridge.NOT_READY, None)),
    ),
)


@given(BENCHES, st.randoms())
def test_the_order_of_arrival_does_not_matter(
    bench: dict[str, tuple[str, Bridge | None]], random: Random
) -> None:
    """Once all have spoken, the phones on the bench are the same whatever came first."""
    sightings = [
        usb(serial, port, UsbKind.ADB if bridge else UsbKind.MTP)
        for port, (serial, bridge) in bench.items()
    ] + [adb(serial, port, bridge, tid=port) for port, (serial, bridge) in bench.items() if bridge]

    def present(order: list[Sighting]) -> list[tuple[str, str, Presence, Bridge]]:
        identities = house()
        see(identities, *order)
        # Which of two twins came first, and has the plain serial, is a matter of order.
        return sorted(
            (udid.partition("@")[0], identities.devices[udid].facts.port, *state)
            for udid in identities.devices.udids
            if (state := both(identities, udid)) != (Presence.ABSENT, Bridge.ABSENT)
        )

    shuffled = list(sightings)
    random.shuffle(shuffled)
    assert present(shuffled) == sorted(
        (serial, port, Presence.PRESENT, bridge or Bridge.ABSENT)
        for port, (serial, bridge) in bench.items()
    )
