"""Timers: the running loop's, or a test's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None:
        """Do not fire."""


class CallLater(Protocol):
    """`loop.call_later`, or a test's."""

    def __call__(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call `callback(*args)` in `delay` seconds."""


def call_later(delay: float, callback: Callable[..., object], *args: object) -> Timer:
    """The running loop's."""
    return asyncio.get_running_loop().call_later(delay, callback, *args)


class Alarm:
    """One timer, that is set or is not."""

    def __init__(self, later: CallLater, ring: Callable[[], None]) -> None:
        self._later = later
        self._ring = ring
        self._timer: Timer | None = None

    @property
    def is_set(self) -> bool:
        """Whether it is going to ring."""
        return self._timer is not None

    def set(self, delay: float) -> None:
        """Ring in `delay` seconds, and not when it was to ring before."""
        self.cancel()
        self._timer = self._later(max(0.0, delay), self._fire)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._ring()
