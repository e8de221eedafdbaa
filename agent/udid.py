"""What a serial or a UDID is, and how two of them compare. Pure.

A device is keyed by its UDID: on Android the serial as adb spells it, on iOS the UDID in its dashed
form. Sources spell one serial differently: udev replaces what it does not like, older usbmuxd and
USB descriptors leave the dash out. So serials are compared by `serial_key`, never as they come.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from agent.model import Platform

_HEX_40: Final = re.compile(r"[0-9a-fA-F]{40}")
_HEX_24: Final = re.compile(r"([0-9a-fA-F]{8})-?([0-9a-fA-F]{16})")
_JUNK: Final = re.compile(
    r"\s*|\?+|_+|0+|f+|[(_]no[ _]serial[ _]number[)_]|no[ _]serial[ _]number|unknown|null",
    re.IGNORECASE,
)
_PLACEHOLDER: Final = re.compile(r"0?1234567890?(?:abcdef)?", re.IGNORECASE)
_EMULATOR: Final = re.compile(r"emulator-\d+")
_NETWORK: Final = re.compile(
    r"(?:\[[0-9a-fA-F:.%\w]+\]|[\w.-]+):\d{1,5}|.+\._adb(?:-tls-connect)?\._tcp\.?"
)
_NOT_UDEVS: Final = re.compile(r"(?!\\x)[\x00-\x7f](?<![0-9A-Za-z#+\-.:=@_])")
_ESCAPE: Final = re.compile(r"\\x[0-9a-fA-F]{2}")
_ECID: Final = re.compile(r"\bECID:([0-9A-F]{16})(?![0-9A-F])", re.IGNORECASE)
_CPID: Final = re.compile(r"\bCPID:([0-9A-F]{4})(?![0-9A-F])", re.IGNORECASE)
_A12: Final = 0x8020
_A4: Final = 0x8900
"""Apple's chip ids: from A12 on they are 0x8020 and above; A4 to A7 are 0x8930 to 0x8965."""
_BRACKETS: Final = re.compile(r"(\[[^]]+\])")
_BLANKS: Final = re.compile(r"\s+|[^\w\s#+\-.:=@*?!\[\]]")
"""In a glob, where udev writes `_`."""
_ROOT_HUB: Final = re.compile(r"usb\d+")
_LASTING: Final = re.compile(r"(?:pci|platform)-(.{1,200}?)-usb-.*")
_PCI: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")


def canonical(serial: str, platform: Platform | None) -> str:
    """The UDID as it is shown and stored.

    iOS: 40 hex digits in lower case, or 8-16 upper case with the dash that USB serials and older
    usbmuxd leave out. Android serials stay as they are: they are case-sensitive.
    """
    serial = serial.strip().strip("\x00")
    if platform is not Platform.IOS:
        return serial
    if _HEX_40.fullmatch(serial):
        return serial.lower()
    if match := _HEX_24.fullmatch(serial):
        return f"{match[1]}-{match[2]}".upper()
    return serial


def listed(udid: str) -> str:
    """The UDID of a device listed in the config, where its platform is not known yet."""
    return canonical(udid, Platform.IOS if is_ios(udid) else None)


def listed_key(udid: str) -> str:
    """The same for all spellings of one device, where its platform is not known yet."""
    return udev_spelling(listed(udid))


def is_ios(udid: str) -> bool:
    """Whether it has the form that all of Apple's have; an Android serial may have it, too."""
    udid = udid.strip()
    return (_HEX_40.fullmatch(udid) or _HEX_24.fullmatch(udid)) is not None


def spellings(serial: str) -> tuple[str, ...]:
    """The serial as given; then, of one of Apple's, with its dash put in or taken out."""
    match = _HEX_24.fullmatch(serial)
    if match is None:
        return (serial,)
    return serial, match[1] + match[2] if "-" in serial else f"{match[1]}-{match[2]}"


@lru_cache(maxsize=16384)
def serial_key(serial: str, platform: Platform | None) -> str:
    """The same for all spellings of one serial; "" where it says nothing of who the phone is."""
    if is_junk(serial):
        return ""
    return canonical(serial, platform) if platform is Platform.IOS else udev_spelling(serial)


def udev_spelling(text: str) -> str:
    r"""A serial as udev writes it (systemd: udev_replace_whitespace, then udev_replace_chars).

    Outer blanks go, inner ones become one `_`; what is neither a letter, a digit, one of
    `#+-.:=@_`, a `\x` escape nor more than ASCII becomes `_`.
    """
    return _NOT_UDEVS.sub("_", "_".join(text.strip("\x00").split()))


def skeleton(serial: str) -> str:
    """What no source changes in a serial; for two that name one port, where more is not needed."""
    plain = _ESCAPE.sub("", serial)
    return "".join(c for c in plain if c.isascii() and c.isalnum()).lower()


def is_junk(serial: str) -> bool:
    """Whether a serial says nothing of who the phone is; udev writes `_` for odd characters."""
    return _JUNK.fullmatch(serial.strip().strip("\x00")) is not None


