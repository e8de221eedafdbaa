"""The classification of USB devices, walked as a table."""

from __future__ import annotations

import pytest

from agent.model import UsbKind
from agent.sources.usb_kind import ANDROID_VENDORS, classify, emergency_mode, may_be_a_phone

ADB = (0xFF, 0x42, 0x01)
FASTBOOT = (0xFF, 0x42, 0x03)
PTP = (0x06, 0x01, 0x01)
VENDOR_MTP = (0xFF, 0xFF, 0x00)
STORAGE = (0x08, 0x06, 0x50)
KEYBOARD = (0x03, 0x01, 0x01)
PRINTER = (0x07, 0x01, 0x02)
HUB = (0x09, 0x00, 0x00)
APPLE_MUX = (0xFF, 0xFE, 0x02)

CAMERA_VENDORS = {
    0x040A: "Kodak",
    0x04A9: "Canon",
    0x04B0: "Nikon",
    0x04CB: "Fujifilm",
    0x04DA: "Panasonic",
    0x054C: "Sony",
    0x07B4: "Olympus",
    0x07CF: "Casio",
    0x0A17: "Pentax",
    0x1A98: "Leica",
    0x25FB: "Ricoh",
    0x2672: "GoPro",
    0x2CA3: "DJI",
}

TABLE = [
    # what, vendor, product, class, interfaces, ID_MTP_DEVICE, kind
    ("Pixel, debugging only", 0x18D1, 0x4EE7, 0, [ADB], False, UsbKind.ADB),
    ("Pixel, MTP and debugging", 0x18D1, 0x4EE2, 0, [PTP, ADB], True, UsbKind.ADB),
    ("Galaxy, MTP and debugging", 0x04E8, 0x6860, 0, [PTP, (2, 2, 1), ADB], True, UsbKind.ADB),
    ("adb of an unknown vendor", 0xABCD, 0x0001, 0, [ADB], False, UsbKind.ADB),
    ("adb of a camera vendor's phone", 0x04DA, 0x0001, 0, [PTP, ADB], True, UsbKind.ADB),
    ("Pixel bootloader", 0x18D1, 0x4EE0, 0, [FASTBOOT], False, UsbKind.FASTBOOT),
    ("fastboot of an unknown vendor", 0xABCD, 0x0001, 0, [FASTBOOT], False, UsbKind.FASTBOOT),
    ("both: debugging wins", 0x18D1, 0x4EE0, 0, [FASTBOOT, ADB], False, UsbKind.ADB),
    ("Pixel, MTP, debugging off", 0x18D1, 0x4EE1, 0, [PTP], True, UsbKind.MTP),
    ("the same where udev has no mtp-probe", 0x18D1, 0x4EE1, 0, [PTP], False, UsbKind.MTP),
    ("MTP behind a vendor interface", 0x22B8, 0x2E82, 0, [VENDOR_MTP], True, UsbKind.MTP),
    ("charging only", 0x18D1, 0x4EE8, 0, [VENDOR_MTP], False, UsbKind.OTHER),
    ("MTP of an unknown vendor", 0xABCD, 0x0001, 0, [PTP], True, UsbKind.MTP),
    ("PTP of an unknown vendor", 0xABCD, 0x0001, 0, [PTP], False, UsbKind.OTHER),
    ("a printer that speaks MTP", 0x03F0, 0xC52A, 0, [PRINTER, PTP], True, UsbKind.OTHER),
    ("Android as a USB stick", 0x18D1, 0x4E21, 0, [STORAGE], False, UsbKind.OTHER),
    ("first of the iPhones", 0x05AC, 0x1290, 0, [PTP, APPLE_MUX], False, UsbKind.APPLE),
    ("iPhone", 0x05AC, 0x12A8, 0, [PTP, APPLE_MUX], True, UsbKind.APPLE),
    ("iPad", 0x05AC, 0x12AB, 0, [PTP, APPLE_MUX], True, UsbKind.APPLE),
    ("last of the range", 0x05AC, 0x12AF, 0, [], False, UsbKind.APPLE),
    ("iPhone without a configuration", 0x05AC, 0x12A8, 0, [], False, UsbKind.APPLE),
    ("below the range", 0x05AC, 0x128F, 0, [], False, UsbKind.OTHER),
    ("above the range", 0x05AC, 0x12B0, 0, [], False, UsbKind.OTHER),
    ("WTF", 0x05AC, 0x1222, 0, [(0xFE, 1, 0)], False, UsbKind.APPLE_RECOVERY),
    ("DFU", 0x05AC, 0x1227, 0, [(0xFE, 1, 0)], False, UsbKind.APPLE_RECOVERY),
    ("recovery", 0x05AC, 0x1280, 0, [], False, UsbKind.APPLE_RECOVERY),
    ("recovery, as of today", 0x05AC, 0x1281, 0, [], False, UsbKind.APPLE_RECOVERY),
    ("recovery, last", 0x05AC, 0x1283, 0, [], False, UsbKind.APPLE_RECOVERY),
    ("past recovery", 0x05AC, 0x1284, 0, [], False, UsbKind.OTHER),
    ("debug USB", 0x05AC, 0x1881, 0, [], False, UsbKind.APPLE_RECOVERY),
    ("port DFU", 0x05AC, 0xF014, 0, [], False, UsbKind.APPLE_RECOVERY),
    ("iPod classic", 0x05AC, 0x1261, 0, [STORAGE], False, UsbKind.OTHER),
    ("Apple keyboard", 0x05AC, 0x024F, 0, [KEYBOARD], False, UsbKind.OTHER),
    ("T2 chip", 0x05AC, 0x8600, 0, [], False, UsbKind.OTHER),
    ("an iPhone's id, another vendor", 0x1234, 0x12A8, 0, [PTP], False, UsbKind.OTHER),
    ("keyboard", 0x046D, 0xC31C, 0, [KEYBOARD], False, UsbKind.OTHER),
    ("USB stick", 0x0781, 0x5567, 0, [STORAGE], False, UsbKind.OTHER),
    ("nothing readable yet", 0x18D1, 0x4EE7, 0, [], False, UsbKind.OTHER),
    ("hub", 0x05E3, 0x0610, 9, [HUB], False, None),
    ("hub without interfaces yet", 0x05E3, 0x0610, 9, [], False, None),
    ("root hub", 0x1D6B, 0x0002, 9, [HUB], False, None),
    ("Apple's hub", 0x05AC, 0x1006, 9, [HUB], False, None),
]


