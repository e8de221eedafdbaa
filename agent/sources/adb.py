"""Android phones through an adb server: who is listed, in which state, and whether it answers.

What the server does (AOSP packages/modules/adb, docs/dev/services.md): `host:track-devices` keeps
its connection and sends the *full* list at every change, which is diffed here. It is not enough:

- adb 29 does not push every change (a phone that turns `unauthorized` stays `offline` in the
  stream): `host:devices`, which is right, is compared with it every `compare_interval` seconds,
  and sooner (`FOLLOW_UPS`) after a phone shows a state in which it is not ready.
- A list holds serial and state only. USB path and transport id come from `host:devices-l`, asked
  once per change, never tracked: past about 800 phones its length wraps in a stream. A server may
  leave out any of them: what it does not give is asked for again and waited for no longer than
  `DETAILS_RETRY`; the phone is shown by what is known, and a log line says what is missing.
- A frozen phone stays `device` for ever: only asking it something finds that out.

Per connection everything is known anew (transport ids begin again with a new server).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from agent.model import Bridge, Changed, Down, Gone, Platform, Sighting, Snapshot, SourceName
from agent.sources import adb_server
from agent.sources.adb_ask import Asker, Told
from agent.sources.base import backoff
from agent.track.identity import is_network, is_off_usb
from agent.udid import is_network, is_off_usb
from agent.wire.adb import AdbClient, AdbFailError
from agent.wire.adb_lists import (
    AdbError,
    AdbState,
    LongRow,
    Rows,
    known_state,
    parse_long_rows,
    parse_rows,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model import Emit
    from agent.wire.adb import AdbConnection

log = structlog.get_logger(__name__)

ANSWER_LIMIT = 5.0
"""Seconds for the server's own answers. Longer than the 3.0 s for which adb 36 accepts and says
nothing when it starts on a host without USB."""


FOLLOW_UPS = (1.0, 2.0)
"""Seconds to the first comparisons after a phone showed a state in which it is not ready: before
the shortest usual hold of `offline` has passed the reason is the true one."""
DETAILS_RETRY = 1.0
"""Seconds until details that do not fit the list are asked for once more; then they are missing."""
RECHECK_LIMIT = 1.5
"""Seconds; who asks waits for 2."""
RECHECKS = 3
"""How often `recheck` asks anew because the stream spoke meanwhile."""
COMPLAINTS = 256
"""Oddities that are remembered as said."""


READINGS: dict[AdbState, tuple[Bridge, str]] = {
    AdbState.DEVICE: (Bridge.READY, ""),
    AdbState.OFFLINE: (
        Bridge.NOT_READY,
        "offline: attached, but it does not answer adb; if it stays so, replug or restart it",
    ),
    AdbState.UNAUTHORIZED: (
        Bridge.NOT_READY,
        "unauthorized: accept the USB debugging prompt on the phone",
    ),
    AdbState.AUTHORIZING: (
        Bridge.NOT_READY,
        "authorizing: adb offers its key; if it stays so, unlock the phone and accept the prompt",
    ),
    AdbState.CONNECTING: (Bridge.NOT_READY, "connecting: adb has just found it"),
    AdbState.RECOVERY: (Bridge.NOT_READY, "recovery: it is in recovery mode; reboot it"),
    AdbState.SIDELOAD: (
        Bridge.NOT_READY,
        "sideload: it waits for an update package; send one or reboot it",
    ),
    AdbState.RESCUE: (Bridge.NOT_READY, "rescue: it is in rescue mode; reboot it"),
    AdbState.BOOTLOADER: (
        Bridge.NOT_READY,
        "bootloader: it is in its boot loader; `fastboot reboot` starts it",
    ),
    AdbState.DETACHED: (
        Bridge.NOT_READY,
        "detached: adb was told to let go of it; `adb attach` takes it back",
    ),
    AdbState.HOST: (Bridge.NOT_READY, "host: an adb server answers there, not a phone"),
    AdbState.NO_PERMISSIONS: (
        Bridge.NOT_READY,
        "no permissions: the adb server's user may not open the USB device; add a udev rule",
    ),
}


def reading(state: str) -> tuple[Bridge, str]:
    """What adb's state word means here, and the operator's reason when it is not `device`."""
    known = known_state(state)
    if known is None:
        return Bridge.NOT_READY, f"adb calls its state {state[:100]!r}, which is not `device`"
    bridge, reason = READINGS[known]
    if state == known or bridge is Bridge.READY:
        return bridge, reason
    # adb's explanation says more: of permissions, the user and the group that is missing.
    return bridge, f"{reason} (adb: {state[:200]!r})"


def is_junk(serial: str) -> bool:
    """Does the serial say nothing, so that only the USB path tells such phones apart?"""
    return serial == "(no serial number)" or not serial.strip("?")


class AdbSource:
    """The `DeviceSource` of Android phones; see `sources.base`.

    A phone's appearance is emitted at once; its USB port, name and model follow as `Changed` when
    they are known (within a round trip, and when the phone has answered). Where phones are probed,
    one that adb calls ready is UNKNOWN until that first answer, which brings its name, or until
    the limit for it: then it is unresponsive. Three sightings wait instead, because they would
    name the wrong device: twins of one serial and junk serials, until their transport ids and
    ports are known (or the server did not give them when it was asked twice), and ready network
    phones, until their `ro.serialno` is, or for a second: then they are UNKNOWN under their
    address. The snapshot waits for these, so that it leaves nobody out. A phone without a transport
    id cannot be asked anything: adb's word is taken for it.
    """

    name = SourceName.ADB

    def __init__(
        self,
        *,
        server: str = "127.0.0.1:5037",
        start_server: bool,
        adb_path: str = "",
        network_devices: bool,
        probe_interval: float,
        probe_timeout: float,
        compare_interval: float = 5.0,
        answer_limit: float = ANSWER_LIMIT,
        home: Path | None = None,
    ) -> None:
        """Times in seconds; `probe_interval` 0: phones are never probed.

        `server` is `HOST:PORT` or the path of a unix socket; AgentError for anything else. With
        `start_server` a server is started where `server` is 127.0.0.1 or localhost and refuses,
        with the binary `adb_path` ("": found by itself); `home` is its HOME where the caller's
        cannot be written.
        """
        self._client = AdbClient(server)
        self._start_server = start_server and adb_server.can_start(self._client.host)
        self._adb_path = adb_path
        self._home = home
        self._network_devices = network_devices
        self._probe_interval = probe_interval
        self._probe_timeout = probe_timeout
        self._compare_interval = compare_interval
        self._answer_limit = answer_limit
        self._session: _Session | None = None
        self._said = _Said()

    async def recheck(self) -> None:
        """Read the server's list anew, now, and emit what differs from what was said.

        Returns when that is emitted, at once while the server is down, after `RECHECK_LIMIT`
        seconds at the latest; raises nothing (what fails is found by the watching itself).
        """
        session = self._session
        if session is not None and session.live:
            with suppress(OSError, AdbError):
                async with asyncio.timeout(RECHECK_LIMIT):
                    await session.recheck()

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled."""
        delays, starts = backoff(), backoff(first=1.0, cap=60.0)
        next_start = 0.0
        down = ""  # the reason last said; "" while up
        while True:
            session = _Session(
                self._client,
                Asker(
                    self._client,
                    probe_interval=self._probe_interval,
                    probe_timeout=self._probe_timeout,
                ),
                emit,
                network_devices=self._network_devices,
                compare_interval=self._compare_interval,
                answer_limit=self._answer_limit,
                said=self._said,
            )
            failure = await self._failure(session)
            reason = self._reason(failure)
            if session.live:
                delays, starts = backoff(), backoff(first=1.0, cap=60.0)
                down = self._down(emit, "", reason)
            refused = isinstance(failure, ConnectionRefusedError)
            now = asyncio.get_running_loop().time()
            if refused and self._start_server and now >= next_start:
                next_start = now + next(starts)
                try:
                    await adb_server.start(self._client.port, self._adb_path, self._home)
                except adb_server.AdbStartError as error:
                    reason = f"no adb server at {self._client.server}, and none started: {error}"
                    log.warning("adb.server_not_started", reason=str(error))
                else:
                    continue
            elif down and refused and self._start_server:
                reason = down  # it is between two attempts to start, whose outcome was said
            down = self._down(emit, down, reason)
            await asyncio.sleep(next(delays))

    def _down(self, emit: Emit, said: str, reason: str) -> str:
        """Emit `Down`, once per outage; log it whenever the reason is another one."""
        if not said:
            emit(Down(self.name, reason))
        if reason != said:
            log.warning("adb.down", server=self._client.server, reason=reason)
        return reason

    async def _failure(self, session: _Session) -> Exception:
        """Run a session to its end; what ended it."""
        # In a task of its own: a task group that fails leaves its task half cancelled (3.11), and
        # one that is cancelled in the instant in which it fails raises its failure.
        task = asyncio.create_task(session.run())
        self._session = session
        try:
            await asyncio.wait({task})
        finally:
            self._session = None
            task.cancel()
            await asyncio.wait({task})
        failure = _first(None if task.cancelled() else task.exception())
        if not isinstance(failure, (OSError, AdbError)):  # TimeoutError is an OSError
            # A mistake in here must cost a reconnect, not the source.
            log.error("adb.failed", server=self._client.server, exc_info=failure)
        return failure

    def _reason(self, failure: Exception) -> str:
        where = f"adb server at {self._client.server}"
        match failure:
            case ConnectionRefusedError() | FileNotFoundError():
                remedy = "" if self._start_server else "; start it (`adb start-server`)"
                return f"no {where}: {os.strerror(failure.errno or 0)}{remedy}"
            case TimeoutError():
                return (
                    f"{where} accepts connections and does not answer within "
                    f"{self._answer_limit:g} s; restart it when nobody uses its phones"
                )
            case OSError():
                return f"lost the {where}: {failure}"
        return f"{where}: {failure}"


