"""The words of the house: readings in, transitions derived, callbacks stored, attempts sent.

Only frozen records and enums; no behaviour beyond naming. Times named `*_ms` are wall-clock
milliseconds since the Unix epoch (what is stored and shown); times named `now` or `*_at` in
the pure modules are seconds of a monotonic clock (what holds are measured with).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.reasons import ReasonCode


class Platform(StrEnum):
    """What kind of phone."""

    ANDROID = "android"
    IOS = "ios"


class DeviceState(StrEnum):
    """The derived state of a device. Not adb's state: that one is `sources.adb.AdbState`."""

    ONLINE = "online"
    OFFLINE = "offline"
    UTILIZING = "utilizing"
    UNPLUGGED = "unplugged"


class Presence(StrEnum):
    """Is the phone on a USB port of this host? `UNKNOWN` where udev cannot say."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Bridge(StrEnum):
    """What adb or usbmux says of the phone. `UNKNOWN` while that source is down."""

    READY = "ready"
    NOT_READY = "not ready"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Usage(StrEnum):
    """Is a session using the phone?"""

    IN_USE = "in use"
    IDLE = "idle"
    UNKNOWN = "unknown"


class Visibility(StrEnum):
    """`private` and `local` ones call back, `public` ones are tracked only, `ignore` leaves out."""

    PRIVATE = "private"
    LOCAL = "local"
    PUBLIC = "public"
    IGNORE = "ignore"


CALLING: Final = frozenset({Visibility.PRIVATE, Visibility.LOCAL})
"""Devices that call back; `public` ones are only tracked and shown."""


class SourceName(StrEnum):
    """Who observed."""

    UDEV = "udev"
    ADB = "adb"
    USBMUX = "usbmux"


BRIDGE_OF = {Platform.ANDROID: SourceName.ADB, Platform.IOS: SourceName.USBMUX}
"""Which source bridges to a platform's phones."""


class UsbKind(StrEnum):
    """What a USB device's descriptors say it is, as far as this agent cares."""

    ADB = "adb"  # interface ff/42/01
    FASTBOOT = "fastboot"  # interface ff/42/03
    MTP = "mtp"  # a phone vendor's device with an MTP or PTP interface, debugging off
    APPLE = "apple"  # vendor 05ac, a phone or tablet in normal mode
    APPLE_RECOVERY = "apple recovery"  # vendor 05ac in recovery or DFU mode: its serial is no UDID
    EMERGENCY = "emergency mode"  # EDL, ramdump, preloader, download mode: its serial is no UDID
    OTHER = "other"  # anything else with a serial; a phone only if the serial is already known


@dataclass(frozen=True, slots=True)
class Sighting:
    """One phone as one source sees it right now, under the source's own address."""

    source: SourceName
    address: str
    """The source's own key, unique within it: udev DEVPATH, adb serial (or `serial#transport_id`
    where adb lists one serial twice), usbmux DeviceID."""
    serial: str
    """As reported: USB serial, adb serial (`ip:port` for network phones), usbmux SerialNumber."""
    platform: Platform | None = None
    port: str = ""
    """USB port path as the kernel names it, `1-4.2`; "" where the source cannot tell."""
    usb: UsbKind | None = None
    """udev only."""
    bridge: Bridge | None = None
    """adb and usbmux only: READY, NOT_READY, or UNKNOWN while the phone has not answered yet."""
    reason: str = ""
    """Why not ready, in the operator's words; of an emergency mode: which one."""
    code: str = ""
    """The reason's; see `agent.reasons`. "": there is no reason."""
    name: str = ""
    """The phone's own name, where it told one."""
    model: str = ""
    """Market name or model, where known."""
    network: bool = False
    """Reached over the network (adb over TCP, Wi-Fi synced iPhone); emulators are not."""
    usb_serial: str = ""
    """For network phones: `ro.serialno`, so that one phone over USB and Wi-Fi is one device."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the source sees: what is not listed is absent. First word after (re)connecting."""

    source: SourceName
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One phone appeared or changed, since the snapshot."""

    sighting: Sighting

    @property
    def source(self) -> SourceName:
        """Who says so."""
        return self.sighting.source


@dataclass(frozen=True, slots=True)
class Gone:
    """One phone is no longer seen, since the snapshot."""

    source: SourceName
    address: str


@dataclass(frozen=True, slots=True)
class Down:
    """The source cannot see: all it said is unknown (never absent) until its next snapshot."""

    source: SourceName
    reason: str
    missing: bool = False
    """What it asks was never there since the agent's start (udev: no udevd on this host), so that
    the bridge's list is the presence. Not set for one that was there and stopped."""
    code: str = ReasonCode.SOURCE_DOWN
    """The reason's."""