@pytest.mark.parametrize(
    ("vendor", "product", "device_class", "interfaces", "is_mtp", "kind"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_table(
    vendor: int,
    product: int,
    device_class: int,
    interfaces: list[tuple[int, int, int]],
    is_mtp: bool,
    kind: UsbKind | None,
) -> None:
    assert classify(vendor, product, device_class, interfaces, is_mtp) is kind
    assert classify(vendor, product, device_class, reversed(interfaces), is_mtp) is kind


@pytest.mark.parametrize("vendor", CAMERA_VENDORS, ids=CAMERA_VENDORS.values())
def test_a_camera_is_never_taken_for_a_phone(vendor: int) -> None:
    assert vendor not in ANDROID_VENDORS
    assert classify(vendor, 0x0001, 0, [PTP], is_mtp=True) is UsbKind.OTHER


@pytest.mark.parametrize("vendor", ANDROID_VENDORS, ids=ANDROID_VENDORS.values())
def test_every_android_vendor_counts_over_mtp_and_ptp(vendor: int) -> None:
    assert classify(vendor, 0x0001, 0, [PTP], is_mtp=False) is UsbKind.MTP
    assert classify(vendor, 0x0001, 0, [VENDOR_MTP], is_mtp=True) is UsbKind.MTP


# --- debugging off: by what udev says, then by the maker ------------------------------------------

PHONES = [
    ("Honor X8", 0x339B, 0x107D),
    ("Quest 2", 0x2833, 0x0182),
    ("Pico 4", 0x2D40, 0x00B7),
    ("Point Mobile PM90", 0x2A48, 0x5101),
    ("Sonim", 0x1D9C, 0x0001),
    ("Razer Phone 2", 0x1532, 0x9053),
    ("Unitech EA630", 0x2E8E, 0x96E1),
    ("Cat S62 Pro", 0x04B7, 0x88F1),
    ("SHIFT6m", 0x3360, 0x2008),
    ("Doro 8030", 0x2B43, 0x0001),
    ("Jolla", 0x2931, 0x0A01),
    ("Surface Duo", 0x045E, 0x0C26),
    ("Fire HD 10", 0x1949, 0x0281),
    ("Nook HD+", 0x2080, 0x0005),
    ("Galaxy", 0x04E8, 0x6860),
]
NO_PHONES = [
    ("Garmin Fenix 7", 0x091E, 0x4F43),
    ("Garmin Forerunner 965", 0x091E, 0x50DB),
    ("Kindle Scribe, Paperwhite of 2024", 0x1949, 0x9981),
    ("Nook GlowLight+", 0x2080, 0x000A),
    ("Kobo", 0x2237, 0x4222),
    ("Tolino Vision 6", 0x4173, 0x8000),
    ("Polar Grit X2 Pro", 0x0DA4, 0x0013),
    ("Switch", 0x057E, 0x2000),
    ("Hero 11", 0x2672, 0x0059),
    ("Alpha 7", 0x054C, 0x0994),
    ("Walkman", 0x054C, 0x0388),
    ("Theta V", 0x05CA, 0x0368),
    ("Zune", 0x045E, 0x0710),
    ("Samsung NX camera", 0x04E8, 0x1404),
    ("Samsung YP player", 0x04E8, 0x5047),
    ("Asus accessory", 0x0B05, 0x1ABC),
]


@pytest.mark.parametrize(("_", "vendor", "product"), PHONES, ids=[row[0] for row in PHONES])
def test_phones_with_debugging_off(_: str, vendor: int, product: int) -> None:
    assert classify(vendor, product, 0, [PTP], is_mtp=True) is UsbKind.MTP
    assert classify(vendor, product, 0, [VENDOR_MTP], is_mtp=True) is UsbKind.MTP
    assert classify(vendor, product, 0, [PTP], is_mtp=False) is UsbKind.MTP


@pytest.mark.parametrize(("_", "vendor", "product"), NO_PHONES, ids=[row[0] for row in NO_PHONES])
def test_other_things_that_speak_mtp(_: str, vendor: int, product: int) -> None:
    assert classify(vendor, product, 0, [PTP], is_mtp=True) is UsbKind.OTHER
    assert not may_be_a_phone(vendor, product, [PTP])
    assert classify(vendor, product, 0, [PTP, ADB], is_mtp=True) is UsbKind.ADB, "it says so"


def test_udevs_lists_of_android_devices_count() -> None:
    """As systemd (ID_DEBUG_APPLIANCE) and android-udev-rules (adb_user) keep them."""
    assert classify(0xABCD, 1, 0, [PTP], is_mtp=False, is_android=True) is UsbKind.MTP
    assert may_be_a_phone(0xABCD, 1, [STORAGE], is_android=True)
    assert not may_be_a_phone(0xABCD, 1, [STORAGE])
    assert not may_be_a_phone(0xABCD, 1, [KEYBOARD], is_android=True)


# --- what may be a phone --------------------------------------------------------------------------

RNDIS = (0xE0, 0x01, 0x03)
DATA = (0x0A, 0x00, 0x00)
MAY_BE = [
    # what, vendor, product, interfaces, names, may it?
    ("tethering", 0x18D1, 0x4EE3, [RNDIS, DATA], "Pixel", True),
    (
        "tethering, as Samsung says it",
        0x04E8,
        0x6863,
        [(2, 2, 0xFF), DATA],
        "SAMSUNG_Android",
        True,
    ),
    ("tethering over NCM", 0x18D1, 0x4EEB, [(2, 13, 0), (10, 0, 1)], "Pixel", True),
    ("tethering, unknown maker", 0xABCD, 0x0001, [RNDIS, DATA], "Phone", True),
    ("storage of Android 2", 0x0BB4, 0x0FF9, [STORAGE], "Desire", True),
    ("a phone in modem mode", 0x0BB4, 0x0FFE, [(0xFF, 0xFF, 0xFF)], "Desire HD (modem mode)", True),
    ("a phone whose name says 5G", 0x04E8, 0x6860, [VENDOR_MTP], "Galaxy S10 5G", True),
    ("MIDI", 0x18D1, 0x4EE8, [(1, 1, 0), (1, 3, 0)], "Pixel", True),
    ("webcam", 0x18D1, 0x4EEC, [(14, 1, 0), (14, 2, 0)], "Pixel", True),
    ("charging only", 0x18D1, 0x4EE8, [VENDOR_MTP], "Pixel", True),
    ("no interfaces", 0xABCD, 0x0001, [], "", True),
    ("E3372", 0x12D1, 0x15B6, [(255, 2, 18), (255, 2, 1), STORAGE], "HUAWEI_MOBILE", False),
    ("E3372 HiLink", 0x12D1, 0x14DC, [(2, 6, 0), DATA, STORAGE], "", False),
    ("its database entry", 0x12D1, 0x1001, [STORAGE], "E169 HSDPA Network Card", False),
    ("ZTE stick", 0x19D2, 0x0031, [(255, 255, 255), STORAGE], "ZTE WCDMA Technologies MSM", False),
    ("MBIM", 0x0BB4, 0x0001, [(2, 14, 0), (10, 0, 2)], "", False),
    ("Quectel", 0x2C7C, 0x0125, [(255, 255, 255)], "EC25", False),
    ("Sierra", 0x1199, 0x9091, [(255, 255, 255)], "EM7565 Qualcomm Snapdragon X16 LTE-A", False),
    ("stick", 0x0781, 0x5567, [STORAGE], "Cruzer", False),
    ("Samsung's disk", 0x04E8, 0x61F5, [STORAGE, (8, 6, 0x62)], "Portable SSD T5", False),
    ("keyboard", 0x046D, 0xC31C, [KEYBOARD], "", False),
    ("keyboard of a phone maker", 0x17EF, 0x6099, [KEYBOARD, (3, 0, 0)], "", False),
    ("printer", 0x04E8, 0x3297, [PRINTER], "ML-191x", False),
    ("webcam of nobody", 0x046D, 0x0825, [(14, 1, 0), (1, 1, 0)], "C270", False),
    ("camera", 0x04A9, 0x31C0, [PTP], "Canon Digital Camera", False),
    ("Bluetooth of Intel", 0x8087, 0x0029, [(0xE0, 1, 1)], "", False),
    ("headset", 0x17EF, 0x3069, [(1, 1, 0), (3, 0, 0)], "", False),
    ("smart card reader", 0x0BDA, 0x0165, [(11, 0, 0)], "", False),
    ("serial adapter", 0x0403, 0x6001, [(255, 255, 255)], "FT232R", False),
    ("Arduino", 0x2341, 0x0043, [(2, 2, 1), DATA], "", False),
    ("instrument", 0x0AAD, 0x0001, [(0xFE, 3, 1)], "", False),
    ("iPod classic", 0x05AC, 0x1261, [STORAGE], "iPod", False),
]


@pytest.mark.parametrize("row", MAY_BE, ids=[row[0] for row in MAY_BE])
def test_what_may_be_a_phone(
    row: tuple[str, int, int, list[tuple[int, int, int]], str, bool],
) -> None:
    _, vendor, product, interfaces, names, may = row
    assert classify(vendor, product, 0, interfaces, is_mtp=False) is UsbKind.OTHER
    assert may_be_a_phone(vendor, product, interfaces, names=names) is may


# --- emergency modes ------------------------------------------------------------------------------

MODES = [
    ("EDL", 0x05C6, 0x9008, "EDL"),
    ("ramdump", 0x05C6, 0x900E, "ramdump"),
    ("ZTE's EDL", 0x19D2, 0x0076, "EDL"),
    ("Sony's EDL", 0x0FCE, 0x9DDE, "Sony"),
    ("MediaTek boot ROM", 0x0E8D, 0x0003, "MediaTek"),
    ("MediaTek preloader", 0x0E8D, 0x2000, "MediaTek"),
    ("Oppo's preloader", 0x22D9, 0x0006, "MediaTek"),
    ("Odin", 0x04E8, 0x685D, "Odin"),
    ("Exynos", 0x04E8, 0x1234, "Exynos"),
    ("Tensor", 0x18D1, 0x4F00, "Tensor"),
    ("HiSilicon", 0x12D1, 0x3609, "HiSilicon"),
    ("Unisoc", 0x1782, 0x4D00, "Unisoc"),
    ("Rockchip RK3399", 0x2207, 0x330C, "Rockchip"),
    ("Rockchip RK3588", 0x2207, 0x350B, "Rockchip"),
    ("Allwinner", 0x1F3A, 0xEFE8, "FEL"),
    ("Intel Merrifield", 0x8086, 0xE005, "DnX"),
    ("Intel, MeMo Pad", 0x8087, 0x0A65, "DnX"),
    ("Tegra 3", 0x0955, 0x7030, "APX"),
    ("Tegra X1", 0x0955, 0x7321, "APX"),
    ("Amlogic", 0x1B8E, 0xC003, "Amlogic"),
    ("OMAP 4", 0x0451, 0xD00F, "TI"),
    ("Xperia", 0x0FCE, 0xADDE, "Sony"),
    ("Xperia of 2017", 0x0FCE, 0xB00B, "Sony"),
    ("LG ramdump", 0x1004, 0x61A1, "LG"),
]


@pytest.mark.parametrize("row", MODES, ids=[row[0] for row in MODES])
def test_emergency_modes(row: tuple[str, int, int, str]) -> None:
    _, vendor, product, words = row
    for interfaces in ([(255, 255, 255)], [(2, 2, 1), DATA], []):
        assert classify(vendor, product, 0, interfaces, is_mtp=False) is UsbKind.EMERGENCY
    mode = emergency_mode(vendor, product)
    assert words in mode
    assert "restart" in mode or "buzzes" in mode, "what to do"
    # Old phones have some of these ids for Android itself.
    assert classify(vendor, product, 0, [ADB], is_mtp=False) is UsbKind.ADB


@pytest.mark.parametrize(
    ("vendor", "product"),
    [(0x2207, 0x0006), (0x0955, 0xCF07), (0x0955, 0x7000), (0x04E8, 0x6860), (0x0E8D, 0x2008)],
)
def test_androids_own_ids_are_no_emergency(vendor: int, product: int) -> None:
    assert emergency_mode(vendor, product) == ""


def test_systemds_list_of_emergency_modes_counts() -> None:
    assert "Odin" in emergency_mode(0xABCD, 1, "samsung_odin")
    assert "of_tomorrow" in emergency_mode(0xABCD, 1, "of_tomorrow")
    assert emergency_mode(0xABCD, 1, "android") == ""
    assert classify(0xABCD, 1, 0, [], is_mtp=False, appliance="aml_burn_mode") is UsbKind.EMERGENCY
