"""iPhones: usbmuxd says which are attached, each one's lockdownd whether this host may use it.

usbmuxd's protocol (libimobiledevice/usbmuxd, `src/client.c`): frames of a 16-byte little-endian
header (length, version 1, message 8, tag) and an XML property list. A connection that sent
`Listen` gets `Attached`, `Detached` and `Paired` messages for ever, beginning with all that is
attached; requests go on connections of their own. lockdownd answers on port 62078 of the phone,
reached by `Connect`; a session over TLS with this host's pairing record proves trust.

pymobiledevice3 is imported here only, and late: `usbmux` costs 50 ms and is loaded once usbmuxd
accepts a connection, `lockdown` costs 240 ms and 17 MB and is loaded with the first iPhone. The
library has no time limits and reads as many bytes as a frame's length claims (an HTTP answer
claims 1.3 GB), so connections are opened, limited and closed here.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import random
import re
import ssl
import struct
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

import structlog

from agent.model import Bridge, Changed, Down, Gone, Platform, Sighting, Snapshot, SourceName
from agent.sources.base import backoff
from agent.sources.usbmux_bus import BUS, Bus
from agent.sources.usbmux_words import DAMAGED, NOT_PAIRED, QUOTE, Refusal
from agent.wire.late import overslept
from agent.wire.usbmux import is_local, open_socket

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from pathlib import Path

    from agent.model import Emit

log = structlog.get_logger(__name__)

ABSENT_RETRY = 1.0
"""Seconds between looks for a usbmuxd that is not running; one `connect` costs microseconds."""
STABLE = 10.0
"""Seconds that a connection must have lasted for the reconnect back-off to start anew."""
MAX_FRAME = 16 * 1024 * 1024
"""Bytes; `ListDevices` takes about 800 per phone."""
HEADER = 16
"""Bytes of usbmuxd's frame header, all of it before the property list."""
CHECKS = 8
"""Phones checked at once."""
TURN = 0.5
"""Seconds for which a check counts among those `CHECKS`. One that takes longer waits for its phone,
which costs this host nothing: silent phones must not keep the others from their turn."""
RETRY_CAP = 30.0
"""Seconds between checks of a phone that is not ready, at most: trust may come unannounced."""
RECHECK_LIMIT = 1.5
"""Seconds; who asks waits for 2."""
RECHECKS = 3
"""How often `recheck` asks for the list anew because announcements came meanwhile."""
COMPLAINTS = 256
"""Odd rows that are remembered as said."""
MODERN = "17.0"
"""The version that stands for one that the phone does not say, or says as none: it is compared with
iOS 5 and 7 only."""
LOCKDOWN_PORT = 62078
LOCKDOWN_TYPE = "com.apple.mobile.lockdown"
UDID_LENGTH = 24
"""Hex digits of a UDID since the iPhone XS; a dash after the eighth, which old usbmuxd omits."""

CHECKING = "checking whether it trusts this host"
NOT_INSTALLED = "iOS support is not installed: pip install 'device-agent[ios]'"


