"""An iPhone on USB: four configurations, of which usbmuxd takes the last, and what they do.

In recovery and DFU mode it is another device, with another serial, and nothing speaks usbmux.
"""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from . import pairing
from .apps import WDA_PORT, wda
from .device import INTERRUPT, Configuration, Description, Device, Endpoint, Interface
from .lockdown import PORT, PROXY_PORT, Lockdown, Manner
from .mux import Mux

if TYPE_CHECKING:
    from pathlib import Path

    from .mux import Service, Stream

APPLE = 0x05AC
MUX_ENDPOINT = 4


class Mode(StrEnum):
    """What it is on the bus as."""

    NORMAL = "normal"
    RECOVERY = "recovery"
    DFU = "dfu"


_PRODUCTS = {Mode.NORMAL: 0x12A8, Mode.RECOVERY: 0x1281, Mode.DFU: 0x1227}
_NAMES = {
    Mode.NORMAL: "iPhone",
    Mode.RECOVERY: "Apple Mobile Device (Recovery Mode)",
    Mode.DFU: "Apple Mobile Device (DFU Mode)",
}
_VALUES = {"device_name": "DeviceName", "product": "ProductType", "version": "ProductVersion"}
"""Settings that lockdownd tells as they are."""
_TRIPLES = {Mode.RECOVERY: (0xFF, 0xFF, 0x51), Mode.DFU: (0xFE, 0x01, 0x00)}

_PTP = Interface(
    0,
    (0x06, 0x01, 0x01),
    (Endpoint(0x02), Endpoint(0x82), Endpoint(0x83, INTERRUPT, 64, 10)),
    "PTP",
)
_AUDIO_CONTROL = Interface(0, (0x01, 0x01, 0x00))
_AUDIO = Interface(1, (0x01, 0x02, 0x00))
_HID = Interface(2, (0x03, 0x00, 0x00), (Endpoint(0x83, INTERRUPT, 64, 1),))
_MUX = Interface(
    1,
    (0xFF, 0xFE, 0x02),
    (Endpoint(MUX_ENDPOINT), Endpoint(MUX_ENDPOINT | 0x80)),
    "Apple USB Multiplexor",
)
_ETHERNET = (0xFF, 0xFD, 0x01)
_CONFIGURATIONS = (
    Configuration((_PTP,), "PTP"),
    Configuration((_AUDIO_CONTROL, _AUDIO, _HID), "iPod USB Interface"),
    Configuration((_PTP, _MUX), "PTP + Apple Mobile Device"),
    Configuration(
        (
            _PTP,
            _MUX,
            Interface(2, _ETHERNET, (), "Apple USB Ethernet"),
            Interface(2, _ETHERNET, (Endpoint(0x05), Endpoint(0x85)), "Apple USB Ethernet", 1),
        ),
        "PTP + Apple Mobile Device + Apple USB Ethernet",
    ),
)
"""A real one's, without the streams of its audio interface."""


