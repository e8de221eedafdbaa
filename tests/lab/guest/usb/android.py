"""An Android phone on USB: its descriptors by mode, and the device side of ADB over bulk endpoints.

AOSP packages/modules/adb, docs/dev/protocol.md: over USB a message's header (24 bytes) and its
payload are transfers of their own. The protocol itself is that of `tests.fakes.phone`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from tests.fakes.phone import CNXN, HEADER, FakePhone, Link

from .apps import UIAUTOMATOR2_PORT, uiautomator2
from .device import INTERRUPT, Configuration, Description, Device, Endpoint, Interface

if TYPE_CHECKING:
    from .device import Function, Pipe

GOOGLE = 0x18D1
ADB, FASTBOOT = (0xFF, 0x42, 0x01), (0xFF, 0x42, 0x03)
STILL_IMAGE = (0x06, 0x01, 0x01)
RNDIS, CDC_DATA = (0xE0, 0x01, 0x03), (0x0A, 0x00, 0x00)
VENDOR = (0xFF, 0xFF, 0x00)
SAHARA = (0xFF, 0xFF, 0xFF)
QUALCOMM = 0x05C6
ADB_ENDPOINT = 1
"""0x01 out, 0x81 in; other interfaces use higher numbers."""


class Mode(StrEnum):
    """What a phone is on the bus as; all but the last five are a user's choice in its settings."""

    ADB = "adb"
    MTP = "mtp"
    MTP_ADB = "mtp+adb"
    PTP = "ptp"
    PTP_ADB = "ptp+adb"
    TETHERING = "tethering"
    TETHERING_ADB = "tethering+adb"
    CHARGING = "charging"
    FASTBOOT = "fastboot"
    RECOVERY = "recovery"
    SIDELOAD = "sideload"
    EDL = "edl"


@dataclass(frozen=True)
class _Shape:
    product: int
    """USB product id; Google's (usb.ids, and AOSP's init.usb.configfs.rc)."""
    triples: tuple[tuple[int, int, int], ...]
    banner: str = "device"
    """How its CNXN begins."""
    vendor: int = 0
    """Whose it says it is, where that is not the phone's maker; it has no serial then."""
    name: str = ""
    """Its product string, where that is not the phone's model."""


_SHAPES = {
    Mode.ADB: _Shape(0x4EE7, (ADB,)),
    Mode.MTP: _Shape(0x4EE1, (STILL_IMAGE,)),
    Mode.MTP_ADB: _Shape(0x4EE2, (STILL_IMAGE, ADB)),
    Mode.PTP: _Shape(0x4EE5, (STILL_IMAGE,)),
    Mode.PTP_ADB: _Shape(0x4EE6, (STILL_IMAGE, ADB)),
    Mode.TETHERING: _Shape(0x4EE3, (RNDIS, CDC_DATA)),
    Mode.TETHERING_ADB: _Shape(0x4EE4, (RNDIS, CDC_DATA, ADB)),
    Mode.CHARGING: _Shape(0x4EE9, (VENDOR,)),
    Mode.FASTBOOT: _Shape(0x4EE0, (FASTBOOT,), name="Android"),
    Mode.RECOVERY: _Shape(0xD001, (ADB,), "recovery"),
    Mode.SIDELOAD: _Shape(0xD001, (ADB,), "sideload"),
    # A Qualcomm chip's boot ROM (usb.ids 05c6:9008, "Qualcomm HS-USB QDLoader 9008").
    Mode.EDL: _Shape(0x9008, (SAHARA,), vendor=QUALCOMM, name="QUSB__BULK"),
}
_NAMES = {ADB: "ADB Interface", FASTBOOT: "fastboot", STILL_IMAGE: "MTP"}


def _bulk(number: int) -> tuple[Endpoint, Endpoint]:
    return Endpoint(number), Endpoint(number | 0x80)


def _endpoints(triple: tuple[int, int, int]) -> tuple[Endpoint, ...]:
    if triple in (ADB, FASTBOOT):
        return _bulk(ADB_ENDPOINT)
    if triple == STILL_IMAGE:
        return (*_bulk(2), Endpoint(0x83, INTERRUPT, 28, 6))
    if triple == RNDIS:
        return (Endpoint(0x84, INTERRUPT, 8, 9),)
    return _bulk(5) if triple == CDC_DATA else ()


