"""What a USB device is, judged by its descriptors alone. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import UsbKind

if TYPE_CHECKING:
    from collections.abc import Iterable

HUB_CLASS = 0x09

APPLE = 0x05AC

_ADB = (0xFF, 0x42, 0x01)
_FASTBOOT = (0xFF, 0x42, 0x03)
_STILL_IMAGE = (0x06, 0x01, 0x01)
"""PTP and MTP share this class (USB Still Image Capture, PIMA 15740)."""

_APPLE_NORMAL = range(0x1290, 0x12B0)
"""iPhone, iPad, iPod touch as usbmuxd takes them (usbmuxd, src/usb.h, PID_RANGE_LOW to _MAX).
usbmuxd's other ids, 0x8600 (T1 and T2 chips) and 0x1901 to 0x1905 (Macs in restore), are no
phones."""
_APPLE_RECOVERY = frozenset(
    {
        0x1222,  # WTF
        0x1227,  # DFU
        0x1280,  # recovery, four ways
        0x1281,
        0x1282,
        0x1283,
        0x1881,  # debug USB, a DFU seen through the phone's own debug port
        0xF014,  # port DFU, phones with USB-C
    }
)
"""As libirecovery takes them (libirecovery, include/libirecovery.h and src/libirecovery.c)."""

ANDROID_VENDORS = {
    0x03FC: "ECS",
    0x0408: "Quanta",
    0x0409: "NEC",
    0x0414: "Gigabyte",
    0x0421: "Nokia",
    0x0482: "Kyocera",
    0x0489: "Foxconn",
    0x04C5: "Fujitsu",
    0x04DD: "Sharp",
    0x04E8: "Samsung",
    0x0502: "Acer",
    0x05C6: "Qualcomm",
    0x05E0: "Zebra",
    0x091E: "Garmin-Asus",
    0x0930: "Toshiba",
    0x0955: "Nvidia",
    0x0B05: "Asus",
    0x0BB4: "HTC",
    0x0C2E: "Honeywell",
    0x0E79: "Archos",
    0x0E8D: "MediaTek",
    0x0FCA: "BlackBerry",
    0x0FCE: "Sony Mobile",
    0x1004: "LG",
    0x109B: "Hisense",
    0x10A9: "Pantech",
    0x10D6: "Actions Semiconductor",
    0x1219: "Compal",
    0x12D1: "Huawei",
    0x16D5: "AnyDATA",
    0x1782: "Spreadtrum",
    0x17EF: "Lenovo",
    0x18D1: "Google",
    0x1949: "Amazon",
    0x19A5: "Harris",
    0x19D2: "ZTE",
    0x1B8E: "Amlogic",
    0x1BBB: "TCL and Alcatel",
    0x1D09: "TechFaith",
    0x1D45: "Qisda",
    0x1D4D: "Pegatron",
    0x1D91: "BYD",
    0x1E85: "Gigaset",
    0x1EBF: "Coolpad",
    0x1F3A: "Allwinner",
    0x1F53: "SK Telesys",
    0x2006: "Lenovo Mobile",
    0x201E: "Haier",
    0x2080: "Barnes & Noble",
    0x2116: "KT Tech",
    0x2207: "Rockchip",
    0x22B8: "Motorola",
    0x22D9: "Oppo",
    0x2314: "INQ Mobile",
    0x2340: "Teleepoch",
    0x24E3: "K-Touch",
    0x25E3: "Lumigon",
    0x2717: "Xiaomi",
    0x271D: "Gionee",
    0x2836: "Ouya",
    0x2916: "Yota",
    0x2970: "Wileyfox",
    0x297F: "Emerging Technologies",
    0x29A9: "Smartisan",
    0x29E4: "Prestigio",
    0x2A45: "Meizu",
    0x2A47: "BQ",
    0x2A70: "OnePlus",
    0x2A96: "Micromax",
    0x2AE5: "Fairphone",
    0x2B0E: "LeEco",
    0x2B4C: "ZUK",
    0x2C3F: "Nextbit",
    0x2D95: "vivo",
    0x2E04: "HMD (Nokia)",
    0x2E17: "Essential",
}
"""Vendor ids whose MTP or PTP devices are taken for phones and tablets. From AOSP's list of adb
vendors (system/core, adb/usb_vendors.c, Android 6), M0Rf30/android-udev-rules and usb.ids (vivo).
Left out on purpose, though those lists have them: Panasonic 04da, Sony 054c and Philips 0471 (their
MTP and PTP devices are cameras and players; Sony's phones are 0fce)."""


def classify(
    vendor: int,
    product: int,
    device_class: int,
    interfaces: Iterable[tuple[int, int, int]],
    is_mtp: bool,
) -> UsbKind | None:
    """The kind of the device, or None for a hub (the host's own root hubs too).

    `interfaces` holds (class, subclass, protocol) of every interface, in any order, of any
    configuration; `is_mtp` is udev's ID_MTP_DEVICE, which also knows MTP behind vendor-specific
    interfaces. adb's ff/42/01 and fastboot's ff/42/03 are from AOSP (packages/modules/adb, adb.h;
    system/core, fastboot): they count for every vendor.
    """
    found = set(interfaces)
    if device_class == HUB_CLASS:
        return None
    if _ADB in found:
        return UsbKind.ADB
    if _FASTBOOT in found:
        return UsbKind.FASTBOOT
    if vendor == APPLE:
        return _apple(product)
    if (is_mtp or _STILL_IMAGE in found) and vendor in ANDROID_VENDORS:
        return UsbKind.MTP
    return UsbKind.OTHER


def _apple(product: int) -> UsbKind:
    if product in _APPLE_NORMAL:
        return UsbKind.APPLE
    if product in _APPLE_RECOVERY:
        return UsbKind.APPLE_RECOVERY
    return UsbKind.OTHER
