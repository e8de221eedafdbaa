"""The udev source: which USB devices are on this host, by libudev's monitor and enumeration.

The only file that imports pyudev, and it does so when it runs: on a host without libudev it says
`Down` with the remedy.

Why it is built as it is:

* The event loop reads messages from their own properties alone; sysfs is read in threads only.
  A USB device's `serial`, `product` and more take the device's lock in the kernel (Linux,
  drivers/usb/core/sysfs.c), so a phone that hangs while it is configured holds a reader for tens
  of seconds. One daemonic thread per such phone: it degrades only itself.
* Enumeration reads thousands of files: it runs in a thread, with a context of its own (a context is
  not to be shared between threads). Measured: 1,000 phones of two interfaces each take 0.45 s, in
  which the loop's longest pause was 4 ms.
* What a message cannot tell, and sysfs tells without that lock, is read for all that are new in one
  thread (`_glance`): is the device authorized (USBGuard), does its interface call itself MTP.
* A `remove` is known by its DEVPATH alone: `unbind` has mostly wiped the serial by then.
* After an overflow (ENOBUFS) pyudev's poll() raises for ever, and messages are lost in any case:
  the monitor is rebuilt and a fresh snapshot taken. A new udevd is met the same way.
* Without udevd nobody sends. Its control file tells: libudev looks at it too when a monitor is
  made, and where it is missing and /dev is no devtmpfs the monitor joins no group, silently and for
  good. No file is `Down`, another file a new monitor. A udevd that is killed leaves its file and is
  started again by its supervisor; monitors outlive that.
* What nobody told is found out all the same: a cable pulled while a killed udevd was not yet back,
  a `remove` that somebody made up (udevadm trigger), a device authorized later. Every few seconds,
  and when asked (`recheck`), one listing of /sys/bus/usb/devices is held against what is known. A
  link's inode number is new whenever its device is, so the listing alone says what came, went or
  was replaced, interfaces included; only that is read. Measured at 1,000 phones of two interfaces
  each: 4 ms in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import errno
import os
import socket
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from agent.model import Changed, Down, Gone, Platform, Sighting, Snapshot, SourceName, UsbKind
from agent.sources.usb_kind import (
    HUB_CLASS,
    STILL_IMAGE,
    VENDOR_SPECIFIC,
    classify,
    emergency_mode,
    may_be_a_phone,
)
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyudev

    from agent.model import Emit

T = TypeVar("T")

log = structlog.get_logger(__name__)

SYSFS = "/sys"

BATCH = 256
"""Messages read per wake-up, about 10 ms; a storm leaves the loop its turns."""

DRAINS = 64
"""Batches that `recheck` reads, more than the socket's buffer holds."""

SLICE = 32
"""Corrections made in one turn of the loop."""

PATIENCE = 30.0
"""Seconds after which an enumeration that does not return is reported as `Down`."""

COMPARE = 5.0
"""Seconds between two looks at whether what was heard is the truth."""

RECHECK_LIMIT = 2.0
"""Seconds that `recheck` may take."""

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
    UsbKind.EMERGENCY: Platform.ANDROID,
    UsbKind.APPLE: Platform.IOS,
    UsbKind.APPLE_RECOVERY: Platform.IOS,
}

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

_SONAMES = ("libudev.so.1", "libudev.so.0")

_here_once: set[Path] = set()
"""Control files that were there since this process began: whose udevd is gone was not always so.
Of the process and not of a source, because a source is made anew when its configuration changes."""


