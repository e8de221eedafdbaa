"""systemd's notification protocol (sd_notify(3)): one datagram of KEY=value lines, no library."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from agent.text import fitting, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_SIZE = 2000
"""Bytes. systemd ignores a whole message of more than 4096."""


class Notifier:
    """Talks to the service manager; does nothing where there is none (no NOTIFY_SOCKET)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._status = ""
        self.watchdog_interval = _watchdog_interval(environ)
        """Seconds between two `alive` calls (half of what systemd allows); 0: no watchdog."""

    def ready(self) -> None:
        """Started, and the first look at the phones is done."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. MONOTONIC_USEC is what systemd >= 253 asks for."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The stop begins."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows, on one line; sent only when it differs from the last."""
        text = fitting(printable(text, STATUS_SIZE), STATUS_SIZE)
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A manager that is gone or busy is no reason to stop watching phones.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            sock.connect(address)
            # A line break in one would be a further assignment: WATCHDOG=trigger ends the unit.
            sock.send("\n".join(printable(each, 2 * STATUS_SIZE) for each in assignments).encode())


def _watchdog_interval(environ: Mapping[str, str]) -> float:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 2e6
    except ValueError:
        return 0.0
