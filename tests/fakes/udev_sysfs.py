"""A fake sysfs and udev database with USB devices in it, as libudev reads them.

    sysfs = FakeSysfs(root)
    phone = sysfs.add_phone("1-4.2", "R58M12ABCDE", 0x04E8, 0x6860, ADB_AND_MTP)

writes below `root/sys` and `root/run/udev`, to be bind-mounted on /sys and /run/udev
(tests/fakes/udev_namespace.py does that). libudev must not check that /sys is a real sysfs:
SYSTEMD_DEVICE_VERIFY_SYSFS=0 before it is loaded. The layout is the kernel's
(Documentation/ABI/testing/sysfs-bus-usb), the database's lines are systemd's.
"""

from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.fakes.udev_dump import Dumped

Interface = tuple[int, int, int]

ADB: Interface = (0xFF, 0x42, 0x01)
FASTBOOT: Interface = (0xFF, 0x42, 0x03)
MTP: Interface = (0x06, 0x01, 0x01)
APPLE_MUX: Interface = (0xFF, 0xFE, 0x02)
KEYBOARD: Interface = (0x03, 0x01, 0x01)
HUB: Interface = (0x09, 0x00, 0x00)

CONTROLLER = "/devices/pci0000:00/0000:00:14.0"
USB_MAJOR = 189


@dataclass(frozen=True)
class FakeUsbDevice:
    """One USB device; its properties are what the kernel and udev's rules say of it."""

    port: str
    serial: str
    vid: int
    pid: int
    interfaces: tuple[Interface, ...]
    device_class: int
    model: str
    mtp: bool
    minor: int

    @property
    def devpath(self) -> str:
        """`1-4.2` hangs at `1-4`, which hangs at `usb1`."""
        bus, _, chain = self.port.partition("-")
        steps = itertools.accumulate(chain.split("."), lambda above, step: f"{above}.{step}")
        return "/".join([CONTROLLER, f"usb{bus}", *(f"{bus}-{step}" for step in steps)])

    @property
    def kernel_properties(self) -> dict[str, str]:
        """As in the device's uevent file."""
        return {
            "MAJOR": str(USB_MAJOR),
            "MINOR": str(self.minor),
            "DEVNAME": f"bus/usb/001/{self.minor + 1:03}",
            "DEVTYPE": "usb_device",
            "DRIVER": "usb",
            "PRODUCT": f"{self.vid:x}/{self.pid:x}/100",
            "TYPE": f"{self.device_class}/0/0",
            "BUSNUM": "001",
            "DEVNUM": f"{self.minor + 1:03}",
        }

    @property
    def database_properties(self) -> dict[str, str]:
        """As udev's usb_id builtin and its rules set them."""
        found = {
            "ID_BUS": "usb",
            "ID_MODEL": self.model.replace(" ", "_") or f"{self.pid:04x}",
            "ID_MODEL_ID": f"{self.pid:04x}",
            "ID_VENDOR_ID": f"{self.vid:04x}",
        }
        if self.interfaces:
            codes = "".join(f"{bytes(interface).hex()}:" for interface in self.interfaces)
            found["ID_USB_INTERFACES"] = f":{codes}"
        if self.serial:
            found["ID_SERIAL_SHORT"] = self.serial
        if self.mtp:
            found["ID_MTP_DEVICE"] = "1"
        return found

    @property
    def properties(self) -> dict[str, str]:
        """As udevd sends them, but for ACTION and SEQNUM."""
        return {
            "DEVPATH": self.devpath,
            "SUBSYSTEM": "usb",
            **self.kernel_properties,
            **self.database_properties,
        }


