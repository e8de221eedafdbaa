"""A real store, opened as the agent does it, with what a test does not care for filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.clock import LoopClock
from agent.config import Delivery
from agent.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.clock import Clock
    from agent.store import StoreHealth

_CLOCK: Final = LoopClock()
_SETTINGS: Final = Delivery()


def nobody_listens(_: StoreHealth) -> None:
    """Nobody asked to hear of the store's health."""


def open_store(
    directory: Path,
    *,
    settings: Delivery = _SETTINGS,
    clock: Clock = _CLOCK,
    on_health: Callable[[StoreHealth], None] = nobody_listens,
    max_unstored: int = 100_000,
) -> Store:
    """See `Store.open`."""
    return Store.open(
        directory, settings=settings, clock=clock, on_health=on_health, max_unstored=max_unstored
    )