class BatteryHealth(StrEnum):
    """What a phone says of its battery's health."""

    GOOD = "good"
    OVERHEAT = "overheat"
    DEAD = "dead"
    OVER_VOLTAGE = "over voltage"
    FAILURE = "failure"
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class Battery:
    """A phone's battery. What it did not tell, or told so that it makes no sense, is None."""

    level: int | None = None
    """Percent."""
    temperature: float | None = None
    """Degrees Celsius."""
    health: BatteryHealth | None = None
    charging: bool | None = None
    hot: bool = False
    """By [battery] and what was before (`track.battery`), as `low` is; the source says neither."""
    low: bool = False
    at_ms: int = 0
    """When it was read last, of one that is looked at; 0: it is kept beside it."""


@dataclass(frozen=True, slots=True)
class BatteryRead:
    """What a phone said of its battery when it was asked whether it lives; no sighting."""

    source: SourceName
    address: str
    """Of its sighting by that source."""
    battery: Battery | None
    """None: it told nothing that makes sense."""


Observation = Snapshot | Changed | Gone | Down
Emit = Callable[[Observation | BatteryRead], None]
"""Takes an observation on the event loop's thread; never blocks, never raises."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What all sources together say of one device now."""

    presence: Presence = Presence.UNKNOWN
    bridge: Bridge = Bridge.UNKNOWN
    usage: Usage = Usage.IDLE
    bridge_reason: str = ""
    """Why the bridge is not ready, absent or unknown."""
    bridge_is_presence: bool = False
    """Nothing but the bridge can tell whether the phone is there (no USB source, a phone that is
    not on this host's USB): what its list leaves out is unplugged. Only for an unknown presence."""
    bridge_ruled_out: bool = False
    """udev says why its bridge cannot see the phone as it is now (boot loader, recovery, debugging
    off, blocked): there is nothing to wait for."""
    bridge_name: str = "its bridge"
    """What operators call it: adb, usbmuxd."""
    presence_reason: str = ""
    """Why the presence is unknown or absent, where that says more than the state's name."""
    usage_reason: str = ""
    """Why the usage, or a part of what could tell it, is unknown."""
    holder: str = ""
    """Who uses it, while it is in use; of an unknown usage: who did when it was last known."""
    bridge_code: str = ""
    """The code of `bridge_reason`."""
    presence_code: str = ""
    """The code of `presence_reason`; that of a usage's is always `usage_unknown`."""
    battery: str = ""
    """What is wrong with the battery of a phone that can be used."""
    battery_code: str = ""
    """The code of that."""

    def used(self, by: UsageReading) -> Readings:
        """The same with that usage."""
        # A third of the time that `dataclasses.replace` takes, for every step.
        return Readings(
            self.presence,
            self.bridge,
            by.usage,
            self.bridge_reason,
            self.bridge_is_presence,
            self.bridge_ruled_out,
            self.bridge_name,
            self.presence_reason,
            by.reason,
            by.holder,
            self.bridge_code,
            self.presence_code,
        )