def is_placeholder(serial: str) -> bool:
    """Whether it is one that makers of all kinds of things leave as it came: 0123456789ABCDEF."""
    return _PLACEHOLDER.fullmatch(serial) is not None


def is_network(serial: str) -> bool:
    """Is that the address of a phone on the network? `emulator-5554` is none."""
    return _NETWORK.fullmatch(serial) is not None


def is_off_usb(serial: str) -> bool:
    """Whether adb reaches that serial without a USB cable: an emulator, or a network phone."""
    return _EMULATOR.fullmatch(serial) is not None or is_network(serial)


def recovery_udid(serial: str) -> str:
    """The UDID of an Apple phone in recovery or DFU mode; "" where its serial does not tell it.

    That serial is `CPID:8110 CPRV:11 … ECID:001A2B3C4D5E6F70 …`. From A12 on the UDID is made of
    those two numbers; of older phones it is a hash.
    """
    ecid = _ECID.search(serial.replace("_", " "))
    cpid = _CPID.search(serial.replace("_", " "))
    if ecid is None or cpid is None or not _A12 <= int(cpid[1], 16) < _A4:
        return ""
    return f"0000{cpid[1]}-{ecid[1]}".upper()


def may_be(serial: str, udid: str) -> bool:
    """Whether the phone with that recovery serial may have that UDID, as far as its chip tells."""
    told = _ECID.search(serial.replace("_", " ")) is not None
    return not told or recovery_udid(serial) == (udid if _HEX_24.fullmatch(udid) else "")


def lasting_path(devpath: str) -> str:
    """A USB port's name that outlives reboots, from its sysfs path; "" where that is none.

    `/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4.2` is `pci-0000:00:14.0-usb-0:4.2`, as udev's
    ID_PATH has it. Bus numbers (the 1 of `usb1`) change with the order in which controllers are
    found. Made from the path alone: udev does not always give ID_PATH, and a key must not hang on
    whether it did.
    """
    controller, port = controller_of(devpath), digits(devpath.rstrip("/").rpartition("/")[2])
    if not controller or not port:
        return ""
    kind = "pci" if _PCI.fullmatch(controller) else "platform"
    return f"{kind}-{controller}-usb-0:{port}"


def controller_of(devpath: str) -> str:
    """The USB controller in a sysfs path: what the root hub stands below; "" where none is."""
    parts = [part for part in devpath.split("/") if part]
    hubs = [n for n, part in enumerate(parts) if _ROOT_HUB.fullmatch(part)]
    return parts[hubs[0] - 1] if hubs and hubs[0] else ""


def controller_in(path: str) -> str:
    """The USB controller in a port's lasting name; "" where it is none."""
    found = _LASTING.fullmatch(path)
    return "" if found is None else found[1]


def digits(port: str) -> str:
    """A kernel's port name without its bus number: `4.2` of `1-4.2`. That much lasts."""
    return port.partition("-")[2]


def root_hub(port: str) -> str:
    """The root hub that a port of the kernel's name hangs on: `usb1` of `1-4.2`."""
    return f"usb{port.removeprefix('usb').partition('-')[0]}"


def hub_above(port: str) -> str:
    """The hub that it is a port of: `1-4` of `1-4.2`, the root hub `usb1` of `1-4`."""
    above, dot, _ = port.rpartition(".")
    return above if dot else root_hub(port)


def hubs_above(port: str) -> list[str]:
    """All hubs between it and its controller, the nearest first; without the root hub."""
    found = []
    while "." in port:
        port = hub_above(port)
        found.append(port)
    return found


def alike(name: str) -> str:
    """A UDID as it is compared where its very spelling is nobody's.

    iPhones' are written with and without their dash, and in any case; serials as adb or as udev
    spells them. What stands behind an `@` is a port, where each dash and letter counts.
    """
    name = name.strip()
    if name.isalnum() and name.isascii():
        return name.casefold()  # most are so: of 10,000 of them it takes a fifth of the time
    serial, at, place = name.rpartition("@") if "@" in name else (name, "", "")
    return udev_spelling(serial).replace("-", "").casefold() + at + place


def fits(glob: str, udid: str) -> bool:
    """Whether a UDID fits a glob (`*`, `?`, `[…]`), whatever the case and the dashes.

    Dashes count behind an `@`: there stands the port path of two phones with one serial.
    """
    glob, udid = glob.lower(), udid.lower()
    spelled = _BLANKS.sub("_", glob.strip())  # as udev spells a serial with blanks, `(`, `/` …
    return (
        fnmatchcase(udid, glob)
        or fnmatchcase(_dashless(udid), _dashless_glob(glob))
        or (spelled != glob and fnmatchcase(udid, spelled))
    )


def _dashless(udid: str) -> str:
    serial, at, port = udid.partition("@")
    return serial.replace("-", "") + at + port


def _dashless_glob(glob: str) -> str:
    serial, at, port = glob.partition("@")
    # Inside brackets a dash is a range.
    parts = _BRACKETS.split(serial)
    return "".join(p if p.startswith("[") else p.replace("-", "") for p in parts) + at + port
