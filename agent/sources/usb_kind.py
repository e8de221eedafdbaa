"""What a USB device is, judged by its descriptors and by what udev says of it. Pure: no I/O.

Nobody keeps a list of phones. What others keep comes first: the interfaces of adb and fastboot,
udev's own properties (mtp-probe's ID_MTP_DEVICE, systemd's ID_DEBUG_APPLIANCE, android-udev-rules'
adb_user). The lists here only say what those cannot: which makers' MTP devices are no phones, which
makers' PTP devices are phones and not cameras, and which ids are a phone's emergency modes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.model import UsbKind

if TYPE_CHECKING:
    from collections.abc import Iterable

Interface = tuple[int, int, int]
"""Class, subclass, protocol."""

HUB_CLASS = 0x09

APPLE = 0x05AC

_ADB = (0xFF, 0x42, 0x01)
_FASTBOOT = (0xFF, 0x42, 0x03)
STILL_IMAGE = (0x06, 0x01, 0x01)
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
    0x045E: "Microsoft (Surface Duo)",
    0x0482: "Kyocera",
    0x0489: "Foxconn",
    0x04B7: "Caterpillar",
    0x04C5: "Fujitsu",
    0x04DD: "Sharp",
    0x04E8: "Samsung",
    0x0502: "Acer",
    0x05C6: "Qualcomm",
    0x05E0: "Zebra",
    0x0930: "Toshiba",
    0x0955: "Nvidia",
    0x0B05: "Asus",
    0x0BB4: "HTC",
    0x0C2E: "Honeywell",
    0x0CA6: "Castles",
    0x0E79: "Archos",
    0x0E8D: "MediaTek",
    0x0FCA: "BlackBerry",
    0x0FCE: "Sony Mobile",
    0x1004: "LG",
    0x109B: "Hisense",
    0x10A9: "Pantech",
    0x10D6: "Actions Semiconductor",
    0x11CA: "Verifone",
    0x1219: "Compal",
    0x12D1: "Huawei",
    0x1532: "Razer",
    0x16D5: "AnyDATA",
    0x1768: "Ascom",
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
    0x1D9C: "Sonim",
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
    0x2357: "TP-Link Neffos",
    0x24E3: "K-Touch",
    0x25E3: "Lumigon",
    0x2717: "Xiaomi",
    0x271D: "Gionee",
    0x2833: "Meta Quest",
    0x2836: "Ouya",
    0x2916: "Yota",
    0x2931: "Jolla",
    0x2970: "Wileyfox",
    0x297F: "Emerging Technologies",
    0x29A9: "Smartisan",
    0x29E4: "Prestigio",
    0x2A45: "Meizu",
    0x2A47: "BQ",
    0x2A48: "Point Mobile",
    0x2A70: "OnePlus",
    0x2A96: "Micromax",
    0x2AD9: "Marshall",
    0x2AE5: "Fairphone",
    0x2B0E: "LeEco",
    0x2B43: "Doro",
    0x2B4C: "ZUK",
    0x2C3F: "Nextbit",
    0x2D40: "Pico",
    0x2D95: "vivo",
    0x2E04: "HMD (Nokia)",
    0x2E17: "Essential",
    0x2E8E: "Unitech",
    0x3310: "Mudita",
    0x3360: "SHIFT",
    0x339B: "Honor",
    0x413C: "Dell",
    0x8087: "Intel",
}
"""Vendor ids whose PTP devices are taken for phones and tablets, and whose other devices may be one
in charge-only, tethering or storage mode. From AOSP's list of adb vendors (system/core,
adb/usb_vendors.c, Android 6), M0Rf30/android-udev-rules, libmtp and usb.ids (vivo). Left out on
purpose, though those lists have them: Panasonic 04da, Sony 054c and Philips 0471 (their MTP and PTP
devices are cameras and players; Sony's phones are 0fce), Garmin 091e (its phones ended in 2010)."""

_NO_PHONE_VENDORS = frozenset(
    {
        0x0402, 0x040A, 0x041E, 0x043E, 0x0471, 0x04A9, 0x04B0, 0x04CB, 0x04DA, 0x04F1, 0x0546,
        0x054C, 0x057E, 0x05CA, 0x066F, 0x069B, 0x0746, 0x0781, 0x07B4, 0x07CF, 0x08E4, 0x091E,
        0x09CB, 0x0A17, 0x0AA6, 0x0AAD, 0x0B28, 0x0DA4, 0x0E21, 0x0F88, 0x1006, 0x1042, 0x1390,
        0x13D1, 0x1493, 0x16C0, 0x18F6, 0x19CF, 0x19FF, 0x1A98, 0x1BDC, 0x1E0A, 0x1E53, 0x1E74,
        0x1F85, 0x2237, 0x2367, 0x2523, 0x25FB, 0x2672, 0x2972, 0x2CA3, 0x2E1A, 0x4102, 0x4173,
        0x46F4,
    }
)  # fmt: skip
"""Makers of cameras, players, watches, e-readers, consoles, drones, instruments: what of theirs
speaks MTP or PTP is no phone. From libmtp's list of devices (src/music-players.h) and libgphoto2's
makers of cameras. A device of theirs with adb (a Wear OS watch) is an Android device even so."""

_TETHERING = frozenset(
    {
        (0xE0, 0x01, 0x03),  # RNDIS, three ways
        (0xEF, 0x04, 0x01),
        (0x02, 0x02, 0xFF),
        (0x02, 0x0D, 0x00),  # NCM
    }
)
VENDOR_SPECIFIC = (0xFF, 0xFF, 0x00)
_ACCESSORY = frozenset({VENDOR_SPECIFIC, (0x01, 0x03, 0x00)})
"""What Android shows with debugging off, besides: MTP and accessories (both vendor-specific), MIDI.
Its audio source and webcam look like anybody's (01, 0e)."""
_PRINTER = 0x07
_NO_PHONE_CLASSES = frozenset({0x03, _PRINTER, HUB_CLASS, 0x0B, 0x0D, 0x0F, 0x11, 0x12, 0xFE})
"""Input, printer, hub, smart card, security, health, billboard, USB-C bridge, DFU, instruments."""
_STORAGE = 0x08
_UAS = 0x62
"""Protocol of fast disks; a phone's storage is bulk-only (50)."""
_BLUETOOTH = (0xE0, 0x01)
_MBIM = (0x02, 0x0E)
_HUAWEI = 0x12D1
_ZTE = 0x19D2
_SAMSUNG = 0x04E8
_ROCKCHIP = 0x2207
_NVIDIA = 0x0955
_MODEM = re.compile(
    r"modem(?! mode)|network ?card|data ?card|broadband|wwan|hs[du]?pa|dongle|hilink|surf ?stick"
    r"|huawei mobile",
    re.IGNORECASE,
)
"""What makers and udev's database call modems. "modem mode" is one of a phone."""

_RESTART = (
    "hold power and volume down for 20 s to restart it; if it comes back so, flash its firmware"
)
_EDL = f"in Qualcomm's emergency download mode (EDL): {_RESTART}"
_RAMDUMP = (
    "in Qualcomm's ramdump mode, which a crash leaves: hold power and volume down for 20 s to"
    " restart it"
)
_MEDIATEK = f"in MediaTek's preloader or boot ROM: {_RESTART}"
_ODIN = "in Samsung's download mode (Odin): hold power and volume down for 10 s to restart it"
_INTEL = f"in Intel's download mode (DnX): {_RESTART}"
_OMAP = f"in the boot ROM of its TI chip: {_RESTART}"
_AMLOGIC = f"in Amlogic's burn mode: {_RESTART}"
_SONY = "in Sony's flash mode: unplug it, or hold power and volume up until it buzzes three times"
_SONY_EDL = f"in Sony's emergency download mode: {_RESTART}"
_ROCKUSB = f"in Rockchip's loader or mask ROM mode: {_RESTART}"
_APX = f"in NVIDIA's recovery mode (APX): {_RESTART}"

_EMERGENCY = {
    (0x05C6, 0x9008): _EDL,
    (0x05C6, 0x9006): _RAMDUMP,
    (0x05C6, 0x900E): _RAMDUMP,
    (_ZTE, 0x0076): _EDL,
    (0x1004, 0x61A1): "in LG's ramdump mode, which a crash leaves: restart it",
    (0x0E8D, 0x0003): _MEDIATEK,
    (0x0E8D, 0x2000): _MEDIATEK,
    (0x0E8D, 0x2001): _MEDIATEK,
    (0x0E8D, 0x20FF): _MEDIATEK,
    (0x0E8D, 0x3000): _MEDIATEK,
    (0x0E8D, 0x6000): _MEDIATEK,
    (0x1004, 0x6000): _MEDIATEK,
    (0x22D9, 0x0006): _MEDIATEK,
    (0x0FCE, 0xF200): _MEDIATEK,
    (0x0FCE, 0xD1DD): _MEDIATEK,
    (0x0FCE, 0xD1E2): _MEDIATEK,
    (0x0FCE, 0xD1E9): _MEDIATEK,
    (0x0FCE, 0xD1EC): _MEDIATEK,
    (0x0FCE, 0xADDE): _SONY,
    (0x0FCE, 0xB00B): _SONY,
    (0x0FCE, 0x9DDE): _SONY_EDL,
    (0x0FCE, 0xADE5): _SONY_EDL,
    (0x0FCE, 0xADED): _SONY_EDL,
    (_SAMSUNG, 0x6601): _ODIN,
    (_SAMSUNG, 0x685D): _ODIN,
    (_SAMSUNG, 0x68C3): _ODIN,
    (_SAMSUNG, 0x1234): f"in the boot ROM of its Exynos chip (EUB): {_RESTART}",
    (0x18D1, 0x4F00): f"in the boot ROM of its Tensor chip (Pixel ROM Recovery): {_RESTART}",
    (_HUAWEI, 0x3609): f"in HiSilicon's boot ROM (USB SER): {_RESTART}",
    (0x1782, 0x4D00): f"in Unisoc's (Spreadtrum's) download mode: {_RESTART}",
    (0x1F3A, 0xEFE8): f"in Allwinner's boot ROM (FEL): {_RESTART}",
    (0x8086, 0xE005): _INTEL,
    (0x8086, 0x09EE): _INTEL,
    (0x8087, 0x0A65): _INTEL,
    (0x1B8E, 0xC003): _AMLOGIC,
    (0x1B8E, 0xC004): _AMLOGIC,
    (0x0451, 0xD00E): _OMAP,
    (0x0451, 0xD00F): _OMAP,
    (0x0451, 0xD010): _OMAP,
    (0x0421, 0x0105): "in Nokia's flashing mode: restart it",
    (0x0421, 0x0106): "in Nokia's boot ROM: restart it",
}
"""Which mode, and what to do. Ids from the tools that speak to these modes (edl, mtkclient,
Heimdall, spd_dump, rkdeveloptool, sunxi-fel, xFSTK, newflasher) and systemd's hwdb
(70-debug-appliance)."""
_APPLIANCES = {"samsung_odin": _ODIN, "aml_burn_mode": _AMLOGIC}
"""What systemd's hwdb calls them (ID_DEBUG_APPLIANCE)."""


def emergency_mode(vendor: int, product: int, appliance: str = "") -> str:
    """Which emergency mode the ids say, with the remedy; "" if none.

    `appliance` is udev's ID_DEBUG_APPLIANCE: of systemd's list, where the host's is new enough.
    """
    if mode := _EMERGENCY.get((vendor, product)):
        return mode
    if vendor == _ROCKCHIP and product >= 0x0100:  # noqa: PLR2004 - Android is below
        return _ROCKUSB
    if vendor == _NVIDIA and product >> 12 == 0x7 and product not in {0x7000, 0x7100}:  # noqa: PLR2004 - as tegrarcm has them; those two are fastboot and a tablet
        return _APX
    if appliance and appliance != "android":
        return _APPLIANCES.get(appliance, f"in a flashing mode ({appliance}): {_RESTART}")
    return ""


def classify(
    vendor: int,
    product: int,
    device_class: int,
    interfaces: Iterable[Interface],
    is_mtp: bool,
    *,
    is_android: bool = False,
    appliance: str = "",
) -> UsbKind | None:
    """The kind of the device, or None for a hub (the host's own root hubs too).

    `interfaces` are those of every configuration, in any order. The rest is what udev says:
    `is_mtp` is ID_MTP_DEVICE, which also knows MTP behind vendor-specific interfaces, `is_android`
    that a list of Android devices has it, `appliance` ID_DEBUG_APPLIANCE. adb's ff/42/01 and
    fastboot's ff/42/03 are from AOSP (packages/modules/adb, adb.h; system/core, fastboot): they
    count for every vendor.
    """
    found = set(interfaces)
    if device_class == HUB_CLASS:
        return None
    for interface, shown in ((_ADB, UsbKind.ADB), (_FASTBOOT, UsbKind.FASTBOOT)):
        if interface in found:
            return shown
    if vendor == APPLE:
        return _apple(product)
    if emergency_mode(vendor, product, appliance):
        return UsbKind.EMERGENCY
    is_phone = is_mtp or (STILL_IMAGE in found and (is_android or vendor in ANDROID_VENDORS))
    if is_phone and not _is_never_a_phone(vendor, product) and not _is_printer(found):
        return UsbKind.MTP
    return UsbKind.OTHER


def _apple(product: int) -> UsbKind:
    if product in _APPLE_NORMAL:
        return UsbKind.APPLE
    if product in _APPLE_RECOVERY:
        return UsbKind.APPLE_RECOVERY
    return UsbKind.OTHER


def may_be_a_phone(
    vendor: int,
    product: int,
    interfaces: Iterable[Interface],
    *,
    is_android: bool = False,
    names: str = "",
) -> bool:
    """Whether an OTHER one may be a phone: with debugging off, charging only, tethering, storage.

    A modem, a disk, a keyboard is none, whatever serial it has. `names` is what the device and
    udev's database call it.
    """
    found = set(interfaces)
    if vendor == APPLE or _is_never_a_phone(vendor, product):
        return False
    if not found:
        return True  # nothing to judge by: charging only, blocked, or not read yet
    if _is_modem(vendor, product, found, names) or any(
        code[0] in _NO_PHONE_CLASSES or (code[:2] == _BLUETOOTH and code not in _TETHERING)
        for code in found
    ):
        return False
    is_known = is_android or vendor in ANDROID_VENDORS
    if all(code[0] == _STORAGE for code in found):
        return is_known and all(code[2] != _UAS for code in found)
    return is_known or bool(found & (_TETHERING | _ACCESSORY))


def _is_never_a_phone(vendor: int, product: int) -> bool:
    """By the ids alone. Makers of both are told by their products."""
    match vendor:
        case 0x04E8:  # Samsung's cameras, printers, players; its phones are 6xxx
            return product >> 12 in {0x1, 0x3, 0x5}
        case 0x1949:  # Amazon's e-readers, of today and of old; its tablets lie between
            return product >= 0x9000 or product in {0x0002, 0x0003, 0x0004}  # noqa: PLR2004 - see above
        case 0x2080:  # e-readers of Barnes & Noble; its Nook HDs are tablets
            return product in {0x0002, 0x0003} or product > 0x0006  # noqa: PLR2004 - see above
        case 0x045E:  # Microsoft's Xbox controllers and Zunes
            return product >> 8 in {0x02, 0x07} or product == 0x063E  # noqa: PLR2004 - see above
        case 0x0B05:  # Asus' accessories
            return product >> 12 == 0x1
        case _:
            return vendor in _NO_PHONE_VENDORS


def _is_printer(found: set[Interface]) -> bool:
    return any(code[0] == _PRINTER for code in found)


def _is_modem(vendor: int, product: int, found: set[Interface], names: str) -> bool:
    """By what only modems show: names, MBIM, Huawei's and ZTE's own interfaces and ids."""
    if _MODEM.search(" ".join(names.replace("_", " ").split())):
        return True
    if vendor == _HUAWEI:
        # As the kernel's driver of modems takes them (drivers/usb/serial/option.c).
        return (
            product in {0x1001, 0x1003}
            or 0x1400 <= product < 0x2000  # noqa: PLR2004 - see above
            or any(code[:2] in {(0xFF, 1), (0xFF, 2), (0xFF, 3)} for code in found)
        )
    return any(code[:2] == _MBIM for code in found) or (
        vendor == _ZTE and (0xFF, 0xFF, 0xFF) in found
    )
