"""Time as the agent lived it, its one timer, and the question that is put before a state counts.

Holds and graces are there so that what is short goes by; a process that was stopped (a paused VM, a
freezer, a starved CPU, SIGSTOP) wakes up with all of them run out and with what happened meanwhile
still unread in its sockets. So the pipeline's clock leaves out the time in which nobody looked:
while anything waits for its time a timer fires every `BEAT` seconds, and when it comes more than
`LATE` late, nothing since the look before it was seen. (On a machine that is always late, where one
late look follows the other, only the lateness is left out: there, too, every hold must end. The
clock that is read stands still by itself in a suspend, and in none of these.) While nothing waits,
there is no timer, and nothing to ripen.

How much of such a gap was seen, nobody knows. What protects is `Questions`: before a held state
counts, each source that can tell of the phone is asked for the whole truth anew, and what was asked
before a gap does not count as asked.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING

from agent.track.wakes import Wakes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.clock import Clock, Timer
    from agent.model import SourceName

BEAT = 0.5
"""Seconds between two looks at the clock while something waits, at most."""
SHIFT_MS = 1000
"""Milliseconds between the wall clock and the time that was seen that are no news."""
SHIFT_PAUSE = 10.0
"""Seconds between two such news, at least: a machine that is always late has more of them."""
LATE = 0.25
"""Seconds by which a timer may be late on a busy machine that looks all the same."""


class Pace:
    """The clock of what was seen, and who wants to be called when.

    Args:
        clock: the one that is read, and timers.
        due: called with everybody whose time has come.
        on_gap: called with the seconds that nobody looked, before any time after them is told.
        on_shift: called with the milliseconds by which the wall clock has left the time that was
            seen: somebody set it, or nobody looked.
    """

    def __init__(
        self,
        clock: Clock,
        due: Callable[[set[str]], None],
        on_gap: Callable[[float], None],
        on_shift: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._due = due
        self._on_gap = on_gap
        self._on_shift = on_shift
        self._ahead_ms = self._wall_ahead_ms(clock.monotonic())
        self._shifted_at = -math.inf
        self._left_out = 0.0
        self._wakes = Wakes()
        self._timer: Timer | None = None
        self._looks_at = 0.0
        """When the timer is to fire, in the clock that is read."""
        self._looked_at = 0.0
        """When it was set, in the same."""
        self._was_late = False

    def now(self) -> float:
        """Seconds that were seen."""
        read = self._clock.monotonic()
        if self._timer is not None and read - self._looks_at > LATE:
            gap = read - (self._looks_at if self._was_late else self._looked_at)
            self._was_late = True
            self._looks_at = self._looked_at = read
            self._left_out += gap
            self._on_gap(gap)
        return read - self._left_out

    def wake(self, who: str, when: float | None) -> None:
        """Call `due` with that one at that time, and not at an earlier one; None: not at all."""
        self._wakes.wake(who, when)

    def move(self, old: str, new: str) -> None:
        """They go by another name."""
        self._wakes.move(old, new)

    def arm(self, now: float) -> None:
        """Set the one timer, or none; to be called after every `wake`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._wakes.next()
        if when is not None:
            delay = min(BEAT, max(0.0, when - now))
            self._looked_at = self._clock.monotonic()
            self._looks_at = self._looked_at + delay
            self._timer = self._clock.call_later(delay, self._look)

    def look_at_wall(self, now: float) -> None:
        """Notice that the wall clock has left the time that was seen, of which it is `now`."""
        shift = self._wall_ahead_ms(now) - self._ahead_ms
        if abs(shift) > SHIFT_MS and now - self._shifted_at >= SHIFT_PAUSE:
            self._ahead_ms += shift
            self._shifted_at = now
            self._on_shift(shift)

    def overdue(self) -> float:
        """Seconds by which the timer is late now."""
        if self._timer is None:
            return 0.0
        return max(0.0, self._clock.monotonic() - self._looks_at)

    def close(self) -> None:
        """Call nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wall_ahead_ms(self, now: float) -> int:
        return self._clock.wall_ms() - round(now * 1000)

    def _look(self) -> None:
        on_time = self._clock.monotonic() - self._looks_at <= LATE
        now = self.now()
        self._was_late = not on_time
        self._timer = None
        self.look_at_wall(now)
        due = self._wakes.take(now)
        if due:
            self._due(due)
        else:
            self.arm(now)


class Questions:
    """Which source was asked for the whole truth when.

    Args:
        pace: the clock.
        recheck: has one read the whole truth anew and emit what differs; done when that is emitted,
            or its time is up. None: there is nobody to ask.
        answered: called whenever one is done.
    """

    def __init__(
        self,
        pace: Pace,
        recheck: Callable[[SourceName], Awaitable[None] | None],
        answered: Callable[[], None],
    ) -> None:
        self._pace = pace
        self._recheck = recheck
        self._answered = answered
        self._asked: dict[SourceName, float] = {}
        self._under_way: dict[SourceName, asyncio.Future[None]] = {}
        self._gaps = 0

    def told_since(self, sources: Iterable[SourceName], since: float) -> bool:
        """Whether all of them were asked at that time or later, and that is done."""
        return all(self._asked.get(source, -math.inf) >= since for source in sources)

    def ask(self, sources: Iterable[SourceName], since: float) -> None:
        """Ask each that was not asked since then, one question at a time."""
        now = self._pace.now()
        for source in sources:
            if source in self._under_way or self.told_since((source,), since):
                continue
            answer = self._recheck(source)
            if answer is None:
                self._asked[source] = now
                continue
            task = asyncio.ensure_future(answer)
            self._under_way[source] = task
            task.add_done_callback(partial(self._done, source, now, self._gaps))

    def forget(self) -> None:
        """There was a gap: nobody counts as asked, those that are being asked neither."""
        self._asked.clear()
        self._gaps += 1

    def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._under_way.values():
            task.cancel()

    def _done(
        self, source: SourceName, asked: float, gaps: int, task: asyncio.Future[None]
    ) -> None:
        del self._under_way[source]
        if task.cancelled():
            return
        task.exception()  # it has had its time; whoever asks it says why
        self._pace.now()  # notices a gap that nobody has noticed yet
        if gaps == self._gaps:
            self._asked[source] = asked
        self._answered()