class UsbmuxSource:
    """Watches usbmuxd; `agent.sources.base.DeviceSource` is the contract.

    Every phone is first `UNKNOWN`, "checking whether it trusts this host", then what its own
    check says. Checks run beside each other and never delay the reading of usbmuxd's messages.

    Args:
        address: the path of usbmuxd's socket (`UNIX:/path` too), or `HOST:PORT`.
        network_devices: report iPhones reached over Wi-Fi too; one that is also on USB then is two
            sightings of one serial.
        probe_interval: seconds between checks of a ready phone; 0: checked once, when it comes.
        probe_timeout: seconds in which usbmuxd and the phone's lockdownd must complete a check.
        records: a folder that is searched for pairing records (`UDID.plist`) that usbmuxd does not
            have; it need not exist, and nothing is written there.
        list_interval: seconds between comparisons of what was announced with usbmuxd's list, which
            also find a usbmuxd that hangs.
        answer_limit: seconds for usbmuxd to answer a request, or to finish a message it began.
        retry: seconds until a phone that is not ready is checked again; doubles up to `RETRY_CAP`.
        sysfs: where the kernel shows this host's USB devices: with iPhones there, a usbmuxd that is
            not running is an outage.
    """

    def __init__(
        self,
        *,
        address: str = "/var/run/usbmuxd",
        network_devices: bool,
        probe_interval: float,
        probe_timeout: float,
        records: Path,
        list_interval: float = 30.0,
        answer_limit: float = 5.0,
        retry: float = 2.0,
        sysfs: Path = BUS,
    ) -> None:
        self._bus = Bus(sysfs)
        self._watch: _Watch | None = None
        self._server = _Server(address, answer_limit)
        self._network_devices = network_devices
        self._probe_interval = probe_interval
        self._list_interval = list_interval
        self._retry = retry
        self._lockdown = _Lockdown(self._server, records, probe_timeout)

    @property
    def name(self) -> SourceName:
        """Whose observations these are."""
        return SourceName.USBMUX

    async def recheck(self) -> None:
        """Read usbmuxd's list anew, now, and ask the phones that refused; emit what differs.

        Returns when that is emitted, at once while usbmuxd is down, after `RECHECK_LIMIT` seconds
        at the latest; raises nothing (what fails is found by the watching itself).
        """
        watch = self._watch
        if watch is not None and watch.connected and not watch.over:
            with suppress(Exception):  # the library lets anything out
                async with asyncio.timeout(RECHECK_LIMIT):
                    await watch.recheck()

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled; without the library: one `Down`, and nothing more."""
        reason = NOT_INSTALLED
        if _installed():
            try:
                await self._reconnect_for_ever(emit)
            except ImportError as error:
                reason = f"iOS support cannot be loaded: {error}"
        log.warning("usbmux.down", reason=reason)
        emit(Down(SourceName.USBMUX, reason))
        await asyncio.get_running_loop().create_future()

    async def _reconnect_for_ever(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        delays = backoff()
        told: _Loss | None = None  # of the present outage
        previous: _Loss | None = None
        while True:
            began = loop.time()
            watch = self._watch = _Watch(
                emit,
                self._server,
                self._lockdown,
                network_devices=self._network_devices,
                probe_interval=self._probe_interval,
                retry=self._retry,
            )
            try:
                await watch.run(self._list_interval)
            except ImportError:
                raise
            except Exception as error:  # noqa: BLE001 - the library lets anything out
                # A usbmuxd that ends with its last iPhone may do so before the kernel has let go.
                look = is_local(self._server.address) and not watch.connected
                loss = self._server.explain(
                    error,
                    attached=len(watch.phones),
                    connected=watch.connected,
                    on_usb=await self._bus.iphones() if look else 0,
                )
            if watch.connected:
                told = None
            # One word per outage; another where what was called normal turns out not to be, or the
            # iPhones that it named have gone, twice over, as a usbmuxd that is just ending or
            # starting can look like anything.
            changed = told is not None and (
                (told.normal and not loss.normal) or (told.on_usb and not loss.on_usb)
            )
            if told is None or (changed and loss == previous):
                (log.info if loss.normal else log.warning)(
                    "usbmux.down", server=self._server.address, reason=loss.reason
                )
                emit(Down(SourceName.USBMUX, loss.reason))
                told = loss
            previous = loss
            if loop.time() - began > STABLE:
                delays = backoff()
            delay = next(delays)
            await asyncio.sleep(min(delay, ABSENT_RETRY) if loss.absent else delay)


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why usbmuxd cannot be seen, for an operator."""

    reason: str
    normal: bool = False
    """To be expected on a host that works."""
    absent: bool = False
    """Nobody listens on the socket: looking again is cheap."""
    on_usb: bool = False
    """The kernel shows iPhones meanwhile."""


class _MalformedError(Exception):
    """What usbmuxd sent is no message; the text tells the nature of the bytes."""

    def __init__(self, frame: bytes, why: object) -> None:
        super().__init__(
            f"{len(frame)} bytes read, beginning {frame[:16].hex(' ') or 'nowhere'}: {why}"
        )