def _first(failure: BaseException | None) -> Exception:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure if isinstance(failure, Exception) else RuntimeError("a session ended by itself")


class _Said:
    """What was said of the server's oddities, so that each is said once and not at every list."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str]] = set()

    def warn(self, event: str, about: str, **words: object) -> None:
        """Log a warning, unless that was said of `about`; past `COMPLAINTS` nothing more is."""
        if (event, about) not in self._keys and len(self._keys) < COMPLAINTS:
            self._keys.add((event, about))
            log.warning(event, **words)


class _Session:
    """One connection's worth of watching: what is listed, and what of it was emitted."""

    def __init__(
        self,
        client: AdbClient,
        asker: Asker,
        emit: Emit,
        *,
        network_devices: bool,
        compare_interval: float,
        answer_limit: float,
        said: _Said,
    ) -> None:
        self.live = False
        """True from the snapshot on: edges are emitted."""
        self._client = client
        self._asker = asker
        self._emit = emit
        self._network_devices = network_devices
        self._compare_interval = compare_interval
        self._answer_limit = answer_limit
        self._said = said
        self._rows: Rows = {}
        self._frames = 0
        self._long: dict[str, tuple[LongRow, ...]] = {}
        self._serial_of: dict[int, str] = {}  # of every transport in _long
        self._shown: dict[str, dict[str, Sighting]] = {}  # serial -> address -> as emitted
        self._outdated = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._detailed = True
        """The server answers `host:devices-l`."""
        self._misfits: frozenset[str] = frozenset()
        """Serials for which its last answer did not fit the list."""
        self._without: set[str] = set()
        """Those for which it did not fit twice: shown without what it does not give."""
        self._doubt = asyncio.Event()
        """A phone has shown a state in which it is not ready."""
        self._follow_ups: list[float] = []
        self._unnamed: set[int] = set()
        """Network phones that have not said who they are, and may still."""
        self._named = asyncio.Event()
        """None of them is left."""
        asker.changed = self._asked

    async def run(self) -> None:
        """Watch until cancelled or until the server fails, which raises OSError or AdbError."""
        async with self._client.connect(self._answer_limit) as stream:
            async with asyncio.timeout(self._answer_limit):
                await stream.request("host:track-devices")
                self._take(self._parsed(await stream.frame()))
                try:
                    await self._refresh()
                except AdbFailError as error:
                    self._without_details(error)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._asker.run())
                if self._unnamed:
                    await self._named.wait()  # no longer than the asker awaits each: `OVERDUE`
                shown = tuple(one for same in self._shown.values() for one in same.values())
                self.live = True
                self._emit(Snapshot(SourceName.ADB, shown))
                log.info("adb.up", server=self._client.server, phones=len(shown))
                group.create_task(self._follow(stream))
                group.create_task(self._compare())
                group.create_task(self._keep_fresh())

    async def _follow(self, stream: AdbConnection) -> None:
        """Read the stream. No limit: it is silent as long as nothing changes."""
        while True:
            rows = self._parsed(await stream.frame())
            self._frames += 1
            self._take(rows)

    def _parsed(self, text: str) -> Rows:
        return parse_rows(text, self._odd)

    def _odd(self, line: str) -> None:
        self._said.warn(
            "adb.row_left_out",
            line,
            server=self._client.server,
            row=line[:120],
            reason="it is no serial and state; the other phones are watched as ever",
        )

    async def recheck(self) -> None:
        """Compare with `host:devices` now, and with `host:devices-l` if that brought news."""
        for _ in range(RECHECKS):
            frames = self._frames
            rows = self._parsed(await self._client.listing("host:devices"))
            if frames == self._frames:
                self._take(rows)
                break
        if self._outdated.is_set():
            await self._refresh()

    async def _compare(self) -> None:
        """Take what `host:devices` says where the stream does not say it (adb 29).

        An answer is dropped when the stream spoke since it was asked for: the stream is newer, or
        as new. Raises when the server failed twice, the stream saying nothing meanwhile.
        """
        failures = 0
        while True:
            await self._until_comparison()
            frames = self._frames
            try:
                async with asyncio.timeout(self._answer_limit):
                    rows = self._parsed(await self._client.listing("host:devices"))
            except (OSError, AdbError):
                failures = failures + 1 if frames == self._frames else 0
                if failures == 2:  # noqa: PLR2004 - once may be chance
                    raise
                continue
            failures = 0
            if frames == self._frames:
                self._take(rows)

    async def _until_comparison(self) -> None:
        """Wait for the next one: the interval at most, the follow-ups where there is doubt."""
        loop = asyncio.get_running_loop()
        delay = self._follow_ups.pop(0) if self._follow_ups else self._compare_interval
        due = loop.time() + min(delay, self._compare_interval)
        while (left := due - loop.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._doubt.wait()
            if self._doubt.is_set():
                self._doubt.clear()
                first, *self._follow_ups = FOLLOW_UPS
                due = min(due, loop.time() + first)  # never put off by phones that flicker

    async def _keep_fresh(self) -> None:
        """Ask for ids and ports once per change of the list, and again while some do not fit."""
        while True:
            delay = DETAILS_RETRY if self._misfits - self._without else self._compare_interval
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    min(delay, self._compare_interval) if self._misfits else None
                ):
                    await self._outdated.wait()
            try:
                async with asyncio.timeout(self._answer_limit):
                    await self._refresh()
            except (OSError, AdbError) as error:
                self._without_details(error)
                await asyncio.sleep(self._compare_interval)

    def _without_details(self, error: Exception) -> None:
        """Go on with serials and states alone, and ask again: phones cannot be asked anything."""
        self._outdated.set()
        if self._detailed:
            self._detailed = False
            log.warning("adb.details_unknown", server=self._client.server, reason=str(error))
        for serial in self._rows:
            self._show(serial)

    async def _refresh(self) -> None:
        async with self._refreshing:
            self._outdated.clear()
            asked = self._rows
            found = parse_long_rows(await self._client.listing("host:devices-l"), self._rows)
            if not self._detailed:
                self._detailed = True
                log.info("adb.details_known", server=self._client.server)
            # Where the list changed meanwhile, an answer that does not fit the newest is older or
            # newer than it: the next fits. Where it did not, only the number of rows can tell.
            same = asked is self._rows
            misfits = set()
            for serial, listed in self._rows.items():
                long = found.get(serial, ())
                states = sorted(row.state for row in long)
                if len(long) == len(listed) and (same or states == sorted(listed)):
                    self._detail(serial, long)
                elif serial in self._misfits:
                    misfits.add(serial)
                    if same:
                        self._do_without(serial, long)
                elif same:
                    misfits.add(serial)
            self._misfits = frozenset(misfits)

    def _detail(self, serial: str, long: tuple[LongRow, ...]) -> None:
        """Take what the server gives of the phones listed under that serial."""
        if long == self._long.get(serial) and serial not in self._without:
            return
        self._without.discard(serial)
        for row in long:
            if not row.transport_id:
                self._miss(serial, "its transport id")
            elif not row.port and not is_off_usb(serial):
                self._miss(serial, "its USB port")
        self._set_long(serial, long)
        self._show(serial)

    def _do_without(self, serial: str, long: tuple[LongRow, ...]) -> None:
        """Show them all the same, each by what fits of its row, if there is one."""
        if serial in self._without and long == self._long.get(serial, ()):
            return
        self._without.add(serial)
        self._miss(serial, "its row in `host:devices-l`")
        self._set_long(serial, long)
        self._show(serial)

    def _miss(self, serial: str, what: str) -> None:
        self._said.warn(
            "adb.detail_missing",
            f"{serial} {what}",
            server=self._client.server,
            serial=serial,
            missing=what,
            effect="it is shown by what adb does give; without a transport id it is not probed",
        )

    def _take(self, rows: Rows) -> None:
        """The newest list: show what differs from the last one. Linear in its rows."""
        before = self._rows
        if rows == before:
            return
        self._rows = rows
        for serial in before.keys() - rows.keys():
            self._set_long(serial, ())
            self._show(serial)
        for serial, states in rows.items():
            if before.get(serial) != states:
                if len(before.get(serial, ())) != len(states):
                    self._without.discard(serial)
                if any(reading(state)[0] is not Bridge.READY for state in states):
                    self._doubt.set()
                self._show(serial)
        self._without &= rows.keys()
        self._outdated.set()

    def _set_long(self, serial: str, long: tuple[LongRow, ...]) -> None:
        kept = {row.transport_id for row in long if row.transport_id}
        for row in self._long.pop(serial, ()):
            if row.transport_id not in kept:
                self._serial_of.pop(row.transport_id, None)
                self._asker.forget(row.transport_id)
        if long:
            self._long[serial] = long
            self._serial_of.update(dict.fromkeys(kept, serial))

    def _asked(self, transport_id: int) -> None:
        self._unnamed.discard(transport_id)
        if not self._unnamed:
            self._named.set()
        serial = self._serial_of.get(transport_id)
        if serial is not None:
            self._show(serial)

    def _show(self, serial: str) -> None:
        """Emit what is new of the phones listed under that serial."""
        self._attend(serial)
        wanted = self._wanted(serial)
        if wanted is None:
            return
        shown = self._shown.get(serial, {})
        if wanted:
            self._shown[serial] = wanted
        else:
            self._shown.pop(serial, None)
        if not self.live:
            return
        # What comes before what goes: a phone that only changes its address is never unseen.
        for address, sighting in wanted.items():
            if shown.get(address) != sighting:
                self._emit(Changed(sighting))
        for address in shown.keys() - wanted.keys():
            self._emit(Gone(SourceName.ADB, address))

    def _network(self, serial: str) -> bool:
        on_usb = any(row.port or row.path for row in self._long.get(serial, ()))
        return is_network(serial) and not on_usb

    def _transports(self, serial: str) -> list[tuple[LongRow, str]] | None:
        """Each transport of that serial with its newest state; None while they are not known."""
        states, long = self._rows.get(serial, ()), self._long.get(serial, ())
        if len(states) == len(long):
            # The plain list is the newer one; it just cannot tell twins apart.
            return [(row, states[0] if len(long) == 1 else row.state) for row in long]
        if self._detailed and serial not in self._without:
            return None
        spare = list(long)
        found = []
        for state in states:
            row = next((one for one in spare if one.state == state), None)
            if row is not None:
                spare.remove(row)
            found.append((row or LongRow(serial, state, 0, "", ""), state))
        return found

    def _attend(self, serial: str) -> None:
        """Have those asked that are ready, and nobody else."""
        if self._network(serial) and not self._network_devices:
            return
        for row, state in self._transports(serial) or ():
            if reading(state)[0] is Bridge.READY and row.transport_id:
                network = self._network(serial)
                self._asker.attend(row.transport_id, serial, awaited=network)
                if network and self._is_awaited(row.transport_id):
                    self._unnamed.add(row.transport_id)
            else:
                self._asker.leave(row.transport_id)

    def _wanted(self, serial: str) -> dict[str, Sighting] | None:
        """Address → sighting of the phones under that serial; None: not to be told yet."""
        states, network = self._rows.get(serial, ()), self._network(serial)
        if not states or (network and not self._network_devices):
            return {}
        transports = self._transports(serial)
        if transports is None:
            if len(states) > 1 or network or is_junk(serial) or serial in self._long:
                return None
            return {serial: self._sighting(serial, serial, states[0], None, network=network)}
        wanted: dict[str, Sighting] = {}
        for place, (row, state) in enumerate(transports, 1):
            if network and reading(state)[0] is Bridge.READY and self._is_awaited(row.transport_id):
                return None
            mark = row.transport_id or row.port or f"?{place}"
            address = serial if len(transports) == 1 else f"{serial}#{mark}"
            wanted[address] = self._sighting(address, serial, state, row, network=network)
        return wanted

    def _is_awaited(self, number: int) -> bool:
        """Whether who that network phone is may still be told before it is shown."""
        return bool(number) and not self._asker.asked(number) and number not in self._asker.overdue

    def _heard(self, number: int, *, network: bool) -> bool:
        """Whether the phone's word is known; on the network that is who it is, too."""
        return self._asker.asked(number) if network else self._asker.heard(number)

    def _sighting(
        self, address: str, serial: str, state: str, row: LongRow | None, *, network: bool
    ) -> Sighting:
        bridge, reason = reading(state)
        number = row.transport_id if row else 0  # ids begin at 1
        told = self._asker.told.get(number, Told())
        silent = self._asker.silent.get(number)
        if bridge is Bridge.READY:
            if silent:
                bridge, reason = Bridge.NOT_READY, silent
            elif (row is None or number) and not self._heard(number, network=network):
                bridge, reason = Bridge.UNKNOWN, "it has just appeared and not answered yet"
        return Sighting(
            source=SourceName.ADB,
            address=address,
            serial=serial,
            platform=Platform.ANDROID,
            port=row.port if row else "",
            bridge=bridge,
            reason=reason,
            name=told.name,
            model=told.model or (row.model if row else ""),
            network=network,
            usb_serial=told.serialno if network else "",
        )
