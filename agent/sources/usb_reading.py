"""What one USB device is, read from udev's properties and from sysfs, and judged by `usb_kind`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.model import Platform, Sighting, SourceName, UsbKind
from agent.reasons import Reason, ReasonCode
from agent.sources.usb_kind import (
    HUB_CLASS,
    STILL_IMAGE,
    VENDOR_SPECIFIC,
    classify,
    emergency_mode,
    may_be_a_phone,
)
from agent.wire.usb_sysfs import SYSFS, Interface, attribute, codes, interfaces, name_of, triples

if TYPE_CHECKING:
    from collections.abc import Mapping

PLATFORMS = {
    UsbKind.ADB: Platform.ANDROID,
    UsbKind.FASTBOOT: Platform.ANDROID,
    UsbKind.MTP: Platform.ANDROID,
    UsbKind.EMERGENCY: Platform.ANDROID,
    UsbKind.APPLE: Platform.IOS,
    UsbKind.APPLE_RECOVERY: Platform.IOS,
}

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,2})?")
_BLOCKED = (
    "blocked on this host by USB authorization (USBGuard, or authorized_default=0): allow it with"
    " 'usbguard allow-device' (its number is in 'usbguard list-devices'), or 'echo 1"
    " >/sys/bus/usb/devices/{port}/authorized'"
)
_BLOCKED_INTERFACE = (
    "an interface of it is blocked on this host by USB authorization (USBGuard, or"
    " interface_authorized_default=0): allow it with 'echo 1"
    " >/sys/bus/usb/devices/{interface}/authorized', then replug the phone"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One USB device as one message, or one look into sysfs, described it."""

    address: str
    vendor: int
    product: int
    device_class: int
    interfaces: frozenset[Interface]
    is_mtp: bool
    is_android: bool
    """In one of udev's lists."""
    appliance: str
    names: str
    serial: str
    model: str
    blocked: str = ""
    """By USB authorization: the reason."""
    maker: str = ""
    """As udev's database, or the device itself, names it."""
    speed: float = 0.0
    """Mb/s; 0: not told."""
    port_count: int = 0
    """Of a hub: its ports; 0: not told."""

    @property
    def port(self) -> str:
        """As the kernel names it: `1-4.2`. No two devices have one name."""
        return name_of(self.address)

    @property
    def complete(self) -> bool:
        """Is all there that tells who and what it is? A hub needs no more."""
        return self.device_class == HUB_CLASS or bool(self.serial and self.interfaces)

    @property
    def kind(self) -> UsbKind | None:
        """None for hubs."""
        return classify(
            self.vendor,
            self.product,
            self.device_class,
            self.interfaces,
            self.is_mtp,
            is_android=self.is_android,
            appliance=self.appliance,
        )

    @property
    def concerns(self) -> bool:
        """Whether it is a phone, or may be one that is known by its serial."""
        if self.kind is not UsbKind.OTHER:
            return self.kind is not None
        return bool(self.serial) and may_be_a_phone(
            self.vendor,
            self.product,
            self.interfaces,
            is_android=self.is_android,
            names=self.names,
        )

    @property
    def is_phone(self) -> bool:
        """Whether its descriptors say so, whatever its serial."""
        return self.kind in PLATFORMS

    @property
    def mode(self) -> str:
        """Of an emergency mode: which, and what to do."""
        if self.kind is not UsbKind.EMERGENCY:
            return ""
        return emergency_mode(self.vendor, self.product, self.appliance)

    @property
    def _mode(self) -> Reason:
        mode = self.mode
        return Reason(mode, ReasonCode.EMERGENCY_MODE) if mode else Reason()

    @property
    def sighting(self) -> Sighting | None:
        """None for what concerns nobody."""
        kind = self.kind
        if kind is None or not self.concerns:
            return None
        why = Reason(self.blocked, ReasonCode.BLOCKED) if self.blocked else self._mode
        return Sighting(
            source=SourceName.UDEV,
            address=self.address,
            serial=self.serial,
            platform=PLATFORMS.get(kind),
            port=self.port,
            usb=kind,
            reason=why.text,
            code=why.code,
            model=self.model,
        )

    def with_news(self, new: Reading) -> Reading:
        """What two readings say together: the newer one, where it knows.

        A device's entry in udev's database may be wiped, or not be written yet; another device is
        told by its ids and serial.
        """
        if (new.vendor, new.product) != (self.vendor, self.product) or (
            new.serial and self.serial and new.serial != self.serial
        ):
            return new
        return replace(
            self,
            address=new.address,
            interfaces=new.interfaces or self.interfaces,
            is_mtp=new.is_mtp or self.is_mtp,
            is_android=new.is_android or self.is_android,
            appliance=new.appliance or self.appliance,
            names=new.names or self.names,
            serial=self.serial or new.serial,
            model=self.model or new.model,
            blocked=new.blocked,
            maker=self.maker or new.maker,
            speed=new.speed or self.speed,
            port_count=new.port_count or self.port_count,
        )