class UdevSource:
    """USB presence: a sighting per phone, and per device with a serial that may be one. Never hubs.

    An address is a DEVPATH. `control` is udevd's control file, looked at every `retry` seconds;
    `receive_buffer` is in bytes, `patience` and `compare` in seconds.
    """

    def __init__(
        self,
        *,
        control: Path = Path("/run/udev/control"),
        retry: float = 2.0,
        receive_buffer: int = RECEIVE_BUFFER,
        patience: float = PATIENCE,
        compare: float = COMPARE,
    ) -> None:
        self._control = control
        self._retry = retry
        self._receive_buffer = receive_buffer
        self._patience = patience
        self._compare = compare
        self._voice: _Voice | None = None
        self._listener: _Listener | None = None

    @property
    def name(self) -> SourceName:
        """Whose observations these are."""
        return SourceName.UDEV

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled; raises nothing but CancelledError, and leaves nothing open."""
        voice = self._voice = _Voice(emit)
        while True:
            try:
                await self._connection(voice)
            except _CannotSeeError as error:
                voice.down(str(error), missing=self._control not in _here_once)
            else:
                continue  # what was lost is lost: listen anew at once
            await asyncio.sleep(self._retry)

    async def recheck(self) -> None:
        """Read the whole truth anew and emit what differs from what was said.

        Returns when that is emitted, at once while the source is down, after 2 s in any case;
        raises nothing. What waits in the socket is read first.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECHECK_LIMIT):
                if self._listener is not None:
                    await self._listener.drain_all()
                    await self._listener.compare()
                if self._voice is not None:
                    await self._voice.heard()  # after an overflow: the snapshot that follows

    async def _connection(self, voice: _Voice) -> None:
        """Listen, enumerate, tell. Returns when messages were lost or another udevd is there."""
        control = self._control_id()
        listener = _Listener(
            await self._patiently(partial(_open_monitor, self._receive_buffer), voice), voice
        )
        try:
            found = await self._patiently(_enumerate, voice)
            if not listener.lost.done():
                listener.go_live(found, self._compare)
                self._listener = listener
            while not listener.lost.done():
                await asyncio.wait({listener.lost}, timeout=self._retry)
                if self._control_id() != control:
                    log.info("udev.restarted", control=str(self._control))
                    return
        finally:
            self._listener = None
            voice.silent()
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
        _here_once.add(self._control)
        return status.st_ino, status.st_ctime_ns


class _CannotSeeError(Exception):
    """Why devices cannot be seen, in the operator's words."""


class _Voice:
    """Emits; says `Down` once per outage, and again where it turns out that a udevd is there."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._down: Down | None = None
        self._spoken = asyncio.Event()

    def snapshot(self, sightings: tuple[Sighting, ...]) -> None:
        self._down = None
        log.info("udev.snapshot", devices=len(sightings))
        self._emit(Snapshot(SourceName.UDEV, sightings))
        self._spoken.set()

    def edge(self, observation: Changed | Gone) -> None:
        self._emit(observation)

    def down(self, reason: str, *, missing: bool = False) -> None:
        if self._down is None or self._down.missing != missing:
            self._down = Down(SourceName.UDEV, reason, missing)
            log.warning("udev.down", reason=reason)
            self._emit(self._down)
        self._spoken.set()

    def silent(self) -> None:
        """What was said no longer holds: a connection has ended."""
        if self._down is None:
            self._spoken.clear()

    async def heard(self) -> None:
        """Until there is a word that holds: `Down`, or a snapshot and what followed it."""
        await self._spoken.wait()


@dataclass(frozen=True, slots=True)
class _Reading:
    """One USB device as one message, or one look into sysfs, described it."""

    address: str
    vendor: int
    product: int
    device_class: int
    interfaces: frozenset[tuple[int, int, int]]
    is_mtp: bool
    is_android: bool
    """In one of udev's lists."""
    appliance: str
    names: str
    serial: str
    model: str
    blocked: str = ""
    """By USB authorization: the reason."""

    @property
    def port(self) -> str:
        """As the kernel names it: `1-4.2`. No two devices have one name."""
        return _name(self.address)

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
    def sighting(self) -> Sighting | None:
        """None for what concerns nobody."""
        kind = self.kind
        if kind is None or not self.concerns:
            return None
        reason = self.blocked
        if kind is UsbKind.EMERGENCY and not reason:
            reason = emergency_mode(self.vendor, self.product, self.appliance)
        return Sighting(
            source=SourceName.UDEV,
            address=self.address,
            serial=self.serial,
            platform=_PLATFORMS.get(kind),
            port=self.port,
            usb=kind,
            reason=reason,
            model=self.model,
        )

    def with_news(self, new: _Reading) -> _Reading:
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
        )


def _name(address: str) -> str:
    return address.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Message:
    """What udevd said of one device, or what was found out by a `look`."""

    action: str
    address: str
    reading: _Reading | None
    """None for a `remove`."""


