"""Ports of loopback for what listens at one that is chosen before, or comes back to its own.

They are below those that the kernel gives away (ip_local_port_range begins at 32768): else a
connection of any other test may take one while nobody listens there. And each is this process's
alone until it has chosen `_HELD` more: else a test of another process may choose it, too, while
nobody listens there yet. That is held by locks on the bytes of a file, which end with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile
from collections import deque
from pathlib import Path

_CHOSEN = range(12_000, 32_000)
_HELD = 1_000
_held = deque[int]()
_chance = random.SystemRandom()
"""Not the one that tests seed: two workers would choose alike."""


def free_port() -> int:
    """One that nobody has right now, or has chosen."""
    while True:
        port = _chance.choice(_CHOSEN)
        if port in _held:
            continue
        with contextlib.suppress(OSError):
            _hold(port)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            return port


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    return [free_port() for _ in range(count)]


def _hold(port: int) -> None:
    """OSError: another process does."""
    fcntl.lockf(_locks(os.getpid()), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    _held.append(port)
    if len(_held) > _HELD:
        fcntl.lockf(_locks(os.getpid()), fcntl.LOCK_UN, 1, _held.popleft())


@functools.cache
def _locks(_process: int) -> int:
    """The file, open for as long as the process runs: to close it would end its locks.

    A process that was forked has none of them, nor any that its parent chose.
    """
    _held.clear()
    path = Path(tempfile.gettempdir()) / f"device-agent-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