def reading_of(address: str, properties: Mapping[str, str]) -> Reading:
    """From udev's properties alone: reads no sysfs. Raises ValueError where one is no UTF-8.

    PRODUCT (vendor/product/release, hexadecimal) and TYPE (class/subclass/protocol, decimal) are
    the kernel's; the others are of udev's usb_id, hwdb and mtp-probe.
    """
    vendor, product = _numbers(properties.get("PRODUCT", ""), 16)
    model, database = properties.get("ID_MODEL", ""), properties.get("ID_MODEL_FROM_DATABASE", "")
    appliance = properties.get("ID_DEBUG_APPLIANCE", "")
    names = _words(f"{model} {database}")
    if model == properties.get("ID_MODEL_ID"):
        # The device gave no name, so usb_id put its product id there; the database may know one.
        model = database
    return Reading(
        address=address,
        vendor=vendor,
        product=product,
        device_class=_numbers(properties.get("TYPE", ""), 10)[0],
        interfaces=frozenset(triples(properties.get("ID_USB_INTERFACES", ""))),
        is_mtp=properties.get("ID_MTP_DEVICE") == "1",
        is_android=appliance == "android" or properties.get("adb_user") == "yes",
        appliance=appliance,
        names=names,
        serial=properties.get("ID_SERIAL_SHORT", ""),
        model=_words(model),
        maker=_maker(properties),
    )


def _maker(properties: Mapping[str, str]) -> str:
    """The database's word first: many devices call themselves by a number, or by nothing."""
    own = properties.get("ID_VENDOR", "")
    if own == properties.get("ID_VENDOR_ID"):
        own = ""  # the device gave no name, so usb_id put its vendor's id there
    return _words(properties.get("ID_VENDOR_FROM_DATABASE", "") or own)


def _numbers(text: str, base: int) -> tuple[int, int]:
    """The first two of `a/b/c`; zeros where there are none."""
    try:
        first, second, *_ = (int(part, base) for part in text.split("/"))
    except ValueError:
        return 0, 0
    return first, second


def _words(text: str) -> str:
    """A name as people write it: udev has underscores for spaces."""
    return " ".join(text.replace("_", " ").split())


def glance_all(readings: list[Reading]) -> list[Reading]:
    """Of each of them, in their order; see `glance`."""
    return [glance(reading) for reading in readings]


def glance(reading: Reading, sysfs: str = SYSFS) -> Reading:
    """Look into sysfs for what no message tells. None of it waits for the device."""
    place = f"{sysfs}{reading.address}"
    parts = interfaces(place)
    blocked = ""
    if attribute(f"{place}/authorized") == "0":
        blocked = _BLOCKED.format(port=reading.port)
    else:
        for interface in parts:
            if attribute(f"{interface}/authorized") == "0":
                blocked = _BLOCKED_INTERFACE.format(interface=name_of(interface))
    found = reading.interfaces or frozenset(code for part in parts for code in codes(part))
    is_mtp = reading.is_mtp or (
        # Where there is no mtp-probe: Android's interface calls itself so.
        not found.isdisjoint((STILL_IMAGE, VENDOR_SPECIFIC))
        and any("MTP" in attribute(f"{interface}/interface") for interface in parts)
    )
    return replace(
        reading,
        interfaces=found,
        is_mtp=is_mtp,
        blocked=blocked,
        speed=_speed(attribute(f"{place}/speed")) or reading.speed,
        port_count=(
            _count(attribute(f"{place}/maxchild"))
            if reading.device_class == HUB_CLASS
            else reading.port_count
        ),
    )


def _speed(text: str) -> float:
    """Mb/s: `480`, `1.5`; 0 for `unknown`."""
    return float(text) if _NUMBER.fullmatch(text) else 0.0


def _count(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) and "." not in text else 0


def fill(reading: Reading) -> Reading:
    """Look into sysfs for what is missing. Blocks while the kernel holds the device's lock."""
    place = f"{SYSFS}{reading.address}"
    return replace(
        reading,
        serial=reading.serial or attribute(f"{place}/serial"),
        interfaces=reading.interfaces
        or frozenset(code for interface in interfaces(place) for code in codes(interface)),
        model=reading.model or _words(attribute(f"{place}/product")),
    )
