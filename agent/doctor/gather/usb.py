"""USB as sysfs shows it: which devices, at which hub and controller, how fast.

Attributes as in Documentation/ABI/stable/sysfs-bus-usb and testing/sysfs-bus-usb; what a device's
descriptors say of it is read from `uevent` (PRODUCT, TYPE), which takes no lock of the device.
"""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor.facts import Node, UsbDevice, UsbFacts
from agent.doctor.gather.limit import in_thread
from agent.model import UsbKind
from agent.sources.usb_kind import classify, emergency_mode
from agent.users import group_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LIMIT = 3.0
"""Seconds; a device that hangs while it is configured holds its readers in the kernel."""
NETLINK_KOBJECT_UEVENT = 15
"""linux/netlink.h; Python has no name for it."""
_PHONES = {
    UsbKind.ADB,
    UsbKind.FASTBOOT,
    UsbKind.MTP,
    UsbKind.EMERGENCY,
    UsbKind.APPLE,
    UsbKind.APPLE_RECOVERY,
}


_INTERFACE = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")


async def look_at_usb(
    *,
    enabled: bool,
    sysfs: Path = Path("/sys"),
    run: Path = Path("/run/udev"),
    dev: Path = Path("/dev"),
) -> UsbFacts:
    """All USB devices, and whether udevd can be heard; raises nothing."""
    devices: tuple[UsbDevice, ...] | None
    try:
        devices = await in_thread(lambda: tuple(_devices(sysfs, run, dev)), LIMIT)
    except TimeoutError:
        devices = None
    return UsbFacts(enabled, (run / "control").exists(), _netlink(), devices)


def _netlink() -> str:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as probe:
            probe.bind((0, 2))  # udevd's group, as against the kernel's own (1)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _devices(sysfs: Path, run: Path, dev: Path) -> Iterator[UsbDevice]:
    """In the order of their ports."""
    try:
        names = [each.name for each in (sysfs / "bus" / "usb" / "devices").iterdir()]
    except OSError:  # no USB in this kernel
        return
    for name in sorted((each for each in names if ":" not in each), key=_natural):
        try:
            yield _device((sysfs / "bus" / "usb" / "devices" / name).resolve(), run, dev)
        except (OSError, ValueError, KeyError):
            continue  # unplugged meanwhile, and its files half gone


def _natural(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _device(place: Path, run: Path, dev: Path) -> UsbDevice:
    event = _properties((place / "uevent").read_text(), "")
    vendor, product, _ = (int(part, 16) for part in event["PRODUCT"].split("/"))
    device_class = int(event["TYPE"].split("/")[0])
    interfaces = [each for each in place.iterdir() if each.name.startswith(f"{place.name}:")]
    known = _properties(
        _text(run / "data" / f"c{event.get('MAJOR', '189')}:{event.get('MINOR', '')}"), "E:"
    )
    appliance = known.get("ID_DEBUG_APPLIANCE", "")
    kind = classify(
        vendor,
        product,
        device_class,
        [codes for each in interfaces if (codes := _codes(each)) is not None],
        known.get("ID_MTP_DEVICE") == "1",
        is_android=appliance == "android" or known.get("adb_user") == "yes",
        appliance=appliance,
    )
    speed = _text(place / "speed")
    return UsbDevice(
        port=place.name,
        controller=next(
            (
                above.parent.name
                for above in (place, *place.parents)
                if re.fullmatch(r"usb\d+", above.name)
            ),
            "",
        ),
        bus=int(event["BUSNUM"]),
        kind=kind,
        is_phone=kind in _PHONES,
        serial=_text(place / "serial"),
        product=_text(place / "product"),
        speed=float(speed) if re.fullmatch(r"[0-9.]+", speed) else 0.0,
        endpoints=sum(len(list(each.glob("ep_*"))) for each in (place, *interfaces)),
        node=_node(dev / event["DEVNAME"]) if "DEVNAME" in event else None,
        blocked=any(_text(each / "authorized") == "0" for each in (place, *interfaces)),
        mode=emergency_mode(vendor, product, appliance) if kind is UsbKind.EMERGENCY else "",
        dump=_dump(place, sorted(interfaces), event | known),
    )


def _properties(text: str, mark: str) -> dict[str, str]:
    """The lines `KEY=VALUE` that begin with the mark."""
    return dict(re.findall(rf"^{mark}(\w+)=(.*)$", text, re.MULTILINE))


def _dump(place: Path, interfaces: Iterable[Path], properties: Mapping[str, str]) -> str:
    """Nothing of it waits for the device."""
    steps = place.parts
    path = "/".join(("", *steps[steps.index("devices") :])) if "devices" in steps else str(place)
    lines = [f"P: {path}", f"E: DEVPATH={path}", "E: SUBSYSTEM=usb"]
    lines += (f"E: {key}={value}" for key, value in sorted(properties.items()))
    lines += _attributes(place, ("authorized",))
    for interface in interfaces:
        lines += ["", f"P: {path}/{interface.name}", "E: DEVTYPE=usb_interface"]
        lines += _attributes(interface, (*_INTERFACE, "interface", "authorized"))
    return "".join(f"{_printable(line)}\n" for line in lines)


def _attributes(place: Path, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if text := _text(place / name):
            yield f"A: {name}={text}"


def _printable(line: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in line)


def _codes(interface: Path) -> tuple[int, int, int] | None:
    try:
        first, second, third = (int(_text(interface / name), 16) for name in _INTERFACE)
    except ValueError:
        return None
    return first, second, third


def _node(path: Path) -> Node | None:
    try:
        found = path.stat()
    except OSError:
        return None
    group = group_name(found.st_gid) or str(found.st_gid)
    return Node(str(path), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, group)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
