"""How much and how long a client may: nobody holds up the agent, or fills its memory."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BODY = 64 * 1024
"""Bytes: requests carry a few names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and connections."""

    idle: float = 30.0
    """For a request's head to come whole, since the connection or the answer before it."""
    body: float = 10.0
    """For a request's body to come: 64 KiB at most, from this host."""
    handshake: float = 10.0
    """For TLS to begin."""
    linger: float = 5.0
    """For the rest of a body that nobody reads."""
    unread: float = 30.0
    """That an answer over TCP may lie there without a byte taken."""
    slow: float = 10.0
    """Likewise for a message of those that go on; who was dropped may come back, and resume."""
    tcp: int = 500
    unix: int = 1000
    """Connections at once; the ones above are told so."""
    backlog: int = 512
    """Connections that wait to be taken: when the agent is back, all who follow it come."""
