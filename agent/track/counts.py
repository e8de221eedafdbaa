"""What has happened since the start, counted as it happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.model import DeviceState, SourceName


@dataclass(slots=True)
class Counts:
    """What has happened since the start."""

    transitions: Counter[DeviceState] = field(default_factory=Counter)
    """By the new state."""
    flaps: int = 0
    """Times a device began to flap."""
    callbacks: Counter[int] = field(default_factory=Counter)
    """Made and durable, by webhook."""
    lost: int = 0
    """Callbacks that the store refused."""
    reconnects: Counter[SourceName] = field(default_factory=Counter)
    """Times a source saw again after it could not."""
