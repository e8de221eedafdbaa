"""The udev source: which USB devices are on this host, by libudev's monitor and enumeration.

The only file that imports pyudev, and it does so when it runs: on a host without libudev it says
`Down` with the remedy.

Why it is built as it is:

* The event loop reads messages from their own properties alone; sysfs is read in threads only.
  A USB device's `serial`, `product` and more take the device's lock in the kernel (Linux,
  drivers/usb/core/sysfs.c), so a phone that hangs while it is configured holds a reader for tens
  of seconds. One daemonic thread per such phone: it degrades only itself.
* Making a libudev context spawns `ldconfig` (ctypes.util.find_library), and enumeration reads
  thousands of files: both run in a thread, with a context of its own (a context is not to be
  shared between threads). Measured: 1,000 phones of two interfaces each take 0.45 s, in which the
  loop's longest pause was 4 ms.
* A `remove` is known by its DEVPATH alone: `unbind` has mostly wiped the serial by then.
* After an overflow (ENOBUFS) pyudev's poll() raises for ever, and messages are lost in any case:
  the monitor is rebuilt and a fresh snapshot taken. A new udevd is met the same way.
* Without udevd nobody sends. Its control file tells: libudev looks at it too when a monitor is
  made, and where it is missing and /dev is no devtmpfs the monitor joins no group, silently and for
  good. No file is `Down`, another file a new monitor. A udevd that is killed leaves its file and is
  started again by its supervisor; monitors outlive that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from agent.model import Changed, Down, Gone, Platform, Sighting, Snapshot, SourceName, UsbKind
from agent.sources.usb_kind import HUB_CLASS, classify
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyudev

    from agent.model import Emit

T = TypeVar("T")

log = structlog.get_logger(__name__)

SYSFS = Path("/sys")

BATCH = 256
"""Messages read per wake-up, about 10 ms; a storm leaves the loop its turns."""

PATIENCE = 30.0
"""Seconds after which an enumeration that does not return is reported as `Down`."""

RECEIVE_BUFFER = 16 * 1024 * 1024
"""Bytes; a message takes 2 to 4 KiB of it. Past /proc/sys/net/core/rmem_max only CAP_NET_ADMIN
gets it; anybody else gets what the kernel allows, and overflows are survived."""

NETLINK_KOBJECT_UEVENT = 15
"""linux/netlink.h; Python has no name for it."""

_OVERFLOW = {None, errno.ENOBUFS}
"""errno of pyudev's OSError: poll(2) reported an error, or receiving did. Any other one is libudev
refusing a message (ENODEV: of no device)."""

_PLATFORMS = {
    UsbKind.ADB: Platform.ANDROID,
    UsbKind.FASTBOOT: Platform.ANDROID,
    UsbKind.MTP: Platform.ANDROID,
    UsbKind.APPLE: Platform.IOS,
    UsbKind.APPLE_RECOVERY: Platform.IOS,
}


class UdevSource:
    """USB presence: a sighting per phone, and per other device that has a serial. Never hubs.

    An address is a DEVPATH. `control` is udevd's control file, looked at every `retry` seconds;
    `receive_buffer` is in bytes, `patience` in seconds.
    """

    def __init__(
        self,
        *,
        control: Path = Path("/run/udev/control"),
        retry: float = 2.0,
        receive_buffer: int = RECEIVE_BUFFER,
        patience: float = PATIENCE,
    ) -> None:
        self._control = control
        self._retry = retry
        self._receive_buffer = receive_buffer
        self._patience = patience

    @property
    def name(self) -> SourceName:
        """Whose observations these are."""
        return SourceName.UDEV

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled; raises nothing but CancelledError, and leaves nothing open."""
        voice = _Voice(emit)
        while True:
            try:
                await self._connection(voice)
            except _CannotSeeError as error:
                voice.down(str(error))
            else:
                continue  # what was lost is lost: listen anew at once
            await asyncio.sleep(self._retry)

    async def _connection(self, voice: _Voice) -> None:
        """Listen, enumerate, tell. Returns when messages were lost or another udevd is there."""
        control = self._control_id()
        listener = _Listener(
            await self._patiently(partial(_open_monitor, self._receive_buffer), voice), voice
        )
        try:
            found = await self._patiently(_enumerate, voice)
            if not listener.lost.done():
                listener.go_live(found)
            while not listener.lost.done():
                await asyncio.wait({listener.lost}, timeout=self._retry)
                if self._control_id() != control:
                    log.info("udev.restarted", control=str(self._control))
                    return
        finally:
            listener.close()

    async def _patiently(self, work: Callable[[], T], voice: _Voice) -> T:
        """Do it in a thread; past the limit say `Down` and wait on.

        Trying again would only hang a second thread at the same device.
        """
        result = asyncio.ensure_future(in_thread(work, "udev"))
        try:
            done, _ = await asyncio.wait({result}, timeout=self._patience)
            if not done:
                voice.down(
                    f"reading the USB devices has not ended for {self._patience:g} s: one of them,"
                    " or a hub, hangs in the kernel; see dmesg, unplug or power-cycle it"
                )
            return await result
        finally:
            result.cancel()

    def _control_id(self) -> tuple[int, int]:
        """Which control file is there; another one is another udevd's."""
        try:
            status = self._control.stat()
        except OSError as error:
            raise _CannotSeeError(
                f"udevd is not running (no {self._control}: {error.strerror}): start it with"
                " 'systemctl start systemd-udevd'; in a container, run the agent on the host, or"
                " give the container the host's network namespace and /run/udev"
            ) from None
        return status.st_ino, status.st_ctime_ns


