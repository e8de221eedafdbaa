"""Phones that exist only in memory, shown through the same protocol as real ones (for the demo)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import (
    BRIDGE_OF,
    BatteryRead,
    Bridge,
    Changed,
    Down,
    Gone,
    Platform,
    Sighting,
    Snapshot,
    SourceName,
    UsbKind,
)
from agent.reasons import Reason

if TYPE_CHECKING:
    from agent.model import Battery, Emit

NO_REASON = Reason()


@dataclass(frozen=True, slots=True)
class Phone:
    """A simulated phone."""

    serial: str
    name: str
    port: str
    platform: Platform

    @property
    def bridge(self) -> SourceName:
        """Who reaches it."""
        return BRIDGE_OF[self.platform]

    def on_usb(self) -> Sighting:
        """How udev sees it."""
        kind = UsbKind.ADB if self.platform is Platform.ANDROID else UsbKind.APPLE
        return Sighting(
            SourceName.UDEV, f"/devices/{self.port}", self.serial, self.platform, self.port, kind
        )

    def on_bridge(self, bridge: Bridge, reason: Reason) -> Sighting:
        """How adb or usbmux sees it."""
        return Sighting(
            self.bridge,
            self.serial,
            self.serial,
            self.platform,
            self.port if self.platform is Platform.ANDROID else "",
            bridge=bridge,
            reason=reason.text,
            code=reason.code,
            name=self.name if bridge is Bridge.READY else "",
        )


class Bench:
    """A bench of simulated phones and the three sources that look at it."""

    def __init__(self) -> None:
        self.sources = {name: SimulatedSource(name) for name in SourceName}

    def plug(self, phone: Phone) -> None:
        """The cable goes in; adb or usbmux does not know the phone yet."""
        self.sources[SourceName.UDEV].show(phone.on_usb())

    def bridge(self, phone: Phone, bridge: Bridge, reason: Reason = NO_REASON) -> None:
        """Adb or usbmux lists the phone, ready or not."""
        self.sources[phone.bridge].show(phone.on_bridge(bridge, reason))

    def charge(self, phone: Phone, battery: Battery | None) -> None:
        """Adb or usbmux has asked the phone for its battery."""
        self.sources[phone.bridge].tell(phone.serial, battery)

    def unplug(self, phone: Phone) -> None:
        """The cable comes out."""
        self.sources[SourceName.UDEV].hide(phone.on_usb().address)
        self.sources[phone.bridge].hide(phone.serial)

    def fail(self, name: SourceName, reason: str) -> None:
        """A source dies."""
        self.sources[name].fail(reason)

    def recover(self, name: SourceName) -> None:
        """It is back, and sees what is there."""
        self.sources[name].recover()


@dataclass(slots=True)
class SimulatedSource:
    """One source over the bench's phones; speaks `DeviceSource`."""

    name: SourceName
    _phones: dict[str, Sighting] = field(default_factory=dict)
    _emit: Emit | None = None

    async def run(self, emit: Emit) -> None:
        """Show what is there, then every change, until cancelled."""
        self._emit = emit
        emit(self._snapshot())
        try:
            await asyncio.Event().wait()
        finally:
            self._emit = None

    async def recheck(self) -> None:
        """Everything was said when it happened."""

    def show(self, sighting: Sighting) -> None:
        """A phone appears or changes."""
        before = self._phones.get(sighting.address)
        self._phones[sighting.address] = sighting
        if self._emit is not None and sighting != before:
            self._emit(Changed(sighting))

    def hide(self, address: str) -> None:
        """A phone goes."""
        if self._phones.pop(address, None) is not None and self._emit is not None:
            self._emit(Gone(self.name, address))

    def tell(self, address: str, battery: Battery | None) -> None:
        """A phone that is there says how its battery is."""
        if self._emit is not None and address in self._phones:
            self._emit(BatteryRead(self.name, address, battery))

    def fail(self, reason: str) -> None:
        """The source cannot see."""
        if self._emit is not None:
            self._emit(Down(self.name, reason))

    def recover(self) -> None:
        """The source sees again."""
        if self._emit is not None:
            self._emit(self._snapshot())

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.name, tuple(self._phones.values()))
