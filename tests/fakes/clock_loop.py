"""An event loop whose time a test turns: one turn at a time, and nothing ever waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.fakes.clock import START_MS

if TYPE_CHECKING:
    from collections.abc import Callable


class ClockLoop(asyncio.SelectorEventLoop):
    """Time stands still until `now` is set; what breaks in a callback is kept in `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.broken: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.broken.append(context))

    def time(self) -> float:
        """Of all timers."""
        return self.now

    def wall_ms(self) -> int:
        """Wall clock that goes with it."""
        return START_MS + int((self.now - 1000) * 1000)

    def turn(self, first: Callable[[], None] | None = None) -> None:
        """Run what is ready, `first` before it, and the timers that are due; then stop."""
        if first is not None:
            self.call_soon(first)
        self.call_soon(self.stop)
        self.run_forever()

    def turns(self, count: int = 12) -> None:
        """Enough of them for all to come to rest."""
        for _ in range(count):
            self.turn()