class _CannotSeeError(Exception):
    """Why devices cannot be seen, in the operator's words."""


class _Voice:
    """Emits; says `Down` once per outage."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._is_down = False

    def snapshot(self, sightings: tuple[Sighting, ...]) -> None:
        self._is_down = False
        log.info("udev.snapshot", devices=len(sightings))
        self._emit(Snapshot(SourceName.UDEV, sightings))

    def edge(self, observation: Changed | Gone) -> None:
        self._emit(observation)

    def down(self, reason: str) -> None:
        if not self._is_down:
            self._is_down = True
            log.warning("udev.down", reason=reason)
            self._emit(Down(SourceName.UDEV, reason))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One USB device as one message, or one look into sysfs, described it."""

    address: str
    vendor: int
    product: int
    device_class: int
    interfaces: frozenset[tuple[int, int, int]]
    is_mtp: bool
    serial: str
    model: str

    @property
    def complete(self) -> bool:
        """Is all there that tells who and what it is? A hub needs no more."""
        return self.device_class == HUB_CLASS or bool(self.serial and self.interfaces)

    @property
    def sighting(self) -> Sighting | None:
        """None for what cannot concern anybody: hubs, and non-phones without a serial."""
        kind = classify(self.vendor, self.product, self.device_class, self.interfaces, self.is_mtp)
        if kind is None or (kind is UsbKind.OTHER and not self.serial):
            return None
        return Sighting(
            source=SourceName.UDEV,
            address=self.address,
            serial=self.serial,
            platform=_PLATFORMS.get(kind),
            port=self.address.rpartition("/")[2],
            usb=kind,
            model=self.model,
        )


@dataclass(frozen=True, slots=True)
class _Message:
    """What udevd said of one device."""

    action: str
    address: str
    reading: _Reading | None
    """None for a `remove`."""


class _Devices:
    """What is known of every USB device by now, by address. Pure."""

    def __init__(self, found: dict[str, _Reading]) -> None:
        self._known = found

    def sightings(self) -> tuple[Sighting, ...]:
        """All that concern us, in the order of their addresses."""
        every = (self._known[address].sighting for address in sorted(self._known))
        return tuple(sighting for sighting in every if sighting is not None)

    def holds(self, reading: _Reading) -> bool:
        """Is this very reading the latest of its device?"""
        return self._known.get(reading.address) is reading

    def missing(self, address: str) -> _Reading | None:
        """The latest reading of that device, if something is missing in it."""
        reading = self._known.get(address)
        return None if reading is None or reading.complete else reading

    def take(self, message: _Message) -> Changed | Gone | None:
        """Learn it; returns what it changes for others."""
        known, new = self._known.get(message.address), message.reading
        if new is None:
            self._known.pop(message.address, None)
        elif message.action != "add" and known is not None and not _betters(new, known):
            return None
        else:
            self._known[message.address] = new
        before = known.sighting if known is not None else None
        after = new.sighting if new is not None else None
        if after is not None:
            return Changed(after) if after != before else None
        return Gone(SourceName.UDEV, message.address) if before is not None else None