class AndroidPhone(FakePhone):
    """A `FakePhone` behind a USB plug instead of a TCP port; never `start`ed."""

    kind: ClassVar = "android"
    kinds: ClassVar[dict[str, type]] = {
        "mode": Mode,
        "authorised": bool,
        "wedged": bool,
        "device_name": str,
        "model": str,
        "marketname": str,
        "vendor": int,
        "answers": dict,
        "usb_serial": str,
        "uiautomator2": str,
    }
    """Its settings, and what they hold."""
    fixed: ClassVar = frozenset({"mode", "vendor", "usb_serial"})
    """Those that its descriptors are made of."""

    def __init__(self, *, usb_serial: str) -> None:
        super().__init__(serialno=usb_serial)
        self.usb_serial = usb_serial
        self.vendor = GOOGLE
        self.mode = Mode.ADB
        self.uiautomator2 = ""
        self.answered_at: float | None = None
        """Wall time of its first CNXN since `device` was asked for."""

    def settings(self) -> dict[str, Any]:
        """All of `kinds`, and what it was asked."""
        return {
            "mode": self.mode,
            "authorised": self.authorised,
            "wedged": self.stalled,
            "device_name": self.device_name,
            "model": self.properties["ro.product.model"],
            "marketname": self.properties["ro.product.marketname"],
            "vendor": self.vendor,
            "answers": self.shells,
            "usb_serial": self.usb_serial,
            "uiautomator2": self.uiautomator2,
            "commands": self.commands,
        }

    def set(self, name: str, value: Any) -> None:
        """One of `kinds`, of that kind."""
        match name:
            case "authorised":
                (self.accept if value else self.revoke)()
            case "wedged":
                (self.stall if value else self.resume)()
            case "model" | "marketname":
                self.properties[f"ro.product.{name}"] = value
            case "answers":
                self.shells = value
            case "usb_serial":
                self.usb_serial = self.properties["ro.serialno"] = value
            case "uiautomator2":
                self.uiautomator2 = value
                self.apps.pop(UIAUTOMATOR2_PORT, None)
                if value:
                    self.apps[UIAUTOMATOR2_PORT] = lambda _: uiautomator2(value)
            case _:
                setattr(self, name, value)

    async def prepare(self) -> None:
        """Nothing is needed before it is plugged in."""

    def banner(self) -> bytes:
        self.answered_at = self.answered_at or time.time()
        return super().banner().replace(b"device", _SHAPES[self.mode].banner.encode(), 1)

    def device(self) -> Device:
        """What it is on the bus as now: a device to be plugged in, in the present mode."""
        self.answered_at = None
        shape = _SHAPES[self.mode]
        description = Description(
            vendor=shape.vendor or self.vendor,
            product=shape.product,
            manufacturer="Google" if self.vendor == GOOGLE else "Lab",
            name=shape.name or self.properties["ro.product.model"],
            serial="" if shape.vendor else self.usb_serial,
            configurations=(
                Configuration(
                    tuple(
                        Interface(number, triple, _endpoints(triple), _NAMES.get(triple, ""))
                        for number, triple in enumerate(shape.triples)
                    )
                ),
            ),
        )
        functions: dict[int, Function] = {ADB_ENDPOINT: Adb(self)} if ADB in shape.triples else {}
        return Device(description, {1: functions})


class Adb:
    """The ADB interface's function."""

    def __init__(self, phone: AndroidPhone) -> None:
        self._phone = phone
        self._pipe: Pipe | None = None
        self._link: Link | None = None

    def open(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def close(self) -> None:
        self._hang_up()
        self._pipe = None

    def receive(self, data: bytes) -> None:
        # An adb server that begins anew, the last one killed in the middle of anything: what it
        # left in either direction is void, as a phone's adbd sees to.
        if len(data) == HEADER.size and HEADER.unpack(data)[0] == CNXN:
            self._greeted()
        if self._link is not None:
            self._link.data_received(data)

    def _greeted(self) -> None:
        self._hang_up()
        assert self._pipe is not None
        self._pipe.clear()
        self._link = Link(self._phone)
        self._link.connection_made(_Transfers(self._pipe))

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.connection_lost(None)
            self._link = None


class _Transfers(asyncio.Transport):
    """What the protocol writes to: each message becomes transfers."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe: Pipe | None = pipe

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """One whole message."""
        if self._pipe is not None:
            self._pipe.write(bytes(data[: HEADER.size]))
            if len(data) > HEADER.size:
                self._pipe.write(bytes(data[HEADER.size :]))

    def abort(self) -> None:
        """Say nothing more; a phone cannot hang up otherwise while it is plugged in."""
        self._pipe = None
