"""The one stub of `agent.clock.Clock`, and a loop that goes by such a clock."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1000.0
START_MS = 1_700_000_000_000


def middling() -> float:
    """Jitter that changes nothing."""
    return 0.5


class StubTimer:
    """What `call_later` gives."""

    def __init__(
        self, callback: Callable[..., object], args: tuple[object, ...], *, waits: bool
    ) -> None:
        self._callback = callback
        self._args = args
        self.waits = waits
        """For time to pass."""
        self.is_set = True

    def cancel(self) -> None:
        """Do not fire."""
        self.is_set = False

    def fire(self) -> None:
        """Call back, if it has neither done so nor been cancelled."""
        if self.is_set:
            self.is_set = False
            self._callback(*self._args)


class StubClock:
    """Time stands still until `advance`; what is due at once comes in the loop's next turn, too."""

    def __init__(self, *, start_ms: int = START_MS, jitter: Callable[[], float] = middling) -> None:
        self.now = START
        self._start_ms = start_ms
        self._set_by = 0.0
        self._timers: list[tuple[float, int, StubTimer]] = []
        self._order = count()
        self._jitter = jitter

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    @property
    def passed(self) -> float:
        """Seconds since it was made."""
        return self.now - START

    def wall_ms(self) -> int:
        """Goes with the monotonic one."""
        return self._start_ms + round((self.passed + self._set_by) * 1000)

    def jitter(self) -> float:
        """As the test chose."""
        return self._jitter()

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> StubTimer:
        """As the loop's."""
        timer = StubTimer(callback, args, waits=delay > 0)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        if not timer.waits:
            asyncio.get_running_loop().call_soon(timer.fire)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass; timers fire in order, each at its moment."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            timer.fire()
        self.now = end

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock forward by so much, or back."""
        self._set_by += seconds

    @property
    def armed(self) -> list[float]:
        """Seconds from now until each timer that is set fires; not those that are due at once."""
        return sorted(
            round(at - self.now, 6) for at, _, timer in self._timers if timer.is_set and timer.waits
        )


class ClockLoop(asyncio.SelectorEventLoop):
    """A loop whose time a test turns, one turn at a time; nothing ever waits. Itself a `Clock`.

    Time stands still until `now` is set; what breaks in a callback is kept in `broken`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.broken: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.broken.append(context))

    def time(self) -> float:
        """Of all timers."""
        return self.now

    def monotonic(self) -> float:
        """The same."""
        return self.now

    def wall_ms(self) -> int:
        """Wall clock that goes with it."""
        return START_MS + round((self.now - START) * 1000)

    def jitter(self) -> float:
        """None."""
        return middling()

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