class IPhone:
    """One iPhone; `directory` is where usbmuxd keeps pairing records."""

    kind: ClassVar = "iphone"
    kinds: ClassVar[dict[str, type]] = {
        "mode": Mode,
        "trusted": bool,
        "lockdown": Manner,
        "muxed": bool,
        "device_name": str,
        "product": str,
        "version": str,
        "locked": bool,
        "wda": str,
    }
    """Its settings, and what they hold."""
    fixed: ClassVar = frozenset({"mode"})
    """Those that cannot change while it is plugged in."""

    def __init__(self, serial: str, directory: Path) -> None:
        if not re.fullmatch(r"[0-9A-F]{24}|[0-9a-f]{40}", serial):
            raise ValueError(
                f"{serial!r} is no iPhone's serial: 24 upper case hexadecimal digits, "
                "or 40 lower case ones"
            )
        self.usb_serial = serial
        self.udid = serial if len(serial) == 40 else f"{serial[:8]}-{serial[8:]}"
        self.lockdown = Lockdown()
        self.trusted = True
        self.mode = Mode.NORMAL
        self.wda = ""
        self._directory = directory
        self._new = True  # never plugged in
        self._muxed = True
        self._mux: Mux | None = None
        self.lockdown.values = {
            "DeviceClass": "iPhone",
            "DeviceName": "iPhone",
            "ProductType": "iPhone14,5",
            "ProductVersion": "17.5.1",
            "BuildVersion": "21F90",
            "UniqueDeviceID": self.udid,
        }
        self.lockdown.private = {"SerialNumber": "F2LXXXXXXXXX", "PasswordProtected": False}

    @property
    def answered_at(self) -> float | None:
        """Wall time of the mux handshake since it was last plugged in."""
        return self._mux.answered_at if self._mux else None

    def settings(self) -> dict[str, Any]:
        """All of `kinds`, and what came of them."""
        return {
            "mode": self.mode,
            "udid": self.udid,
            "trusted": self.trusted,
            "hosts": list(self.lockdown.hosts),
            "sessions": self.lockdown.sessions,
            "lockdown": self.lockdown.manner,
            "muxed": self._muxed,
            **{name: self.lockdown.values[key] for name, key in _VALUES.items()},
            "locked": self.lockdown.locked,
            "wda": self.wda,
        }

    def set(self, name: str, value: Any) -> None:
        """One of `kinds`, of that kind."""
        match name:
            case "trusted":
                self._trust(value)
            case "lockdown":
                self.lockdown.manner = value
            case "muxed":
                self._muxed = value
                if self._mux is not None:
                    self._mux.muted = not value
            case "locked":
                self.lockdown.locked = value
            case "device_name" | "product" | "version":
                self.lockdown.values[_VALUES[name]] = value
            case _:
                setattr(self, name, value)

    async def prepare(self) -> None:
        """Before it is plugged in: keys, and this host's record where the phone trusts it."""
        # In a thread: `openssl` takes seconds, and the other phones go on meanwhile.
        made = await asyncio.to_thread(pairing.material)
        self.lockdown.values["DevicePublicKey"] = made.public_key
        if self._new and self.trusted:
            record = await asyncio.to_thread(pairing.trusted_record, self._directory, self.udid)
            certificates = pairing.host_certificates(record)
            if certificates is not None:
                self.lockdown.hosts[record["HostID"]] = certificates
        self._new = False

    def device(self) -> Device:
        """What it is on the bus as now."""
        normal = self.mode is Mode.NORMAL
        self._mux = Mux(self._service) if normal else None
        serial = self.usb_serial
        configurations: tuple[Configuration, ...] = _CONFIGURATIONS
        if not normal:
            serial = f"CPID:8110 CPRV:11 CPFM:03 SCEP:01 BDID:0C ECID:{self.usb_serial[8:]} IBFL:3D"
            configurations = (Configuration((Interface(0, _TRIPLES[self.mode]),)),)
        description = Description(
            vendor=APPLE,
            product=_PRODUCTS[self.mode],
            manufacturer="Apple Inc.",
            name=_NAMES[self.mode],
            serial=serial,
            configurations=configurations,
            release=0x1405,
        )
        if self._mux is None:
            return Device(description, {})
        self._mux.muted = not self._muxed
        functions = {MUX_ENDPOINT: self._mux}
        return Device(description, {3: functions, 4: functions})

    def _service(self, port: int) -> Service | None:
        if port == PORT and self.lockdown.manner is not Manner.REFUSES:
            return self.lockdown.serve
        if port == WDA_PORT and self.wda:
            return self._serve_wda
        return self.lockdown.serve_proxy if port == PROXY_PORT else None

    async def _serve_wda(self, stream: Stream) -> None:
        await stream.raw.readuntil(b"\r\n\r\n")
        stream.write(wda(self.wda))
        await stream.until_closed()

    def _trust(self, trusted: bool) -> None:
        self.trusted = trusted
        if not trusted:
            self.lockdown.will_pair = False
            self.lockdown.hosts.clear()
        elif not self._new:
            self.lockdown.tap_trust()