class _Server:
    """Where usbmuxd listens, how to connect to it, and what its failures mean."""

    def __init__(self, address: str, answer_limit: float) -> None:
        self.address = address
        self.answer_limit = answer_limit
        self._mux_class: Any = None
        self._said: set[str] = set()

    async def open(self) -> Any:
        """A new connection, the library's. The caller limits the time that takes, and closes it.

        Raises:
            OSError: nobody listens there.
            ImportError: the library is not (wholly) installed.
        """
        sock = await open_socket(self.address)
        try:
            if self._mux_class is None:
                self._mux_class = await asyncio.to_thread(_mux_class)
            return self._mux_class(sock, self.answer_limit, self.leave_out)
        except BaseException:
            sock.close()
            raise

    async def devices(self) -> list[Any]:
        """What usbmuxd lists, as the library's devices, asked for on a connection of its own."""
        while True:
            until = asyncio.get_running_loop().time() + self.answer_limit
            try:
                async with asyncio.timeout(self.answer_limit):
                    return await self._list()
            except TimeoutError:
                if not overslept(until):
                    raise

    async def _list(self) -> list[Any]:
        mux = await self.open()
        try:
            with _reading(mux):
                await mux.get_device_list()
            return list(mux.devices)
        finally:
            await mux.close()

    def leave_out(self, row: object, why: str) -> None:
        """Tell of a row that is no phone's, once: usbmuxd repeats it with every list."""
        text = repr(row)[:QUOTE]
        if text not in self._said and len(self._said) < COMPLAINTS:
            self._said.add(text)
            log.warning(
                "usbmux.row_left_out",
                server=self.address,
                row=text,
                reason=f"{why}; the other phones are watched as ever",
            )

    def explain(
        self, error: Exception, *, attached: int, connected: bool, on_usb: int = 0
    ) -> _Loss:
        """What the error that ended a connection means.

        Args:
            error: as raised.
            attached: how many iPhones were attached.
            connected: the connection had worked before.
            on_usb: how many iPhones the kernel shows now.
        """
        where, local = self.address, is_local(self.address)
        # Debian's usbmuxd is started by udev with the first iPhone and ends with the last.
        expected = local and not attached and not on_usb
        remedy = "see `systemctl status usbmuxd`" if local else "is it running there?"
        if expected:
            remedy = "normal while no iPhone is attached"
        elif on_usb:
            phones = "1 iPhone is" if on_usb == 1 else f"{on_usb} iPhones are"
            remedy = (
                f"{phones} attached over USB all the same; start it (`systemctl start usbmuxd`; "
                "`systemctl status usbmuxd` says why it ended), or install it (Debian: `apt "
                "install usbmuxd`)"
            )
        normal = absent = False
        match error:
            case _MalformedError():
                reason = (
                    f"usbmuxd on {where} sent a malformed message ({error}): "
                    "is it really usbmuxd that listens there? Reconnecting"
                )
            case TimeoutError():
                reason = (
                    f"usbmuxd on {where} hangs: no answer within {self.answer_limit:g} s; "
                    "if that lasts, restart it (`systemctl restart usbmuxd`)"
                )
            case FileNotFoundError():
                reason = f"usbmuxd is not running (no {where}): {remedy}"
                normal, absent = expected, local
            case ConnectionRefusedError():
                reason = f"usbmuxd is not running (nothing listens on {where}): {remedy}"
                normal, absent = expected, local
            case PermissionError():
                reason = f"the agent's user may not open {where}: {error.strerror}"
            case ConnectionError() if connected:
                reason = f"usbmuxd on {where} closed the connection: {remedy}"
                normal = expected
            case _:
                reason = f"usbmuxd on {where} cannot be used: {_brief(error)}; reconnecting"
        return _Loss(reason, normal, absent, on_usb=on_usb > 0)


@dataclass(slots=True)
class _Phone:
    """One attachment of one phone; a re-attached phone is a new one."""

    device: Any
    sighting: Sighting
    look_again: asyncio.Event = field(default_factory=asyncio.Event)
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False
    """It answers, and says that it is not usable."""
    task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """As last emitted."""
        return self.sighting.bridge is Bridge.READY


