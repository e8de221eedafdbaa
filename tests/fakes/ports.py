"""Ports of loopback for what listens at one that is chosen before, or comes back to its own.

They are below those that the kernel gives away (ip_local_port_range begins at 32768): else a
connection of any other test may take one while nobody listens there.
"""

from __future__ import annotations

import contextlib
import random
import socket

_CHOSEN = range(12_000, 32_000)
_chance = random.SystemRandom()
"""Not the one that tests seed: two workers would choose alike."""


def free_port() -> int:
    """One that nobody has right now."""
    while True:
        port = _chance.choice(_CHOSEN)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    ports = set[int]()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