def _betters(new: _Reading, known: _Reading) -> bool:
    """Whether a `bind` or `change` may replace what is known: only to fill what was missing."""
    return not known.complete and (bool(new.serial) or not known.serial)


class _Listener:
    """Reads one monitor on the event loop, from its making on; must be closed.

    What it hears before `go_live` is kept, and put on top of what enumeration found: a removal
    during enumeration wins. `lost` is done once messages were lost; nothing is read after that.
    """

    def __init__(self, monitor: pyudev.Monitor, voice: _Voice) -> None:
        self._loop = asyncio.get_running_loop()
        self._voice = voice
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._heard: list[_Message] = []
        self._devices: _Devices | None = None
        self._rereads: dict[str, asyncio.Task[None]] = {}
        self._monitor = monitor
        self._loop.add_reader(monitor.fileno(), self._drain)

    def go_live(self, found: dict[str, _Reading]) -> None:
        """Tell the snapshot; tell every change from now on."""
        self._devices = _Devices(found)
        for message in self._heard:
            self._devices.take(message)
        self._voice.snapshot(self._devices.sightings())
        for address in {message.address for message in self._heard}:
            self._reread(address)
        self._heard.clear()

    def close(self) -> None:
        """Stop. The socket closes with the last reference to the monitor, which is this one."""
        self._loop.remove_reader(self._monitor.fileno())
        del self._monitor
        self.lost.cancel()
        for task in self._rereads.values():
            task.cancel()

    def _drain(self) -> None:
        for _ in range(BATCH):
            try:
                device = self._monitor.poll(0)
                if device is None:
                    return
                message = _message(device)
            except (ValueError, OverflowError) as error:
                # libudev refused it (EINVAL), or a property is no UTF-8. It is consumed.
                log.warning("udev.malformed", reason=str(error))
                continue
            except (OSError, MemoryError) as error:
                if isinstance(error, OSError) and error.errno not in _OVERFLOW:
                    log.warning("udev.malformed", reason=str(error))
                    continue
                log.warning("udev.overflow", reason=str(error), consequence="enumerating again")
                self._loop.remove_reader(self._monitor.fileno())
                self.lost.set_result(None)
                return
            if message is not None:
                self._take(message)

    def _take(self, message: _Message) -> None:
        if self._devices is None:
            self._heard.append(message)
            return
        change = self._devices.take(message)
        if change is not None:
            self._voice.edge(change)
        self._reread(message.address)

    def _reread(self, address: str) -> None:
        """Where a message left something out, look into sysfs for it; once at a time per device."""
        reading = self._devices.missing(address) if self._devices is not None else None
        if reading is not None and address not in self._rereads:
            self._rereads[address] = self._loop.create_task(self._look(reading))

    async def _look(self, reading: _Reading) -> None:
        address = reading.address
        try:
            filled = await in_thread(partial(_fill, reading), "udev")
        except Exception:
            log.exception("udev.unreadable", address=address)  # the next message looks again
            return
        finally:
            del self._rereads[address]
        assert self._devices is not None, "only live listeners look"
        if not self._devices.holds(reading):
            self._reread(address)  # a newer message came meanwhile, and may lack something too
            return
        change = self._devices.take(_Message("change", address, filled))
        if change is not None:
            self._voice.edge(change)


def _open_monitor(receive_buffer: int) -> pyudev.Monitor:
    """A monitor that hears of whole USB devices; raises _CannotSeeError."""
    try:
        import pyudev  # noqa: PLC0415 - see the module's docstring

        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("usb", "usb_device")
        with contextlib.suppress(OSError):  # not privileged: see RECEIVE_BUFFER
            monitor.set_receive_buffer_size(receive_buffer)
        monitor.start()
    except ImportError as error:
        raise _CannotSeeError(
            f"libudev cannot be loaded ({error}): install it (Debian: libudev1; Fedora and"
            " RHEL: systemd-libs)"
        ) from None
    except OSError as error:
        raise _CannotSeeError(
            f"no netlink socket to hear udevd with ({error}): where systemd sandboxes the agent,"
            " RestrictAddressFamilies= must list AF_NETLINK"
        ) from None
    if not _hears_udevd(monitor):
        raise _CannotSeeError(
            "libudev takes udevd for not running and hears nothing: see that /run/udev/control"
            " exists where the agent runs"
        )
    return monitor


