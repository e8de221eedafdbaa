"""Jobs that come due, at most so many at once, on one task: a thousand keys cost nothing idle."""

from __future__ import annotations

import asyncio
import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Agenda:
    """Runs `job(key)` when the key is due.

    The job returns in how many seconds its key is due again, or None for never. Jobs bound their
    own time and raise nothing that is expected: what they raise ends `run`. While `width` jobs run,
    others wait for their turn in the order in which they were due.
    """

    def __init__(
        self, width: int, job: Callable[[int], Awaitable[float | None]], *, grain: float = 0.0
    ) -> None:
        """With `grain`, what comes due within so many seconds runs together, at their end.

        One wake-up for twenty jobs costs a quarter of twenty wake-ups for one each (measured).
        """
        self._job = job
        self._grain = grain
        self._slots = asyncio.Semaphore(width)
        self._due: dict[int, float] = {}  # what counts; the heap may hold outdated entries
        self._heap: list[tuple[float, int]] = []
        self._running: dict[int, object] = {}  # key -> who runs it; a discarded job is nobody
        self._news = asyncio.Event()

    def add(self, key: int, delay: float) -> None:
        """Have `key` run in `delay` seconds, instead of when it was due before.

        A key whose job is running right now runs again.
        """
        due = asyncio.get_running_loop().time() + delay
        if delay and self._grain:
            due = math.ceil(due / self._grain) * self._grain
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._news.set()

    def discard(self, key: int) -> None:
        """Forget `key`; a job that runs for it ends by itself, and is not repeated."""
        self._due.pop(key, None)
        self._running.pop(key, None)

    async def run(self) -> None:
        """Run what is due until cancelled; running jobs are cancelled with it."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                now = loop.time()
                while self._heap and self._heap[0][0] <= now:
                    due, key = heapq.heappop(self._heap)
                    if self._is_due(key, due):
                        await self._slots.acquire()
                        if self._is_due(key, due):
                            del self._due[key]
                            token = self._running[key] = object()
                            group.create_task(self._run_one(key, token))
                        else:  # discarded or moved while it waited for a slot
                            self._slots.release()
                alarm = loop.call_at(self._heap[0][0], self._news.set) if self._heap else None
                try:
                    await self._news.wait()
                finally:
                    if alarm is not None:
                        alarm.cancel()

    def _is_due(self, key: int, due: float) -> bool:
        return self._due.get(key) == due and key not in self._running

    async def _run_one(self, key: int, token: object) -> None:
        try:
            delay = await self._job(key)
        finally:
            self._slots.release()
        if self._running.get(key) is token:
            del self._running[key]
            if key in self._due:  # added while it ran, and perhaps passed over for that
                heapq.heappush(self._heap, (self._due[key], key))
                self._news.set()
            elif delay is not None:
                self.add(key, delay)