class FakeSysfs:
    """What is plugged in, and whether udevd runs."""

    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        self.run = root / "run" / "udev"
        self.plugged: dict[str, FakeUsbDevice | Dumped] = {}
        self._minors = itertools.count(1)
        self._folders = (self._bus, self.sys / "devices", self.sys / "class", self._data)
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._add_root_hub()

    @property
    def _bus(self) -> Path:
        return self.sys / "bus" / "usb" / "devices"

    @property
    def _data(self) -> Path:
        return self.run / "data"

    @property
    def control(self) -> Path:
        """Its presence says that udevd runs."""
        return self.run / "control"

    def start_udevd(self) -> None:
        """As every start does, make the control file anew."""
        self.control.unlink(missing_ok=True)
        self.control.touch()

    def stop_udevd(self) -> None:
        """Stopped for good: the control file goes."""
        self.control.unlink(missing_ok=True)

    def directory(self, device: FakeUsbDevice | Dumped) -> Path:
        """The device's own directory."""
        return self.sys / device.devpath.lstrip("/")

    def add_phone(
        self,
        port: str,
        serial: str,
        vid: int = 0x18D1,
        pid: int = 0x4EE7,
        interfaces: Iterable[Interface] = (ADB,),
        *,
        model: str = "Pixel 7",
        mtp: bool = False,
        device_class: int = 0,
        in_database: bool = True,
        speed: str = "480",
        authorized: bool = True,
        interface_name: str = "",
    ) -> FakeUsbDevice:
        """Plug a device in. Without `in_database`, udev's rules told nothing of it.

        One that is not `authorized` has no interfaces in sysfs; udev read its descriptors though.
        `interface_name` is what its first interface calls itself.
        """
        device = FakeUsbDevice(
            port=port,
            serial=serial,
            vid=vid,
            pid=pid,
            interfaces=tuple(interfaces),
            device_class=device_class,
            model=model,
            mtp=mtp,
            minor=next(self._minors),
        )
        self._write(device, in_database=in_database, authorized=authorized)
        (self.directory(device) / "speed").write_text(f"{speed}\n")
        if interface_name:
            interface = self.directory(device) / f"{port}:1.0"
            (interface / "interface").write_text(f"{interface_name}\n")
        self.plugged[port] = device
        return device

    def add_dumped(self, device: Dumped) -> Dumped:
        """Plug in what a dump of somebody's host shows (tests/fakes/udev_dump.py)."""
        device.minor = next(self._minors)
        device.properties |= device.kernel_properties
        place = self.directory(device)
        place.mkdir(parents=True, exist_ok=True)
        _link(self._bus / device.port, place)
        _link(place / "subsystem", self._bus.parent)
        (place / "uevent").write_text(_lines(device.kernel_properties))
        for name, value in device.attributes.items():
            (place / name).write_text(f"{value}\n")
        if device.attributes.get("authorized") != "0":
            for number, codes in enumerate(device.interfaces):
                name = f"{device.port}:1.{number}"
                self._write_interface(place, name, codes)
                told = device.interface_attributes[number : number + 1]
                for attribute, value in told[0].items() if told else ():
                    (place / name / attribute).write_text(f"{value}\n")
        self._write_database(device.minor, device.database_properties)
        self.plugged[device.port] = device
        return device

    def add_hub(self, port: str, port_count: int = 4) -> FakeUsbDevice:
        """Plug a hub in; phones at `PORT.1`, `PORT.2` … hang at it."""
        hub = self.add_phone(port, "", 0x05E3, 0x0610, [HUB], model="USB2.0 Hub", device_class=9)
        (self.directory(hub) / "maxchild").write_text(f"{port_count}\n")
        return hub

    def remove(self, port: str) -> FakeUsbDevice | Dumped:
        """Unplug it; what hangs at it must have been removed before, as the kernel does."""
        device = self.plugged.pop(port)
        shutil.rmtree(self.directory(device))
        (self._data / f"c{USB_MAJOR}:{device.minor}").unlink(missing_ok=True)
        for link in [self._bus / port, *self._bus.glob(f"{port}:*")]:
            link.unlink()
        return device

    def authorize(self, port: str, *, authorized: bool = True) -> None:
        """Let a device be used, or not: its interfaces appear or go. Udevd tells nothing of it."""
        device = self.plugged[port]
        place = self.directory(device)
        (place / "authorized").write_text(f"{authorized:d}\n")
        for number, codes in enumerate(device.interfaces):
            name = f"{port}:1.{number}"
            if authorized and not (place / name).exists():
                self._write_interface(place, name, codes)
            elif not authorized and (place / name).exists():
                (self._bus / name).unlink()
                shutil.rmtree(place / name)

    def clear(self) -> None:
        """Nothing plugged in, and no udevd."""
        self.plugged.clear()
        self.stop_udevd()
        for folder in self._folders:
            shutil.rmtree(folder)
            folder.mkdir()
        self._add_root_hub()

    def _add_root_hub(self) -> None:
        """Its interface: `1-0:1.0`, as every kernel lists it, though no device is called `1-0`."""
        if not (self._bus / "1-0:1.0").is_symlink():
            place = self.sys / CONTROLLER.lstrip("/") / "usb1"
            place.mkdir(parents=True, exist_ok=True)
            self._write_interface(place, "1-0:1.0", HUB)

    def _write(self, device: FakeUsbDevice, *, in_database: bool, authorized: bool) -> None:
        place = self.directory(device)
        # Where hubs need not matter, a phone's directory stands for them.
        place.mkdir(parents=True, exist_ok=True)
        _link(self._bus / device.port, place)
        _link(place / "subsystem", self._bus.parent)
        (place / "uevent").write_text(_lines(device.kernel_properties))
        (place / "product").write_text(f"{device.model}\n")
        if device.serial:
            (place / "serial").write_text(f"{device.serial}\n")
        (place / "authorized").write_text(f"{authorized:d}\n")
        for number, codes in enumerate(device.interfaces if authorized else ()):
            self._write_interface(place, f"{device.port}:1.{number}", codes)
        self._write_database(device.minor, device.database_properties if in_database else {})

    def _write_database(self, minor: int, entries: Mapping[str, str]) -> None:
        (self._data / f"c{USB_MAJOR}:{minor}").write_text(
            "I:1000000\n" + "".join(f"E:{key}={value}\n" for key, value in entries.items())
        )

    def _write_interface(self, place: Path, name: str, codes: Interface) -> None:
        interface = place / name
        interface.mkdir()
        _link(self._bus / name, interface)
        _link(interface / "subsystem", self._bus.parent)
        (interface / "uevent").write_text("DEVTYPE=usb_interface\n")
        (interface / "authorized").write_text("1\n")
        attributes = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
        for attribute, code in zip(attributes, codes, strict=True):
            (interface / attribute).write_text(f"{code:02x}\n")


def _lines(properties: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def _link(link: Path, target: Path) -> None:
    """Relative, as sysfs has them, so that they hold wherever this is mounted."""
    link.symlink_to(os.path.relpath(target, link.parent))
