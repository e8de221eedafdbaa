"""The udev source: which USB devices are on this host, by libudev's monitor and enumeration.

Why it is built as it is:

* The event loop reads messages from their own properties alone; sysfs is read in threads only.
  A USB device's `serial`, `product` and more take the device's lock in the kernel (see
  `wire.usb_sysfs`), so a phone that hangs while it is configured holds a reader for tens of
  seconds. One daemonic thread per such phone: it degrades only itself.
* Enumeration reads thousands of files: it runs in a thread, with a context of its own. Measured:
  1,000 phones of two interfaces each take 0.45 s, in which the loop's longest pause was 4 ms.
* What a message cannot tell, and sysfs tells without that lock, is read for all that are new in one
  thread (`usb_reading.glance`): is the device authorized (USBGuard), does its interface call itself
  MTP.
* A `remove` is known by its DEVPATH alone: `unbind` has mostly wiped the serial by then.
* After an overflow (ENOBUFS) pyudev's poll() raises for ever, and messages are lost in any case:
  the monitor is rebuilt and a fresh snapshot taken. A new udevd is met the same way.
* Without udevd nobody sends. Its control file tells: libudev looks at it too when a monitor is
  made, and where it is missing and /dev is no devtmpfs the monitor joins no group, silently and for
  good. No file is `Down`, another file a new monitor. A udevd that is killed leaves its file and is
  started again by its supervisor; monitors outlive that.
* What nobody told is found out all the same, every few seconds and when asked (`recheck`): see
  `usb_devices`.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from agent.model import SourceName
from agent.sources.udev_listener import Listener, Teller
from agent.sources.usb_devices import enumerated
from agent.threads import in_thread
from agent.wire.udev import CONTROL, Monitor, UdevError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.model import Emit
    from agent.sources.usb_reading import Reading

T = TypeVar("T")

log = structlog.get_logger(__name__)

PATIENCE = 30.0
"""Seconds after which an enumeration that does not return is reported as `Down`."""

COMPARE = 5.0
"""Seconds between two looks at whether what was heard is the truth."""

RECHECK_LIMIT = 2.0
"""Seconds that `recheck` may take."""

RECEIVE_BUFFER = 16 * 1024 * 1024
"""Bytes; a message takes 2 to 4 KiB of it. Past /proc/sys/net/core/rmem_max only CAP_NET_ADMIN
gets it; anybody else gets what the kernel allows, and overflows are survived."""

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
        control: Path = CONTROL,
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
        self._teller: Teller | None = None
        self._listener: Listener | None = None

    @property
    def name(self) -> SourceName:
        """Whose observations these are."""
        return SourceName.UDEV

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled; raises nothing but CancelledError, and leaves nothing open."""
        teller = self._teller = Teller(emit)
        while True:
            try:
                await self._connection(teller)
            except UdevError as error:
                teller.down(str(error), missing=self._control not in _here_once)
            else:
                continue  # what was lost is lost: listen anew at once
            await asyncio.sleep(self._retry)

    def plugged_in(self) -> tuple[Reading, ...] | None:
        """Every USB device of this host, hubs included; None while udev cannot be heard."""
        return None if self._listener is None else self._listener.known

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
                if self._teller is not None:
                    await self._teller.heard()  # after an overflow: the snapshot that follows

    async def _connection(self, teller: Teller) -> None:
        """Listen, enumerate, tell. Returns when messages were lost or another udevd is there."""
        control = self._control_id()
        listener = Listener(
            await self._patiently(partial(Monitor, self._receive_buffer), teller), teller
        )
        try:
            found = await self._patiently(enumerated, teller)
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
            teller.silent()
            listener.close()

    async def _patiently(self, work: Callable[[], T], teller: Teller) -> T:
        """Do it in a thread; past the limit say `Down` and wait on.

        Trying again would only hang a second thread at the same device.
        """
        result = asyncio.ensure_future(in_thread(work, "udev"))
        try:
            done, _ = await asyncio.wait({result}, timeout=self._patience)
            if not done:
                teller.down(
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
            raise UdevError(
                f"udevd is not running (no {self._control}: {error.strerror}): start it with"
                " 'systemctl start systemd-udevd'; in a container, run the agent on the host, or"
                " give the container the host's network namespace and /run/udev"
            ) from None
        _here_once.add(self._control)
        return status.st_ino, status.st_ctime_ns
