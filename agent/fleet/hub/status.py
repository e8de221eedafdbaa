"""How the fleet stands, for operators: the hub, and each host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.fleet.hub.hosts import Presence


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host."""

    host: str
    presence: Presence
    caught_up: bool
    epoch: int | None
    """None: nothing was taken of it yet."""
    cursor: int
    lag: int
    """Rows of its log that it is known to have, and the hub has not."""
    silent: float | None
    """Seconds of the hub's own time since its last heartbeat; None: not heard since the start."""
    version: str
    devices: int
    """That are shown as its own."""
    problem: str
    """In operators' words; "": none."""


@dataclass(frozen=True, slots=True)
class HubStatus:
    """The hub."""

    connected: bool
    blind: bool
    """It does not hear itself: nothing counts by time."""
    active: bool
    """It sends callbacks, and acknowledges."""
    reason: str
    """Why it is not connected, or blind."""
    bad_messages: int
    dropped: int
    """Messages that came faster than they could be taken; they are asked for again."""
    moves: int
    """Phones that went to another host."""
