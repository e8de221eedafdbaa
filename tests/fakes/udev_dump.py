"""Tries on what somebody reports: what `udevadm info --export-db` says of devices on their host.

    said = await said_of(TEXT)        # inside the namespace: tests/fakes/udev_namespace.py
    assert said["1-4.2"].usb is UsbKind.MTP

`TEXT` is that command's output (also `udevadm info -q all`, `udevadm monitor -p`, an umockdev file,
or `udev.txt` of a support bundle): lines `P:`, `E: KEY=VALUE` or `KEY=VALUE`, `A: name=value`. What
is no USB device in it is left out.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import Changed
from agent.sources.udev import UdevSource
from tests.fakes.recorder import Recorder
from tests.fakes.udev_namespace import lab
from tests.fakes.udev_net import UdevNet
from tests.fakes.udev_sysfs import FakeSysfs, Interface

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.model import Sighting

_PROPERTY = re.compile(r"[>\s]*(?:E:\s*)?([A-Z][A-Za-z0-9_]*|adb_\w+)=(.*?)(?:\s+#.*)?\s*")
_ATTRIBUTE = re.compile(r"[>\s]*A:\s*(\w+)=(.*?)(?:\\n)?\s*")
_PATH = re.compile(r"[>\s]*P:\s*(/devices/\S+)\s*|UDEV\s.*\s(/devices/\S+)\s+\(\w+\)\s*")
_INTERFACE = re.compile(r"/[^/:]+:\d+\.\d+$")
_CODES = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
KERNEL = (
    "MAJOR", "MINOR", "DEVNAME", "DEVTYPE", "DRIVER", "PRODUCT", "TYPE", "BUSNUM", "DEVNUM",
)  # fmt: skip
"""Properties that are in the device's uevent file; the others are in udev's database."""


@dataclass
class Dumped:
    """One USB device of a dump; as FakeUsbDevice, for FakeSysfs and UdevNet."""

    properties: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    interface_attributes: list[dict[str, str]] = field(default_factory=list)
    minor: int = 0

    @property
    def devpath(self) -> str:
        """Where it hangs."""
        return self.properties["DEVPATH"]

    @property
    def port(self) -> str:
        """As the kernel names it."""
        return self.devpath.rpartition("/")[2]

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """As their own blocks say, else as udev does."""
        blocks = [
            (int(each[_CODES[0]], 16), int(each[_CODES[1]], 16), int(each[_CODES[2]], 16))
            for each in self.interface_attributes
            if all(name in each for name in _CODES)
        ]
        if blocks:
            return tuple(blocks)
        codes = self.properties.get("ID_USB_INTERFACES", "").split(":")
        return tuple((c[0], c[1], c[2]) for c in map(bytes.fromhex, codes) if c)

    @property
    def kernel_properties(self) -> dict[str, str]:
        """As in the device's uevent file."""
        known = {key: self.properties[key] for key in KERNEL if key in self.properties}
        ids = [self.properties.get(key, "0") for key in ("ID_VENDOR_ID", "ID_MODEL_ID")]
        ids = [each.lstrip("0") or "0" for each in ids]
        return {
            "DEVTYPE": "usb_device",
            "PRODUCT": "/".join([*ids, "0"]),
            "TYPE": "0/0/0",
            **known,
            "MAJOR": "189",
            "MINOR": str(self.minor),
        }

    @property
    def database_properties(self) -> dict[str, str]:
        """As udev's rules set them."""
        left_out = {*KERNEL, "DEVPATH", "SUBSYSTEM", "ACTION", "SEQNUM"}
        return {key: value for key, value in self.properties.items() if key not in left_out}


def parse(text: str) -> list[Dumped]:
    """The USB devices of a dump, in its order."""
    found: list[Dumped] = []
    for block in re.split(r"\n[>\s]*\n|\n(?=[>\s]*P: )", f"\n{text}\n"):
        path, properties, attributes = "", {}, {}
        for line in block.splitlines():
            if match := _PATH.fullmatch(line):
                path = match[1] or match[2]
            elif match := _ATTRIBUTE.fullmatch(line):
                attributes[match[1]] = match[2]
            elif match := _PROPERTY.fullmatch(line):
                properties[match[1]] = match[2]
        path = properties.setdefault("DEVPATH", path)
        if _INTERFACE.search(path):
            if found and path.startswith(f"{found[-1].devpath}/"):
                found[-1].interface_attributes.append(attributes)
        elif path and (properties.get("SUBSYSTEM", "usb"), properties.get("DEVTYPE")) in {
            ("usb", "usb_device"),
            ("usb", None),
        }:
            properties["SUBSYSTEM"] = "usb"
            found.append(Dumped(properties, attributes))
    return found


async def said_of(text: str) -> dict[str, Sighting]:
    """Port → what the agent says of a dump's devices; the same however it first sees them."""
    sysfs, net = FakeSysfs(lab()), UdevNet()
    sysfs.start_udevd()
    try:
        devices = [sysfs.add_dumped(device) for device in parse(text)]
        async with _watching() as enumerated:
            pass
        for device in devices:
            sysfs.remove(device.port)
        async with _watching() as heard:
            for device in devices:
                sysfs.add_dumped(device)
                net.send("add", device)
            last = sysfs.add_phone("99-1", "LAST")
            net.send("add", last)
            await heard.until(
                lambda: any(
                    isinstance(o, Changed) and o.sighting.serial == "LAST" for o in heard.seen
                ),
                "the end",
            )
            sysfs.remove(last.port)
            net.send("remove", last)
            wanted = enumerated.visible
            await heard.until(lambda: heard.visible == wanted, f"the same as enumerated: {wanted}")
    finally:
        net.close()
        sysfs.clear()
    return {sighting.port: sighting for sighting in wanted.values()}


@asynccontextmanager
async def _watching() -> AsyncIterator[Recorder]:
    """From the first snapshot on."""
    recorder = Recorder()
    task = asyncio.create_task(UdevSource().run(recorder))
    try:
        await recorder.next_after(0)
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task})
