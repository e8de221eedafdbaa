"""The classification of USB devices, walked as a table."""

from __future__ import annotations

import pytest

from agent.model import UsbKind
from agent.sources.usb_kind import ANDROID_VENDORS, classify

ADB = (0xFF, 0x42, 0x01)
FASTBOOT = (0xFF, 0x42, 0x03)
PTP = (0x06, 0x01, 0x01)
VENDOR_MTP = (0xFF, 0xFF, 0x00)
STORAGE = (0x08, 0x06, 0x50)
KEYBOARD = (0x03, 0x01, 0x01)
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
    ("MTP of an unknown vendor", 0xABCD, 0x0001, 0, [PTP], True, UsbKind.OTHER),
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
    ("an iPhone's id, another vendor", 0x1234, 0x12A8, 0, [PTP], True, UsbKind.OTHER),
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