class _Devices:
    """What is known of every USB device by now, by address. Pure."""

    def __init__(self, found: dict[str, _Reading]) -> None:
        self._known = found

    @property
    def known(self) -> dict[str, _Reading]:
        """A copy: the latest reading of each, by address."""
        return dict(self._known)

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
        elif message.action == "look" and known is not None:
            self._known[message.address] = new = known.with_news(new)
        elif message.action not in {"add", "look"} and known and not _betters(new, known):
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
        self._marks: _Marks = {}
        self._told: set[str] = set()
        """Addresses that messages spoke of since the comparison under way began."""
        self._comparing = asyncio.Lock()
        self._comparisons = 0
        """How many were begun."""
        self._new: set[str] = set()
        """Addresses to glance at."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By address, those that read one device up; `glance` and `compare`, those of all."""
        self._monitor = monitor
        self._loop.add_reader(monitor.fileno(), self._drain)

    def go_live(self, found: _Found, compare: float) -> None:
        """Tell the snapshot; tell every change from now on."""
        self._devices = _Devices(found.readings)
        self._marks = found.marks
        for message in self._heard:
            self._devices.take(message)
        self._voice.snapshot(self._devices.sightings())
        for message in self._heard:
            self._look_closer(message.address)
        self._heard.clear()
        self._tasks["compare"] = self._loop.create_task(self._keep_comparing(compare))

    def close(self) -> None:
        """Stop. The socket closes with the last reference to the monitor, which is this one."""
        self._loop.remove_reader(self._monitor.fileno())
        del self._monitor
        self.lost.cancel()
        for task in self._tasks.values():
            task.cancel()

    # --- what udevd says ---------------------------------------------------------------------

    def _drain(self) -> bool:
        """Read what waits, up to a batch; whether there may be more."""
        for _ in range(BATCH):
            try:
                device = self._monitor.poll(0)
                if device is None:
                    return False
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
                self._voice.silent()
                self.lost.set_result(None)
                return False
            if message is not None:
                self._take(message)
        return True

    async def drain_all(self) -> None:
        """Read what waits in the socket; a storm without an end is left to the loop."""
        for _ in range(DRAINS):
            if self.lost.done() or not self._drain():
                return
            await asyncio.sleep(0)

    def _take(self, message: _Message) -> None:
        if self._devices is None:
            self._heard.append(message)
            return
        self._told.add(message.address)
        self._learn(message)
        self._look_closer(message.address)

    def _learn(self, message: _Message) -> None:
        assert self._devices is not None, "only live listeners learn"
        change = self._devices.take(message)
        if change is not None:
            self._voice.edge(change)

    # --- what it left out ----------------------------------------------------------------------

    def _look_closer(self, address: str) -> None:
        """Read what no message tells of it; see `_glance`, then `_fill`."""
        self._new.add(address)
        if "glance" not in self._tasks:
            self._tasks["glance"] = self._loop.create_task(self._glance_at_new())

    async def _glance_at_new(self) -> None:
        """All of them in one thread: no device can hold that one up."""
        try:
            while self._new:
                assert self._devices is not None, "only live listeners look"
                known, new = self._devices.known, self._new
                self._new = set()
                readings = [known[address] for address in new if address in known]
                for before, after in zip(
                    readings, await in_thread(partial(_glance_all, readings), "udev"), strict=True
                ):
                    if not self._devices.holds(before):
                        continue  # a newer message came meanwhile, and is in self._new
                    if after != before:
                        self._learn(_Message("look", before.address, after))
                    self._reread(before.address)
        except Exception:
            log.exception("udev.unreadable", devices="those just plugged in")
        finally:
            del self._tasks["glance"]

    def _reread(self, address: str) -> None:
        """Where a message left something out, look into sysfs for it; once at a time per device."""
        reading = self._devices.missing(address) if self._devices is not None else None
        if reading is not None and address not in self._tasks:
            self._tasks[address] = self._loop.create_task(self._look(reading))

    async def _look(self, reading: _Reading) -> None:
        address = reading.address
        filled = reading
        try:
            filled = await in_thread(partial(_fill, reading), "udev")
        except Exception as error:
            log.exception("udev.unreadable", device=address, reason=str(error))
        finally:
            del self._tasks[address]
        assert self._devices is not None, "only live listeners look"
        if not self._devices.holds(reading):
            self._reread(address)  # a newer message came meanwhile, and may lack something too
        elif filled != reading:
            self._learn(_Message("change", address, filled))

    # --- what nobody told ------------------------------------------------------------------------

    async def _keep_comparing(self, period: float) -> None:
        while True:
            await asyncio.sleep(period)
            await self.compare()

    async def compare(self) -> None:
        """Hold what is known against sysfs, and tell what differs. Raises nothing.

        Who asks while one is under way waits for the next, and shares it with all that do.
        """
        begun = self._comparisons
        async with self._comparing:
            if self._devices is None or self.lost.done() or self._comparisons > begun:
                return
            self._comparisons += 1
            known = self._devices.known
            self._told.clear()
            try:
                census = await in_thread(partial(_count, known, self._marks), "udev")
            except Exception:
                log.exception("udev.uncompared")
                return
            if not self.lost.done():
                self._marks = census.marks
                await self._correct(census, known)

    async def _correct(self, census: _Census, known: dict[str, _Reading]) -> None:
        """Learn what a comparison found, a few at a time; messages that came since know better."""
        news = [_Message("remove", address, None) for address in census.gone]
        news += (_Message("look", reading.address, reading) for reading in census.read)
        for number, message in enumerate(news, 1):
            if self.lost.done():
                return
            if message.address in self._told:
                self._marks.pop(_name(message.address), None)  # read again next time
                continue
            if (message.reading is None) == (message.address in known):
                log.info(
                    "udev.unheard", device=message.address, is_there=message.reading is not None
                )
            self._learn(message)
            self._reread(message.address)
            if number % SLICE == 0:
                await asyncio.sleep(0)