class _Watch:
    """One connection's life: snapshot, edges, a task per phone. Nothing of it outlives `run`."""

    def __init__(
        self,
        emit: Emit,
        server: _Server,
        lockdown: _Lockdown,
        *,
        network_devices: bool,
        probe_interval: float,
        retry: float,
    ) -> None:
        self.phones: dict[int, _Phone] = {}
        """By DeviceID, which usbmuxd gives out anew when it is restarted."""
        self.connected = False
        """A snapshot was emitted."""
        self.over = False
        """Nothing more is emitted."""
        self._emit = emit
        self._server = server
        self._lockdown = lockdown
        self._network_devices = network_devices
        self._probe_interval = probe_interval
        self._retry = retry
        self._tasks: set[asyncio.Task[None]] = set()
        self._updates = 0
        self._mux: Any = None

    async def run(self, list_interval: float) -> None:
        """Observe until the connection is lost: always ends with an exception."""
        try:
            async with asyncio.timeout(self._server.answer_limit):
                mux = self._mux = await self._server.open()
                with _reading(mux):
                    await mux.listen()
                # Nothing marks the end of the burst that follows `Listen`. usbmuxd handles one
                # request after the other, so a list asked for now holds every phone that the burst
                # announces, and whatever comes or goes after it is announced too. The burst's own
                # `Attached` then repeat what is known, and change nothing.
                mux.devices = await self._server.devices()
            self._begin(mux.devices)
            await self._first_failure(self._read(mux), self._compare(list_interval))
        finally:
            self.over = True
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._mux is not None:
                await self._mux.close()

    async def _first_failure(self, *endless: Coroutine[Any, Any, None]) -> None:
        """Run coroutines that end only by failing; raises what the first to fail raised."""
        tasks = {self._spawn(coroutine) for coroutine in endless}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        return task

    def _begin(self, devices: Iterable[Any]) -> None:
        phones = [self._new(device) for device in devices if self._wanted(device)]
        self.phones = {phone.device.devid: phone for phone in phones}
        self.connected = True
        log.info("usbmux.up", server=self._server.address, phones=len(phones))
        self._emit(Snapshot(SourceName.USBMUX, tuple(phone.sighting for phone in phones)))
        for phone in phones:
            self._follow(phone)

    async def _read(self, mux: Any) -> None:
        """Follow the announcements; waits for the next without limit, as it may be days away."""
        while True:
            # The library tells of a message only by what it did to its list.
            before = len(mux.devices)
            with _reading(mux):
                await mux.receive_device_state_update()
            self._updates += 1
            if len(mux.devices) == before:
                self._look_again()  # `Paired`: somebody pressed Trust, or stored a record
            # An announced phone may be known from the list: the later word stands for both.
            mux.devices = list({device.devid: device for device in mux.devices}.values())
            self._apply(mux.devices)
            await asyncio.sleep(0)  # reading does not suspend while a burst is in the socket

    async def recheck(self) -> None:
        """Compare with usbmuxd's list now, and have the phones that refused asked once more."""
        for _ in range(RECHECKS):
            if await self._reread():
                break
        refuse = [phone for phone in self.phones.values() if phone.refuses]
        for phone in refuse:
            phone.checked.clear()
            phone.look_again.set()
        for phone in refuse:
            await phone.checked.wait()

    async def _compare(self, interval: float) -> None:
        """Compare with usbmuxd's list now and then: finds a hung usbmuxd and lost announcements."""
        while True:
            await asyncio.sleep(interval)
            await self._reread()

    async def _reread(self) -> bool:
        """Take usbmuxd's list for what is attached; False: announcements have overtaken it."""
        updates = self._updates
        devices = await self._server.devices()
        if updates != self._updates or self.over:
            return self.over
        self._mux.devices = devices
        self._apply(devices)
        return True

    def _look_again(self) -> None:
        for phone in self.phones.values():
            if not phone.ready:
                phone.look_again.set()

    def _wanted(self, device: Any) -> bool:
        return self._network_devices or device.is_usb

    def _apply(self, devices: Iterable[Any]) -> None:
        """Emit what differs from what was emitted."""
        now = {device.devid: device for device in devices if self._wanted(device)}
        for devid in self.phones.keys() - now.keys():
            phone = self.phones.pop(devid)
            self._leave(phone)
            self._emit(Gone(SourceName.USBMUX, phone.sighting.address))
        for devid, device in now.items():
            known = self.phones.get(devid)
            if known is not None:
                if known.device == device:
                    continue
                self._leave(known)
            phone = self.phones[devid] = self._new(device)
            self._emit(Changed(phone.sighting))
            self._follow(phone)

    def _new(self, device: Any) -> _Phone:
        return _Phone(
            device,
            Sighting(
                SourceName.USBMUX,
                address=str(device.devid),
                serial=device.serial,
                platform=Platform.IOS,
                bridge=Bridge.UNKNOWN,
                reason=CHECKING,
                network=not device.is_usb,
            ),
        )

    def _follow(self, phone: _Phone) -> None:
        phone.task = self._spawn(self._check_again_and_again(phone))
        phone.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("usbmux.checks_ended", error=repr(error))

    def _leave(self, phone: _Phone) -> None:
        phone.checked.set()
        if phone.task is not None:
            phone.task.cancel()

    async def _check_again_and_again(self, phone: _Phone) -> None:
        """Keep one phone's sighting true for as long as it is attached."""
        retries = backoff(self._retry, cap=max(self._retry, RETRY_CAP))
        missed = 0
        # Phones that came together are not all probed in the same instant for ever after.
        pause = random.uniform(0, self._probe_interval)  # noqa: S311 - spreads load
        while True:
            phone.look_again.clear()
            verdict = await self._lockdown.check(phone.device)
            missed = missed + 1 if verdict.unresponsive else 0
            if not (phone.ready and missed == 1):  # one missed probe proves nothing
                self._say(phone, verdict)
            phone.refuses = not verdict.ready and not verdict.unresponsive
            phone.checked.set()
            if not verdict.ready:
                delay = next(retries)
            elif not self._probe_interval:
                return
            else:
                delay, pause = pause, self._probe_interval
                retries = backoff(self._retry, cap=max(self._retry, RETRY_CAP))
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await phone.look_again.wait()

    def _say(self, phone: _Phone, verdict: _Verdict) -> None:
        sighting = replace(
            phone.sighting,
            bridge=Bridge.READY if verdict.ready else Bridge.NOT_READY,
            reason=verdict.reason,
            name=verdict.name or phone.sighting.name,
            model=verdict.model or phone.sighting.model,
        )
        if sighting == phone.sighting or self.phones.get(phone.device.devid) is not phone:
            return
        phone.sighting = sighting
        log.info(
            "usbmux.checked", serial=sighting.serial, bridge=sighting.bridge, reason=sighting.reason
        )
        self._emit(Changed(sighting))


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What one check of one phone found."""

    ready: bool = False
    reason: str = ""
    unresponsive: bool = False
    """The phone did not answer (properly), as opposed to: it answered that it is not usable."""
    name: str = ""
    model: str = ""


def _unresponsive(why: str) -> _Verdict:
    return _Verdict(reason=f"unresponsive: {why}", unresponsive=True)


class _Lockdown:
    """Asks phones' lockdownd whether they trust this host. Lasts as long as the source."""

    def __init__(self, server: _Server, records: Path, timeout: float) -> None:
        self._server = server
        self._records = records
        self._timeout = timeout
        self._turns = asyncio.Semaphore(CHECKS)
        self._loading = asyncio.Lock()
        self._client_class: Any = None

    async def check(self, device: Any) -> _Verdict:
        """Never raises but CancelledError; ends within the time limit, once it is its turn."""
        try:
            async with self._loading:
                if self._client_class is None:
                    self._client_class = await asyncio.to_thread(_client_class)
            async with self._turn():
                while True:
                    until = asyncio.get_running_loop().time() + self._timeout
                    try:
                        async with asyncio.timeout(self._timeout):
                            return await self._ask(device)
                    except TimeoutError:
                        if not overslept(until):
                            raise
        except TimeoutError:
            return _unresponsive(
                f"its lockdownd did not answer within {self._timeout:g} s; "
                "unlock the phone, plug it in anew or restart it"
            )
        except ImportError as error:
            return _Verdict(reason=f"iOS support cannot be loaded: {error}")
        except Exception as error:  # noqa: BLE001 - the library lets anything out
            return _explain_failure(error)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        await self._turns.acquire()
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self._turns.release()

        timer = asyncio.get_running_loop().call_later(TURN, end)
        try:
            yield
        finally:
            timer.cancel()
            end()

    async def _ask(self, device: Any) -> _Verdict:
        client = await self._client_class.dial(self._server, device, self._records)
        try:
            return await self._talk(client)
        except Exception:
            if client.refused is None:
                raise
            return _refusal(client.refused)
        finally:
            # At once, where a TLS close would wait for the phone's answer. The client may have
            # replaced the connection that it was given.
            client.service.writer.transport.abort()

    async def _talk(self, client: Any) -> _Verdict:
        if (kind := await client.query_type()) != LOCKDOWN_TYPE:
            return _unresponsive(f"it is not in normal mode but runs {_text(kind)}; restart it")
        # Of a phone that does not trust this host too: the few values that it tells anybody.
        values = await client.public_values()
        ready = False
        try:
            ready = await client.validate_pairing()
        except Exception:
            if client.refused is None:
                raise
        verdict = _Verdict(ready)
        if not ready:
            verdict = _refusal(client.refused) if client.refused else _Verdict(reason=NOT_PAIRED)
        values |= client.all_values
        client.product_type = _text(values.get("ProductType"))
        return replace(
            verdict,
            name=_text(values.get("DeviceName")),
            model=_text(client.display_name) or client.product_type,
        )


