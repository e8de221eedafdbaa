"""The loop's side of the store: takes changes and questions, and settles who waits for them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from agent.errors import StoreError
from agent.store.writer import Job, Settled, Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from agent.clock import Clock
    from agent.store.database import Database

log = structlog.get_logger(__name__)
T = TypeVar("T")

_CLOSE_SECONDS = 3.0
_LOG_EVERY = 60.0


class StoreHealth(NamedTuple):
    """Can the store write? Anything but `ok` is for the operator to see everywhere."""

    ok: bool = True
    error: str = ""
    """Why not, with the path and what to do; "" while ok."""
    unstored: int = 0
    """Changes kept in memory because they could not be written yet; 0 while ok."""
    dropped: int = 0
    """Changes refused since start, because too many were kept in memory already."""
    recovered_from: str = ""
    """Path of the corrupt file that was set aside, "" if none was since start."""


class Calls:
    """One event loop's calls to the writer thread; see `Store` for what is promised of them.

    Args:
        database: open; it is the writer thread's from now on.
        retention_ms: for how long finished history is kept; called on that thread.
        max_unstored: changes kept in memory at most while they cannot be written.
        on_health: called on the loop's thread at every change of `health`.
        clock: likewise read on that thread.
    """

    def __init__(
        self,
        database: Database,
        retention_ms: Callable[[], int],
        max_unstored: int,
        on_health: Callable[[StoreHealth], None],
        clock: Clock,
    ) -> None:
        self._on_health = on_health
        self._max_unstored = max_unstored
        self._dropped = 0
        self._drop_log_at = 0.0
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self.unstored = 0
        """Changes that are not durable yet."""
        self.writer = Writer(database, self._settled, retention_ms, clock)
        self._told = self.health

    @property
    def health(self) -> StoreHealth:
        """How the store is doing right now."""
        status = self.writer.status
        return StoreHealth(
            ok=not status.error,
            error=status.error,
            unstored=self.unstored if status.error else 0,
            dropped=self._dropped,
            recovered_from=status.recovered_from,
        )

    def ask(
        self, question: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """Answer it from what is stored."""
        return self._submit(question, then, writes=False)

    def change(
        self, change: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """Make it durable; queued by the call."""
        return self._submit(change, then, writes=True)

    async def close(self) -> None:
        """Commit what is queued, within 3 s, then close and release the lock; idempotent."""
        if self._closing is None:
            self.writer.stop()
            self._closing = asyncio.create_task(self._end(), name="store-close")
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        if not await asyncio.to_thread(self.writer.join, _CLOSE_SECONDS):
            # The thread goes on, and keeps the lock, until it is done or the process ends.
            log.error("store.close_hangs", seconds=_CLOSE_SECONDS, hint="is the disk hanging?")

    def _submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        then: Callable[[T], None] | None,
        *,
        writes: bool,
    ) -> asyncio.Future[T]:
        loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closing is not None:
            future.set_exception(StoreError("the store is closed: the agent is stopping"))
        elif writes and self.unstored >= self._max_unstored:
            self._drop()
            future.set_exception(
                StoreError(
                    f"{self.unstored} changes wait to be stored, no more are kept in memory:"
                    f" {self.health.error or 'the disk is too slow'}"
                )
            )
        else:
            self.unstored += writes
            self.writer.put(Job(work, future, writes, then))
        return future

    def _drop(self) -> None:
        self._dropped += 1
        now = time.monotonic()
        if now >= self._drop_log_at:
            self._drop_log_at = now + _LOG_EVERY
            log.error(
                "store.change_dropped",
                dropped=self._dropped,
                kept_in_memory=self.unstored,
                error=self.health.error,
            )
            self._tell()

    def _settled(self, settled: Sequence[Settled]) -> None:
        """On the writer's thread: hand the news to the loop, all at once."""
        if self._loop is None:
            return
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._resolve, settled)

    def _resolve(self, settled: Sequence[Settled]) -> None:
        for job, result, error in settled:
            self.unstored -= job.writes
            if error is None and job.then is not None:
                job.then(result)
            if job.future.done():  # its caller was cancelled
                continue
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)
        self._tell()

    def _tell(self) -> None:
        health = self.health
        if health != self._told:
            self._told = health
            self._on_health(health)