@dataclass(frozen=True, slots=True)
class UsageReading:
    """What the usage sources, fused, say of one device."""

    usage: Usage = Usage.IDLE
    holder: str = ""
    """Who uses it, for operators: `alice`, `appium session 4f2a…`."""
    reason: str = ""
    """Why it, or a part of what could tell it, is unknown."""
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """Who a device is: what identify joined from all sources, with the config's word on top."""

    udid: str
    platform: Platform
    name: str
    """Best known name; falls back to the UDID. What callbacks carry."""
    model: str = ""
    port: str = ""
    tags: tuple[str, ...] = ()
    visibility: Visibility = Visibility.PRIVATE
    aliases: tuple[str, ...] = ()
    """What else it is called: its serial, where twins share one; its address on the network."""
    host: str = ""
    """Of the agent that follows it; "": this one's."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A derived state that has lasted its hold time and differs from the last one."""

    udid: str
    previous: DeviceState | None
    """None: never seen before."""
    state: DeviceState
    reason: str
    at_ms: int
    holder: str = ""
    host: str = ""
    """Of the agent that followed it then; "": this one's."""
    code: str = ""
    """The reason's, one of `agent.reasons.ReasonCode`, or of a newer agent's; "": none."""
    cause: str = ""
    """The id of what took several phones at once (`track.causes`); "": it left alone."""
    port: str = ""
    """Where it hung then, or before it left."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the store keeps it across restarts."""

    udid: str
    platform: Platform
    state: DeviceState
    since_ms: int
    name: str = ""
    """The phone's own name or model, without the config's word; "" if never told."""
    model: str = ""
    port: str = ""
    reason: str = ""
    holder: str = ""
    path: str = ""
    """The port's name that outlives reboots: `pci-0000:00:14.0-usb-0:4.2`."""
    address: str = ""
    """Where adb last reached it on the network."""
    serial: str = ""
    """As it is compared, where that is not the UDID itself."""
    shared: bool = False
    """Whether another phone has that serial too."""
    ways: str = ""
    """How it was seen since it last came: `adb udev`, `adb-network`."""
    serial_read: bool = False
    """Whether udev has read its serial since then."""
    debt: str = ""
    """What webhooks are owed of it for the time of a silence (`track.silence_book.Debt`)."""
    host: str = ""
    """At the hub: of the agent that it belongs to."""
    code: str = ""
    """The reason's."""
    cause: str = ""
    """Of its last transition."""
    waits: str = ""
    """What webhooks that wait (`after`) are still to be told of it, and when."""


@dataclass(frozen=True, slots=True)
class Callback:
    """One message to one webhook about one device; its body never changes once made."""

    message_id: str
    """The `webhook-id` header; the same over retries and restarts."""
    webhook_id: int
    udid: str
    created_ms: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that belong to the body: its Content-Type, and `ce-*` of CloudEvents."""
    state: DeviceState | None = None
    """The state it tells of."""
    rowid: int = 0
    """Given by the store; order of sending within one (webhook, device). 0: not stored yet."""
    attempts: int = 0
    """How many attempts were made."""
    due_ms: int = 0
    """Not to be sent before; 0: at once."""


class CallbackState(StrEnum):
    """Where a stored callback stands; who moves it on stands behind each."""

    PENDING = "pending"  # store.record makes it so; the dispatcher moves it on
    DELIVERED = "delivered"  # dispatcher: an attempt was answered 2xx
    DEAD = "dead"  # dispatcher: older than max_age; kept, replayable
    CANCELLED = "cancelled"  # store, at reload or start: its webhook was deleted


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of one callback and what came of it."""

    message_id: str
    started_ms: int
    duration_ms: int
    status: int | None
    """The HTTP status; None when no answer came."""
    error: str = ""
    """What went wrong, without secrets; "" on success."""
    answer: str = ""
    """At most 1 KiB of the answer's text."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Somebody's right to a device, for a time."""

    id: str
    udid: str
    holder: str
    purpose: str
    acquired_ms: int
    ttl: float
    """Seconds after the last renewal."""
    expires_ms: int
    taken: str = ""
    """From whom it was taken, and why; "": it was free."""


class SilenceKind(StrEnum):
    """What a silence covers devices by."""

    DEVICE = "device"
    TAG = "tag"
    PLATFORM = "platform"
    HUB = "hub"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Silence:
    """Somebody's wish that certain devices call nobody back, for a time."""

    id: str
    """Eight hexadecimal digits."""
    kind: SilenceKind
    value: str
    """A UDID, a tag, a platform, or the port path of a hub: what hangs there, too. "" for all."""
    reason: str
    by: str
    """Who wanted it, for operators."""
    since_ms: int
    ends_ms: int