def _refusal(refused: Refusal) -> _Verdict:
    return _Verdict(reason=refused.reason, unresponsive=not refused.settled)


def _text(value: object) -> str:
    """A phone's word for something, as far as it is text."""
    return value.strip()[:255] if isinstance(value, str) else ""


def _brief(error: Exception) -> str:
    """An error in short: the library quotes whole messages in some of its own."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= QUOTE else f"{text[:QUOTE]}…"


def _spellings(serial: str) -> tuple[str, ...]:
    """The serial as given, then with its dash put in or taken out: records are named by either."""
    if len(serial) == UDID_LENGTH:
        return serial, f"{serial[:8]}-{serial[8:]}"
    if len(serial) == UDID_LENGTH + 1 and serial[8] == "-":
        return serial, serial.replace("-", "")
    return (serial,)


def _parts(row: Any) -> tuple[int, str, str]:
    """DeviceID, serial and kind of connection of a listed or announced phone.

    Raises ValueError with what is missing or odd; nothing else.
    """
    properties = row.get("Properties") if isinstance(row, dict) else None
    if not isinstance(properties, dict):
        raise ValueError("it has no properties")  # noqa: TRY004 - one kind of error for all rows
    devid = row.get("DeviceID", properties.get("DeviceID"))
    serial, connection = properties.get("SerialNumber"), properties.get("ConnectionType")
    if not _is_id(devid):
        raise ValueError("its DeviceID is no number")
    if not (isinstance(serial, str) and serial.strip()):
        raise ValueError("its SerialNumber is no text")
    if not (isinstance(connection, str) and connection):
        raise ValueError("its ConnectionType is no text")
    return devid, serial, connection


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_row(message: Any) -> bool:
    """Whether a message that names no type has the shape of a phone's row all the same."""
    return (
        isinstance(message, dict)
        and "MessageType" not in message
        and not message.keys().isdisjoint(("DeviceID", "Properties"))
    )


