"""USB as sysfs shows it: which devices, at which hub and controller, how fast.

Attributes as in Documentation/ABI/stable/sysfs-bus-usb and testing/sysfs-bus-usb; what a device's
descriptors say of it is read from `uevent` (PRODUCT, TYPE), which takes no lock of the device.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor.facts import Node, UsbDevice, UsbFacts
from agent.doctor.gather.limit import in_thread
from agent.sources.usb_reading import glance, reading_of
from agent.text import printable
from agent.users import group_name
from agent.wire.udev import why_no_netlink
from agent.wire.usb_sysfs import DEVICES, INTERFACE, attribute, interfaces, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LIMIT = 3.0
"""Seconds; a device that hangs while it is configured holds its readers in the kernel."""


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
    return UsbFacts(enabled, (run / "control").exists(), why_no_netlink(), devices)


def _devices(sysfs: Path, run: Path, dev: Path) -> Iterator[UsbDevice]:
    """In the order of their ports."""
    try:
        names = [each.name for each in (sysfs / DEVICES).iterdir()]
    except OSError:  # no USB in this kernel
        return
    for name in sorted((each for each in names if ":" not in each), key=_natural):
        try:
            yield _device((sysfs / DEVICES / name).resolve(), sysfs.resolve(), run, dev)
        except (OSError, ValueError, KeyError):
            continue  # unplugged meanwhile, and its files half gone


def _natural(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _device(place: Path, sysfs: Path, run: Path, dev: Path) -> UsbDevice:
    event = _properties((place / "uevent").read_text(), "")
    known = _properties(
        attribute(f"{run}/data/c{event.get('MAJOR', '189')}:{event.get('MINOR', '')}"), "E:"
    )
    properties = event | known
    path = "/" + str(place.relative_to(sysfs))
    reading = glance(reading_of(path, properties), str(sysfs))
    parts = interfaces(str(place))
    speed = attribute(f"{place}/speed")
    return UsbDevice(
        port=reading.port,
        controller=next(
            (
                above.parent.name
                for above in (place, *place.parents)
                if re.fullmatch(r"usb\d+", above.name)
            ),
            "",
        ),
        bus=int(event["BUSNUM"]),
        kind=reading.kind,
        is_phone=reading.is_phone,
        serial=attribute(f"{place}/serial"),
        product=attribute(f"{place}/product"),
        speed=float(speed) if re.fullmatch(r"[0-9.]+", speed) else 0.0,
        endpoints=sum(len(list(Path(each).glob("ep_*"))) for each in (str(place), *parts)),
        node=_node(dev / event["DEVNAME"]) if "DEVNAME" in event else None,
        blocked=bool(reading.blocked),
        mode=reading.mode,
        dump=_dump(path, str(place), parts, properties),
    )


def _properties(text: str, mark: str) -> dict[str, str]:
    """The lines `KEY=VALUE` that begin with the mark."""
    return dict(re.findall(rf"^{mark}(\w+)=(.*)$", text, re.MULTILINE))


def _dump(path: str, place: str, parts: Iterable[str], properties: Mapping[str, str]) -> str:
    """Nothing of it waits for the device."""
    lines = [f"P: {path}", f"E: DEVPATH={path}", "E: SUBSYSTEM=usb"]
    lines += (f"E: {key}={value}" for key, value in sorted(properties.items()))
    lines += _attributes(place, ("authorized",))
    for part in parts:
        lines += ["", f"P: {path}/{name_of(part)}", "E: DEVTYPE=usb_interface"]
        lines += _attributes(part, (*INTERFACE, "interface", "authorized"))
    return "".join(f"{printable(line, None)}\n" for line in lines)


def _attributes(place: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if text := attribute(f"{place}/{name}"):
            yield f"A: {name}={text}"


def _node(path: Path) -> Node | None:
    try:
        found = path.stat()
    except OSError:
        return None
    group = group_name(found.st_gid) or str(found.st_gid)
    return Node(str(path), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, group)