def _open_monitor(receive_buffer: int) -> pyudev.Monitor:
    """A monitor that hears of whole USB devices; raises _CannotSeeError."""
    context = _context()
    try:
        import pyudev  # noqa: PLC0415 - see the module's docstring

        monitor = pyudev.Monitor.from_netlink(context)
        monitor.filter_by("usb", "usb_device")
        with contextlib.suppress(OSError):  # not privileged: see RECEIVE_BUFFER
            monitor.set_receive_buffer_size(receive_buffer)
        monitor.start()
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


def _context() -> pyudev.Context:
    """A libudev context of the caller's own; raises _CannotSeeError.

    pyudev asks ctypes for the library's name, which runs ldconfig or a compiler and finds nothing
    where there is neither (NixOS, Alpine, minimal images). The loader finds it by its own name.
    """
    try:
        import pyudev  # noqa: PLC0415 - see the module's docstring
        from pyudev._ctypeslib.libudev import (  # noqa: PLC0415 - as above; pyudev is pinned
            ERROR_CHECKERS,
            SIGNATURES,
        )

        library = _library()
        for name, (arguments, result) in SIGNATURES.items():
            function = getattr(library, name, None)
            if function is not None:
                function.argtypes, function.restype = arguments, result
                if (checker := ERROR_CHECKERS.get(name)) is not None:
                    function.errcheck = checker

        class Context(pyudev.Context):
            """pyudev's own, over a library that is loaded already."""

            def __init__(self, library: ctypes.CDLL) -> None:
                self._libudev, self._as_parameter_ = library, library.udev_new()

        return Context(library)
    except (ImportError, OSError) as error:
        raise _CannotSeeError(
            f"libudev cannot be loaded ({error}): install it (Debian: libudev1;"
            " Fedora and RHEL: systemd-libs; Alpine: eudev-libs or libudev-zero); where it is"
            " installed, name its directory in LD_LIBRARY_PATH"
        ) from None


def _library() -> ctypes.CDLL:
    """Raises OSError with the loader's words."""
    try:
        return ctypes.CDLL(_SONAMES[0], use_errno=True)
    except OSError as error:
        found = ctypes.util.find_library("udev")
        for name in (*_SONAMES[1:], *([found] if found else [])):
            with contextlib.suppress(OSError):
                return ctypes.CDLL(name, use_errno=True)
        raise OSError(str(error)) from None


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


_Marks = dict[str, frozenset[tuple[str, int]]]
"""What /sys/bus/usb/devices lists: of each device, by name, its link and those of its interfaces,
each with its inode number."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What enumeration found, by address, and the listing of just before."""

    readings: dict[str, _Reading]
    marks: _Marks


@dataclass(frozen=True, slots=True)
class _Census:
    """What sysfs says against what was known."""

    marks: _Marks
    gone: list[str]
    """Addresses."""
    read: list[_Reading]
    """Of all that are unknown or may have changed."""


def _list() -> _Marks:
    """One directory is read, and no device. Raises OSError where sysfs cannot be read."""
    marks: dict[str, set[tuple[str, int]]] = {}
    try:
        entries = os.scandir(f"{SYSFS}/bus/usb/devices")
    except FileNotFoundError:
        os.stat(f"{SYSFS}/bus")  # noqa: PTH116 - without it this is no sysfs, and says nothing
        return {}
    with entries:
        for entry in entries:
            marks.setdefault(entry.name.partition(":")[0], set()).add((entry.name, entry.inode()))
    return {name: frozenset(found) for name, found in marks.items()}