def _is_record(record: Any) -> bool:
    """Whether that is a pairing record, as far as a session needs it."""
    return isinstance(record, dict) and all(
        isinstance(record.get(key), kind)
        for key, kind in (("HostID", str), ("HostCertificate", bytes), ("HostPrivateKey", bytes))
    )


@contextmanager
def _reading(mux: Any) -> Iterator[None]:
    """What the library makes of bytes that it cannot understand becomes one kind of error."""
    try:
        yield
    except (OSError, _MalformedError):
        raise
    except Exception as error:
        raise _MalformedError(mux.frame, _brief(error)) from error


# All that touches the library. Classes are made in functions, as their bases are loaded late.


def _installed() -> bool:
    """Is the library there? Loads nothing."""
    try:
        return importlib.util.find_spec("pymobiledevice3") is not None
    except ImportError:
        return False


@functools.cache
def _mux_class() -> Any:  # noqa: C901 - a class whose base is loaded late, not one function
    """The library's connection to usbmuxd, with a bounded read that remembers what it read."""
    from pymobiledevice3.usbmux import MuxDevice, PlistMuxConnection  # noqa: PLC0415 - loaded late

    class Mux(PlistMuxConnection):  # type: ignore[misc]  # the library is skipped by mypy
        def __init__(
            self,
            sock: socket.socket,
            answer_limit: float,
            leave_out: Callable[[object, str], None],
        ) -> None:
            super().__init__(sock)
            self.frame = b""
            self._answer_limit = answer_limit
            self._leave_out = leave_out

        async def get_device_list(self, timeout: Any = None) -> None:  # noqa: ARG002, ASYNC109 - as the library has it
            self.devices: list[Any] = []
            await self._send({"MessageType": "ListDevices"})
            answer = await self._receive(self._tag - 1)
            rows = answer.get("DeviceList")
            if not isinstance(rows, list):
                raise TypeError(f"its list of devices is {rows!r}"[:QUOTE])
            for row in rows:
                self._attach(row)

        def _process_device_state(self, response: Any) -> None:
            if _is_row(response) or response["MessageType"] == "Attached":
                self._attach(response)
            elif response["MessageType"] == "Detached" and not _is_id(response["DeviceID"]):
                raise TypeError(f"{response['DeviceID']!r} is gone, it says"[:QUOTE])
            else:
                super()._process_device_state(response)

        def _attach(self, row: Any) -> None:
            try:
                self._add_device(MuxDevice(*_parts(row)))
            except ValueError as odd:
                self._leave_out(row, str(odd))

        async def _recv_packet(self, sock: socket.socket) -> bytes:
            self.frame = b""
            await self._recv_more(sock, HEADER)  # without limit: nothing was begun yet
            # A message that was begun ends soon. Running out of time here desyncs the stream,
            # and so does a cancel: this connection is closed after either.
            async with asyncio.timeout(self._answer_limit):
                while len(self.frame) < HEADER:
                    await self._recv_more(sock, HEADER - len(self.frame))
                size = struct.unpack_from("<I", self.frame)[0]
                if not HEADER < size <= MAX_FRAME:
                    raise _MalformedError(self.frame, f"a message cannot be {size} bytes long")
                while len(self.frame) < size:
                    await self._recv_more(sock, size - len(self.frame))
            return self.frame

        async def _recv_more(self, sock: socket.socket, size: int) -> None:
            data = await asyncio.get_running_loop().sock_recv(sock, size)
            if not data:
                raise ConnectionResetError("usbmuxd closed the connection")
            self.frame += data

    return Mux


