"""sd_notify over real datagram sockets."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from agent.wire.systemd import Notifier

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@device-agent-test-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        notifier.ready()
        notifier.status("2 online")
        notifier.status("2 online")
        notifier.alive()
        notifier.stopping()
        got = [manager.recv(100).decode() for _ in range(4)]
    assert got == ["READY=1", "STATUS=2 online", "WATCHDOG=1", "STOPPING=1"]


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
    ],
)
def test_the_watchdog_interval(environ: dict[str, str], seconds: float) -> None:
    assert Notifier(environ).watchdog_interval == seconds


@pytest.mark.parametrize(
    "text",
    [
        "adb: no such service\nWATCHDOG=trigger",
        "a\r\nMAINPID=1\n\nSTOPPING=1",
        "\ud800 half a character, \x00 and \x1b[2J, \u2028\x85\u202e",
        "x" * 100_000,
        "\U0001f4f1" * 50_000,
        "",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_whatever_a_status_says_it_is_one_line_that_systemd_takes(
    tmp_path: Path, text: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        notifier.status("before")
        notifier.status(text)
        notifier.alive()
        assert manager.recv(65536) == b"STATUS=before"
        told = manager.recv(65536)
        assert manager.recv(65536) == b"WATCHDOG=1"
    assert len(told) < 4096, "more is ignored as a whole"
    (line,) = told.decode().split("\n")
    assert line.startswith("STATUS=")
    assert line.isprintable()