def _hears_udevd(monitor: pyudev.Monitor) -> bool:
    """Did the monitor join a multicast group?"""
    with socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW,
        NETLINK_KOBJECT_UEVENT,
        fileno=os.dup(monitor.fileno()),
    ) as twin:
        _, groups = twin.getsockname()
    return bool(groups)


def _enumerate() -> dict[str, _Reading]:
    """Every USB device there is, by address. May take as long as a hanging device holds sysfs."""
    import pyudev  # noqa: PLC0415 - see the module's docstring

    found: dict[str, _Reading] = {}
    for device in pyudev.Context().list_devices(subsystem="usb", DEVTYPE="usb_device"):
        try:
            reading = _reading(device)
        except ValueError as error:  # a property is no UTF-8
            log.warning("udev.malformed", reason=str(error))
            continue
        found[reading.address] = reading if reading.complete else _fill(reading)
    return found


def _message(device: pyudev.Device) -> _Message | None:
    """None for what says nothing new: `unbind`, `online`, `offline`, `move`."""
    match device.action:
        case "remove":
            return _Message("remove", device.device_path, None)
        case "add" | "bind" | "change" as action:
            reading = _reading(device)
            return _Message(action, reading.address, reading)
    return None


def _reading(device: pyudev.Device) -> _Reading:
    """From udev's properties alone: reads no sysfs. Raises ValueError where one is no UTF-8.

    PRODUCT (vendor/product/release, hexadecimal) and TYPE (class/subclass/protocol, decimal) are
    the kernel's; the others are of udev's usb_id, hwdb and mtp-probe.
    """
    properties = device.properties
    vendor, product = _numbers(properties.get("PRODUCT", ""), 16)
    model = properties.get("ID_MODEL", "")
    if model == properties.get("ID_MODEL_ID"):
        # The device gave no name, so usb_id put its product id there; the database may know one.
        model = properties.get("ID_MODEL_FROM_DATABASE", "")
    return _Reading(
        address=device.device_path,
        vendor=vendor,
        product=product,
        device_class=_numbers(properties.get("TYPE", ""), 10)[0],
        interfaces=frozenset(_triples(properties.get("ID_USB_INTERFACES", ""))),
        is_mtp=properties.get("ID_MTP_DEVICE") == "1",
        serial=properties.get("ID_SERIAL_SHORT", ""),
        model=_words(model),
    )


def _numbers(text: str, base: int) -> tuple[int, int]:
    """The first two of `a/b/c`; zeros where there are none."""
    try:
        first, second, *_ = (int(part, base) for part in text.split("/"))
    except ValueError:
        return 0, 0
    return first, second


def _triples(text: str) -> Iterator[tuple[int, int, int]]:
    """The interfaces in usb_id's `:ff4201:060101:`."""
    for part in text.split(":"):
        with contextlib.suppress(ValueError):
            code = bytes.fromhex(part)
            if len(code) == 3:  # noqa: PLR2004 - class, subclass, protocol
                yield code[0], code[1], code[2]


def _words(text: str) -> str:
    """A name as people write it: udev has underscores for spaces."""
    return " ".join(text.replace("_", " ").split())


def _fill(reading: _Reading) -> _Reading:
    """Look into sysfs for what is missing. Blocks while the kernel holds the device's lock."""
    place = SYSFS / reading.address.lstrip("/")
    return replace(
        reading,
        serial=reading.serial or _attribute(place / "serial"),
        interfaces=reading.interfaces or frozenset(_interfaces(place)),
        model=reading.model or _words(_attribute(place / "product")),
    )


def _interfaces(place: Path) -> Iterator[tuple[int, int, int]]:
    """Of the active configuration: directories `PORT:CONFIGURATION.NUMBER` below the device's."""
    for interface in place.glob(f"{place.name}:*"):
        codes = (
            _attribute(interface / name)
            for name in ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
        )
        yield from _triples("".join(codes))


def _attribute(path: Path) -> str:
    """A sysfs attribute's text; "" where there is none, or the device is gone by now."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