@functools.cache
def _client_class() -> Any:  # noqa: C901 - a class whose base is loaded late, not one function
    """The library's lockdown client, reaching its phone by DeviceID over our own connections."""
    from pymobiledevice3 import exceptions  # noqa: PLC0415 - loaded late
    from pymobiledevice3.lockdown import LockdownClient  # noqa: PLC0415 - loaded late
    from pymobiledevice3.pair_records import get_local_pairing_record  # noqa: PLC0415 - loaded late
    from pymobiledevice3.service_connection import ServiceConnection  # noqa: PLC0415 - loaded late

    async def connect(server: _Server, device: Any, port: int, **tls: Any) -> Any:
        mux = await server.open()
        try:
            sock = await mux.connect(device, port)
            service = await ServiceConnection.from_socket(sock, mux_device=device, **tls)
        except BaseException:
            await mux.close()
            raise
        service.max_frame_size = MAX_FRAME
        return service

    class Client(LockdownClient):  # type: ignore[misc]  # the library is skipped by mypy
        def __init__(self, service: Any, server: _Server, device: Any, records: Path) -> None:
            super().__init__(service, host_id="", identifier=device.serial)
            self.refused: Refusal | None = None
            """The last error that the phone answered."""
            self._server = server
            self._device = device
            self._records = records

        @classmethod
        async def dial(cls, server: _Server, device: Any, records: Path) -> Any:
            return cls(await connect(server, device, LOCKDOWN_PORT), server, device, records)

        @property
        def product_version(self) -> str:
            said = self.all_values.get("ProductVersion")
            good = isinstance(said, str) and re.fullmatch(r"\d+(\.\d+)*", said, re.ASCII)
            return said if good else MODERN

        async def public_values(self) -> dict[str, Any]:
            """What the phone tells anybody; nothing where it refuses that."""
            try:
                values = await self.get_value()
            except (exceptions.LockdownError, exceptions.PairingError):
                values = {}
            self.refused = None
            return dict(values)

        async def get_value(self, domain: str | None = None, key: str | None = None) -> Any:
            """As the library's; of all values always a dictionary, whatever the phone says."""
            try:
                value = await super().get_value(domain, key)
            except (exceptions.MissingValueError, exceptions.GetProhibitedError):
                if domain or key:
                    raise
                value = {}
            return value if domain or key or isinstance(value, dict) else {}

        def _verify_request_response(
            self, request: str, response: Any, *, verify_request: bool = True
        ) -> Any:
            error = response.get("Error")
            if error is not None:
                self.refused = Refusal(request, str(error))
                # The library takes a challenge for an answer, and knows codes that are text only.
                if error == "MCChallengeRequired" or not isinstance(error, str):
                    raise exceptions.LockdownError(
                        self.refused.reason, self.identifier, self.product_version, str(error)
                    )
            return super()._verify_request_response(
                request, response, verify_request=verify_request
            )

        async def create_service_connection(
            self, port: int, ssl_context: Any = None, strip_ssl: Any = False
        ) -> Any:
            tls = {"ssl_context": ssl_context, "strip_ssl": strip_ssl}
            return await connect(self._server, self._device, port, **tls)

        async def fetch_pair_record(self) -> None:
            try:
                record = await self._find_record()
            except (ValueError, TypeError, AttributeError, ExpatError):
                record = ()
            if record is not None and not _is_record(record):
                self.refused = Refusal("ReadPairRecord", DAMAGED)
                raise exceptions.NotPairedError(self.refused.reason)
            self.pair_record = record

        async def _find_record(self) -> Any:
            mux = await self._server.open()
            try:
                for spelling in _spellings(self._device.serial):
                    with suppress(exceptions.NotPairedError):
                        return await mux.get_pair_record(spelling)
            finally:
                await mux.close()
            for spelling in _spellings(self._device.serial):
                record = get_local_pairing_record(spelling, self._records)
                if record is not None:
                    return record
            return None

    return Client


def _explain_failure(error: Exception) -> _Verdict:
    """Why a check came to nothing."""
    from pymobiledevice3 import exceptions  # noqa: PLC0415 - loaded late

    match error:
        case exceptions.BadDevError():
            return _unresponsive("usbmuxd no longer has it; plug it in anew")
        case exceptions.ConnectionFailedError():
            return _unresponsive("its lockdownd refuses connections; restart the phone")
        case exceptions.ConnectionTerminatedError():
            return _unresponsive("its lockdownd closed the connection; restart the phone")
        case ssl.SSLError():
            return _Verdict(
                reason="not trusted: the phone and this host's pairing record do not fit "
                f"({_brief(error)}); unlock it, plug it in anew and tap Trust",
                unresponsive=True,  # or a connection that was torn
            )
    return _unresponsive(f"the check failed: {_brief(error)}")
