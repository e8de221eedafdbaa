"""One connection's worth of watching usbmuxd: what is attached, and what its checks say."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from agent.model import (
    BatteryRead,
    Bridge,
    Changed,
    Gone,
    Platform,
    Sighting,
    Snapshot,
    SourceName,
)
from agent.reasons import ReasonCode
from agent.sources.base import backoff
from agent.wire.late import overslept
from agent.wire.usbmux import Attached, Detached, Paired, attached_of, quoted

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from agent.config import Ios
    from agent.model import Emit
    from agent.sources.lockdown_check import LockdownCheck, Verdict
    from agent.sources.oddities import Oddities
    from agent.wire.usbmux import UsbmuxClient, UsbmuxConnection

log = structlog.get_logger(__name__)

RETRY_CAP = 30.0
"""Seconds between checks of a phone that is not ready, at most: trust may come unannounced."""
RECHECKS = 3
"""How often `recheck` asks for the list anew because announcements came meanwhile."""
CHECKING = "checking whether it trusts this host"


@dataclass(slots=True)
class Phone:
    """One attachment of one phone; a re-attached phone is a new one."""

    device: Attached
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


class UsbmuxSession:
    """One connection's life: snapshot, edges, a task per phone. Nothing of it outlives `run`.

    Times in seconds; see `usbmux.UsbmuxSource`.
    """

    def __init__(
        self,
        emit: Emit,
        mux: UsbmuxClient,
        lockdown: LockdownCheck,
        settings: Ios,
        *,
        answer_limit: float,
        oddities: Oddities,
        retry: float,
    ) -> None:
        self.phones: dict[int, Phone] = {}
        """By DeviceID, which usbmuxd gives out anew when it is restarted."""
        self.connected = False
        """A snapshot was emitted."""
        self.over = False
        """Nothing more is emitted."""
        self._emit = emit
        self._mux = mux
        self._lockdown = lockdown
        self._answer_limit = answer_limit
        self._oddities = oddities
        self._settings = settings
        self._retry = retry
        self._tasks: set[asyncio.Task[None]] = set()
        self._updates = 0
        self._attached: dict[int, Attached] = {}
        """As listed, and announced since; by DeviceID."""

    async def run(self, list_interval: float) -> None:
        """Observe until the connection is lost: always ends with an exception."""
        announcer: UsbmuxConnection | None = None
        try:
            async with asyncio.timeout(self._answer_limit):
                announcer = await self._mux.open()
                await announcer.listen()
                # Nothing marks the end of the burst that follows `Listen`. usbmuxd handles one
                # request after the other, so a list asked for now holds every phone that the burst
                # announces, and whatever comes or goes after it is announced too. The burst's own
                # `Attached` then repeat what is known, and change nothing.
                self._attached = await self._list()
            self._begin()
            await self._first_failure(self._read(announcer), self._compare(list_interval))
        finally:
            self.over = True
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if announcer is not None:
                announcer.close()

    async def _list(self) -> dict[int, Attached]:
        """What usbmuxd lists, asked for on a connection of its own."""
        while True:
            until = asyncio.get_running_loop().time() + self._answer_limit
            try:
                async with asyncio.timeout(self._answer_limit):
                    rows = await self._mux.rows()
                    break
            except TimeoutError:
                if not overslept(until):
                    raise
        listed = {}
        for row in rows:
            try:
                phone = attached_of(row)
            except ValueError as odd:
                self._leave_out(row, str(odd))
            else:
                listed[phone.device_id] = phone
        return listed

    def _leave_out(self, row: object, why: str) -> None:
        """Tell of a row that is no phone's; usbmuxd repeats it with every list."""
        text = quoted(row)
        self._oddities.warn(
            "usbmux.row_left_out",
            text,
            server=self._mux.address,
            row=text,
            reason=f"{why}; the other phones are watched as ever",
        )

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

    def _begin(self) -> None:
        phones = [self._new(each) for each in self._attached.values() if self._wanted(each)]
        self.phones = {phone.device.device_id: phone for phone in phones}
        self.connected = True
        log.info("usbmux.up", server=self._mux.address, phones=len(phones))
        self._emit(Snapshot(SourceName.USBMUX, tuple(phone.sighting for phone in phones)))
        for phone in phones:
            self._follow(phone)

    async def _read(self, announcer: UsbmuxConnection) -> None:
        """Follow the announcements; waits for the next without limit, as it may be days away."""
        while True:
            match await announcer.announcement(self._answer_limit, self._leave_out):
                case Attached() as phone:
                    # It may be known from the list: the later word stands for both.
                    self._attached[phone.device_id] = phone
                case Detached(device_id):
                    self._attached.pop(device_id, None)
                case Paired():
                    self._look_again()
            self._updates += 1
            self._apply()

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
        attached = await self._list()
        if updates != self._updates or self.over:
            return self.over
        self._attached = attached
        self._apply()
        return True

    def _look_again(self) -> None:
        for phone in self.phones.values():
            if not phone.ready:
                phone.look_again.set()

    def _wanted(self, device: Attached) -> bool:
        return self._settings.network_devices or device.is_usb

    def _apply(self) -> None:
        """Emit what differs from what was emitted."""
        now = {
            device.device_id: device for device in self._attached.values() if self._wanted(device)
        }
        for device_id in self.phones.keys() - now.keys():
            phone = self.phones.pop(device_id)
            self._leave(phone)
            self._emit(Gone(SourceName.USBMUX, phone.sighting.address))
        for device_id, device in now.items():
            known = self.phones.get(device_id)
            if known is not None:
                if known.device == device:
                    continue
                self._leave(known)
            phone = self.phones[device_id] = self._new(device)
            self._emit(Changed(phone.sighting))
            self._follow(phone)

    def _new(self, device: Attached) -> Phone:
        return Phone(
            device,
            Sighting(
                SourceName.USBMUX,
                address=str(device.device_id),
                serial=device.serial,
                platform=Platform.IOS,
                bridge=Bridge.UNKNOWN,
                reason=CHECKING,
                code=ReasonCode.CHECKING,
                network=not device.is_usb,
            ),
        )

    def _follow(self, phone: Phone) -> None:
        phone.task = self._spawn(self._check_again_and_again(phone))
        phone.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("usbmux.checks_ended", error=repr(error))

    def _leave(self, phone: Phone) -> None:
        phone.checked.set()
        if phone.task is not None:
            phone.task.cancel()

    async def _check_again_and_again(self, phone: Phone) -> None:
        """Keep one phone's sighting true for as long as it is attached."""
        retries = backoff(self._retry, cap=max(self._retry, RETRY_CAP))
        missed = 0
        # Phones that came together are not all probed in the same instant for ever after.
        pause = random.uniform(0, self._settings.probe_interval)  # noqa: S311 - spreads load
        while True:
            phone.look_again.clear()
            verdict = await self._lockdown.check(phone.device)
            missed = missed + 1 if verdict.unresponsive else 0
            if not (phone.ready and missed == 1):  # one missed probe proves nothing
                self._say(phone, verdict)
                self._say_battery(phone, verdict)
            phone.refuses = not verdict.ready and not verdict.unresponsive
            phone.checked.set()
            if not verdict.ready:
                delay = next(retries)
            elif not self._settings.probe_interval:
                return
            else:
                delay, pause = pause, self._settings.probe_interval
                retries = backoff(self._retry, cap=max(self._retry, RETRY_CAP))
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await phone.look_again.wait()

    def _say_battery(self, phone: Phone, verdict: Verdict) -> None:
        """Once the phone itself is told of."""
        asked = self._settings.battery and self._settings.probe_interval > 0
        if asked and verdict.ready and self.phones.get(phone.device.device_id) is phone:
            read = BatteryRead(SourceName.USBMUX, phone.sighting.address, verdict.battery)
            self._emit(read)

    def _say(self, phone: Phone, verdict: Verdict) -> None:
        sighting = replace(
            phone.sighting,
            bridge=Bridge.READY if verdict.ready else Bridge.NOT_READY,
            reason=verdict.reason.text,
            code=verdict.reason.code,
            name=verdict.name or phone.sighting.name,
            model=verdict.model or phone.sighting.model,
        )
        if sighting == phone.sighting or self.phones.get(phone.device.device_id) is not phone:
            return
        phone.sighting = sighting
        log.info(
            "usbmux.checked", serial=sighting.serial, bridge=sighting.bridge, reason=sighting.reason
        )
        self._emit(Changed(sighting))