def _count(known: dict[str, _Reading], before: _Marks) -> _Census:
    """Blocks for as long as sysfs takes, but for no device."""
    import pyudev  # noqa: PLC0415 - see the module's docstring

    marks = _list()
    by_name = {reading.port: reading for reading in known.values()}
    gone = [reading.address for name, reading in by_name.items() if name not in marks]
    read: list[_Reading] = []
    unread: list[str] = []
    context: pyudev.Context | None = None
    for name, mark in marks.items():
        reading = by_name.get(name)
        if reading is not None and mark == before.get(name) and not reading.blocked:
            continue
        context = context or _context()
        try:
            device = pyudev.Devices.from_path(context, f"/bus/usb/devices/{name}")
            new = _glance(_reading(device))
        except (pyudev.DeviceNotFoundError, ValueError):  # gone again, or not whole yet; no UTF-8
            unread.append(name)
        else:
            if reading is not None and reading.address != new.address:
                gone.append(reading.address)  # its controller is another one now
            read.append(new)
    for name in unread:
        del marks[name]  # read again next time
    return _Census(marks, gone, read)


def _enumerate() -> _Found:
    """Every USB device there is, by address. May take as long as a hanging device holds sysfs."""
    try:
        marks = _list()
    except OSError:
        marks = {}  # the first comparison reads them all
    readings: dict[str, _Reading] = {}
    for device in _context().list_devices(subsystem="usb", DEVTYPE="usb_device"):
        try:
            reading = _glance(_reading(device))
        except ValueError as error:  # a property is no UTF-8
            log.warning("udev.malformed", reason=str(error))
            continue
        readings[reading.address] = reading if reading.complete else _fill(reading)
    return _Found(readings, marks)


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
    model, database = properties.get("ID_MODEL", ""), properties.get("ID_MODEL_FROM_DATABASE", "")
    appliance = properties.get("ID_DEBUG_APPLIANCE", "")
    names = _words(f"{model} {database}")
    if model == properties.get("ID_MODEL_ID"):
        # The device gave no name, so usb_id put its product id there; the database may know one.
        model = database
    return _Reading(
        address=device.device_path,
        vendor=vendor,
        product=product,
        device_class=_numbers(properties.get("TYPE", ""), 10)[0],
        interfaces=frozenset(_triples(properties.get("ID_USB_INTERFACES", ""))),
        is_mtp=properties.get("ID_MTP_DEVICE") == "1",
        is_android=appliance == "android" or properties.get("adb_user") == "yes",
        appliance=appliance,
        names=names,
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


def _glance_all(readings: list[_Reading]) -> list[_Reading]:
    return [_glance(reading) for reading in readings]


def _glance(reading: _Reading) -> _Reading:
    """Look into sysfs for what no message tells. None of it waits for the device."""
    place = f"{SYSFS}{reading.address}"
    interfaces = _interfaces(place)
    blocked = ""
    if _attribute(f"{place}/authorized") == "0":
        blocked = _BLOCKED.format(port=reading.port)
    else:
        for interface in interfaces:
            if _attribute(f"{interface}/authorized") == "0":
                blocked = _BLOCKED_INTERFACE.format(interface=_name(interface))
    codes = reading.interfaces or frozenset(
        code for interface in interfaces for code in _codes(interface)
    )
    is_mtp = reading.is_mtp or (
        # Where there is no mtp-probe: Android's interface calls itself so.
        not codes.isdisjoint((STILL_IMAGE, VENDOR_SPECIFIC))
        and any("MTP" in _attribute(f"{interface}/interface") for interface in interfaces)
    )
    return replace(reading, interfaces=codes, is_mtp=is_mtp, blocked=blocked)


def _fill(reading: _Reading) -> _Reading:
    """Look into sysfs for what is missing. Blocks while the kernel holds the device's lock."""
    place = f"{SYSFS}{reading.address}"
    return replace(
        reading,
        serial=reading.serial or _attribute(f"{place}/serial"),
        interfaces=reading.interfaces
        or frozenset(code for interface in _interfaces(place) for code in _codes(interface)),
        model=reading.model or _words(_attribute(f"{place}/product")),
    )


def _interfaces(place: str) -> list[str]:
    """Of the active configuration: directories `PORT:CONFIGURATION.NUMBER` below the device's."""
    prefix = f"{_name(place)}:"
    try:
        return sorted(f"{place}/{name}" for name in os.listdir(place) if name.startswith(prefix))  # noqa: PTH208 - pathlib takes three times as long for thousands
    except OSError:
        return []


def _codes(interface: str) -> Iterator[tuple[int, int, int]]:
    yield from _triples(
        "".join(
            _attribute(f"{interface}/{name}")
            for name in ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
        )
    )


def _attribute(path: str) -> str:
    """A sysfs attribute's text; "" where there is none, or the device is gone by now."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return file.read().strip()
    except OSError:
        return ""
