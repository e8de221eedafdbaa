"""Where time comes from, and how the wall clock's moments are written.

Whoever decides by time or sets a timer is handed the one `Clock`: `agent.app` makes it, a test
brings its own. Pure logic takes `now` as a number. Plain `time` and `asyncio.timeout` remain for
what only bounds a wait, slices work, or runs in a thread: a clock that a test turns would lie
there.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None:
        """Do not fire."""


class Clock(Protocol):
    """Two clocks, timers and chance."""

    def monotonic(self) -> float:
        """Seconds that only grow; those that the timers go by."""

    def wall_ms(self) -> int:
        """Now, in milliseconds since the Unix epoch; may be set to anything. In any thread."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call `callback(*args)` in `delay` seconds, at once too in a later turn of the loop."""

    def jitter(self) -> float:
        """A random number in [0, 1)."""


class LoopClock:
    """The real one: its timers are the running loop's."""

    monotonic = staticmethod(time.monotonic)
    """See `Clock`. The loop's time is this one, too; asked some ten times for each transition."""

    def wall_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """See `Clock`."""
        return asyncio.get_running_loop().call_later(delay, callback, *args)

    jitter = staticmethod(random.random)
    """See `Clock`: it spreads load."""


def timestamp(ms: int) -> str:
    """Wall-clock milliseconds as UTC with milliseconds: `2023-01-06T04:52:36.963Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"
