"""USB devices as the kernel shows them in sysfs (Documentation/ABI: sysfs-bus-usb).

Which attributes wait for the device and which do not is the caller's business: `serial`, `product`
and more take the device's lock in the kernel (drivers/usb/core/sysfs.c), so that a device that
hangs holds their readers for tens of seconds; `authorized`, `idVendor`, `uevent` and what
interfaces have do not.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSFS = "/sys"
DEVICES = "bus/usb/devices"
"""Below SYSFS: a link for each device, hub and interface."""
Interface = tuple[int, int, int]
"""Class, subclass, protocol."""
INTERFACE = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
"""The attributes that are these."""
Marks = dict[str, frozenset[tuple[str, int]]]
"""What DEVICES lists: of each device, by name, its link and those of its interfaces, each with its
inode number, which is new whenever the device is."""
_PRODUCT = re.compile(r"^PRODUCT=([0-9a-fA-F]+)/([0-9a-fA-F]+)/", re.MULTILINE)


def name_of(path: str) -> str:
    """What the kernel calls it: `1-4.2` a device, `usb1` a root hub, `1-4.2:1.0` an interface."""
    return path.rpartition("/")[2]


def marks(sysfs: str = SYSFS) -> Marks:
    """One directory is read, and no device. Raises OSError where sysfs cannot be read."""
    found: dict[str, set[tuple[str, int]]] = {}
    try:
        entries = os.scandir(f"{sysfs}/{DEVICES}")
    except FileNotFoundError:
        os.stat(f"{sysfs}/bus")  # noqa: PTH116 - without it this is no sysfs, and says nothing
        return {}
    with entries:
        for entry in entries:
            found.setdefault(entry.name.partition(":")[0], set()).add((entry.name, entry.inode()))
    return {name: frozenset(each) for name, each in found.items()}


def interfaces(place: str) -> list[str]:
    """Of the active configuration: directories `PORT:CONFIGURATION.NUMBER` below the device's."""
    prefix = f"{name_of(place)}:"
    try:
        return sorted(f"{place}/{name}" for name in os.listdir(place) if name.startswith(prefix))  # noqa: PTH208 - pathlib takes three times as long for thousands
    except OSError:
        return []


def codes(interface: str) -> Iterator[Interface]:
    """What an interface's directory says that it is; nothing where it says none."""
    yield from triples("".join(attribute(f"{interface}/{name}") for name in INTERFACE))


def triples(text: str) -> Iterator[Interface]:
    """The interfaces in udev's `:ff4201:060101:` (usb_id's ID_USB_INTERFACES)."""
    for part in text.split(":"):
        with contextlib.suppress(ValueError):
            code = bytes.fromhex(part)
            if len(code) == 3:  # noqa: PLR2004 - class, subclass, protocol
                yield code[0], code[1], code[2]


def ids(place: str) -> tuple[int, int]:
    """Vendor and product; -1 where they are not told. None of it waits for the device."""
    vendor, product = _hexadecimal(f"{place}/idVendor"), _hexadecimal(f"{place}/idProduct")
    if vendor < 0 and (told := _PRODUCT.search(attribute(f"{place}/uevent"))):
        # As the kernel's events name them, where the attributes are masked.
        return int(told[1], 16), int(told[2], 16)
    return vendor, product


def _hexadecimal(path: str) -> int:
    try:
        return int(attribute(path), 16)
    except ValueError:
        return -1


def attribute(path: str) -> str:
    """An attribute's text; "" where there is none, or the device is gone by now."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return file.read().strip()
    except OSError:
        return ""
