"""iPhones: usbmuxd says which are attached, each one's lockdownd whether this host may use it.

usbmuxd's list and announcements are followed by a `usbmux_session` per connection; each phone's
`lockdown_check` runs beside it. Here a lost connection is told (`usbmux_outage`) and made anew.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from agent.model import Down, SourceName
from agent.reasons import ReasonCode
from agent.sources.base import backoff
from agent.sources.lockdown_check import LockdownCheck
from agent.sources.oddities import Oddities
from agent.sources.usbmux_bus import BUS, Bus
from agent.sources.usbmux_outage import explain
from agent.sources.usbmux_session import UsbmuxSession
from agent.wire import lockdown
from agent.wire.usbmux import UsbmuxClient

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Ios
    from agent.model import Emit
    from agent.sources.usbmux_outage import Loss

log = structlog.get_logger(__name__)

ABSENT_RETRY = 1.0
"""Seconds between looks for a usbmuxd that is not running; one `connect` costs microseconds."""
STABLE = 10.0
"""Seconds that a connection must have lasted for the reconnect back-off to start anew."""
RECHECK_LIMIT = 1.5
"""Seconds; who asks waits for 2."""
NOT_INSTALLED = "iOS support is not installed: pip install 'device-agent[ios]'"


class UsbmuxSource:
    """Watches usbmuxd; `agent.sources.base.DeviceSource` is the contract.

    Every phone is first `UNKNOWN`, "checking whether it trusts this host", then what its own
    check says. Checks run beside each other and never delay the reading of usbmuxd's messages.

    Args:
        settings: [ios]. An iPhone that is reached over Wi-Fi, too, is two sightings of one serial;
            with no `probe_interval` a ready phone is checked once, when it comes.
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
        settings: Ios,
        records: Path,
        *,
        list_interval: float = 30.0,
        answer_limit: float = 5.0,
        retry: float = 2.0,
        sysfs: Path = BUS,
    ) -> None:
        self._settings = settings
        self._bus = Bus(sysfs)
        self._session: UsbmuxSession | None = None
        self._mux = UsbmuxClient(settings.usbmuxd)
        self._answer_limit = answer_limit
        self._oddities = Oddities()
        self._list_interval = list_interval
        self._retry = retry
        self._lockdown = LockdownCheck(self._mux, records, settings)

    @property
    def name(self) -> SourceName:
        """Whose observations these are."""
        return SourceName.USBMUX

    async def recheck(self) -> None:
        """Read usbmuxd's list anew, now, and ask the phones that refused; emit what differs.

        Returns when that is emitted, at once while usbmuxd is down, after `RECHECK_LIMIT` seconds
        at the latest; raises nothing (what fails is found by the watching itself).
        """
        session = self._session
        if session is not None and session.connected and not session.over:
            with suppress(OSError):
                async with asyncio.timeout(RECHECK_LIMIT):
                    await session.recheck()

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled; without the library: one `Down`, and nothing more."""
        if lockdown.installed():
            await self._reconnect_for_ever(emit)
        log.warning("usbmux.down", reason=NOT_INSTALLED)
        emit(Down(SourceName.USBMUX, NOT_INSTALLED, code=ReasonCode.IOS_SUPPORT_MISSING))
        await asyncio.get_running_loop().create_future()

    async def _reconnect_for_ever(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        delays = backoff()
        told: Loss | None = None  # of the present outage
        previous: Loss | None = None
        while True:
            began = loop.time()
            session = self._session = UsbmuxSession(
                emit,
                self._mux,
                self._lockdown,
                self._settings,
                answer_limit=self._answer_limit,
                oddities=self._oddities,
                retry=self._retry,
            )
            try:
                await session.run(self._list_interval)
            except Exception as error:  # noqa: BLE001 - a mistake in here must cost a reconnect, not the source
                # A usbmuxd that ends with its last iPhone may do so before the kernel has let go.
                look = self._mux.is_local and not session.connected
                loss = explain(
                    error,
                    self._mux.address,
                    answer_limit=self._answer_limit,
                    attached=len(session.phones),
                    connected=session.connected,
                    on_usb=await self._bus.iphones() if look else 0,
                )
            if session.connected:
                told = None
            # One word per outage; another where what was called normal turns out not to be, or the
            # iPhones that it named have gone, twice over, as a usbmuxd that is just ending or
            # starting can look like anything.
            changed = told is not None and (
                (told.normal and not loss.normal) or (told.on_usb and not loss.on_usb)
            )
            if told is None or (changed and loss == previous):
                (log.info if loss.normal else log.warning)(
                    "usbmux.down", server=self._mux.address, reason=loss.reason
                )
                emit(Down(SourceName.USBMUX, loss.reason))
                told = loss
            previous = loss
            if loop.time() - began > STABLE:
                delays = backoff()
            delay = next(delays)
            await asyncio.sleep(min(delay, ABSENT_RETRY) if loss.absent else delay)
