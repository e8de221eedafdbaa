"""The store as the rest of the agent sees it: asyncio in front, one writer thread behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from agent.clock import wall_ms
from agent.errors import StoreError
from agent.store import queries
from agent.store.bulk import Finish, Record
from agent.store.database import Database
from agent.store.rows import StoreFigures, StoreHealth
from agent.store.writer import Job, Settled, Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
    from pathlib import Path

    from agent.model import Attempt, Callback, CallbackState, DeviceRecord, Lease, Transition
    from agent.store.rows import (
        DeliveryQuery,
        DeliveryRow,
        PendingLane,
        Revived,
        StoredTransition,
    )

log = structlog.get_logger(__name__)
T = TypeVar("T")

_CLOSE_SECONDS = 3.0
_LOG_EVERY = 60.0
_BEYOND_LAST = 1 << 62


def ignore(_: StoreHealth) -> None:
    """Nobody asked to hear of the store's health."""


class Store:
    """Devices, transitions, callbacks, attempts, webhook ids and leases, in one SQLite file.

    Used from one event loop. A change is queued by the call itself, in the order of the calls, and
    durable (fsync) when its future is done. While the disk fails, changes wait in memory and so do
    their callers; questions are answered from what is stored. A caller that is cancelled does not
    take its change back. All methods but `open` raise StoreError: once the store is closed, when
    too many changes wait, when the store refuses the change (a broken rule of the schema), or, for
    questions, when the file cannot be read.
    """

    def __init__(
        self,
        database: Database,
        *,
        retention: float,
        max_unstored: int,
        now_ms: Callable[[], int],
        on_health: Callable[[StoreHealth], None],
    ) -> None:
        """For `open`, which opens the database."""
        self.directory = database.path.parent
        self._now_ms = now_ms
        self._on_health = on_health
        self._max_unstored = max_unstored
        self._unstored = 0
        self._dropped = 0
        self._drop_log_at = 0.0
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self.retention = retention
        """Seconds that finished callbacks and transitions are kept."""
        self._writer = Writer(
            database, self._settled, lambda: now_ms() - round(self.retention * 1000)
        )
        self._told = self.health
        self._cancelled = 0
        self._in_force: frozenset[int] = frozenset()
        self._sizes: dict[int, int] | None = None
        self._sizing: asyncio.Future[Any] | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        retention: float = 30 * 86400,
        max_unstored: int = 100_000,
        now_ms: Callable[[], int] = wall_ms,
        on_health: Callable[[StoreHealth], None] = ignore,
    ) -> Store:
        """Open the store in that directory, which is made (0700) if missing.

        Blocks for milliseconds; longer only to salvage a corrupt file, which
        `health.recovered_from` then names.

        Args:
            directory: the agent's state directory; one agent at a time.
            retention: seconds that finished callbacks and transitions are kept.
            max_unstored: changes kept in memory at most while they cannot be written.
            now_ms: the wall clock; called on the writer's thread too.
            on_health: called on the loop's thread at every later change of `health`.

        Raises:
            StoreLockedError: another agent uses the directory.
            StoreVersionError: a newer agent wrote the store.
            StoreError: not writable, disk full, disk failing.
        """
        database = Database(directory)
        database.open()
        return cls(
            database,
            retention=retention,
            max_unstored=max_unstored,
            now_ms=now_ms,
            on_health=on_health,
        )

    @property
    def health(self) -> StoreHealth:
        """How the store is doing right now."""
        status = self._writer.status
        return StoreHealth(
            ok=not status.error,
            error=status.error,
            unstored=self._unstored if status.error else 0,
            dropped=self._dropped,
            recovered_from=status.recovered_from,
        )

    @property
    def figures(self) -> StoreFigures:
        """What was counted since the opening."""
        space = self._writer.space
        return StoreFigures(
            queued=self._unstored,
            cancelled=self._cancelled,
            commits=self._writer.commits.tally(),
            failures=self._writer.failures,
            size=space.used,
            free=space.free,
        )

    async def devices(self) -> list[DeviceRecord]:
        """All devices ever recorded, by UDID."""
        return await self._ask(queries.devices)

    def record(
        self, record: DeviceRecord, transition: Transition | None, callbacks: Sequence[Callback]
    ) -> asyncio.Future[tuple[Callback, ...]]:
        """Store the device's row, its transition and the callbacks, all or nothing.

        Returns the callbacks with their rowids.
        """
        kept = tuple(callbacks)
        return self._change(
            Record(record, transition, kept),
            self._grown if kept else None,
        )

    async def last_transition(self) -> tuple[int, int]:
        """Id and time in ms of the newest transition; (0, 0) where there is none."""
        return await self._ask(queries.last_transition)

    async def transition_time(self, id_: int) -> int | None:
        """When the transition with that id was, in ms; None: it is not there (any more)."""
        return await self._ask(lambda conn: queries.transition_time(conn, id_))

    async def transitions_after(self, after: int, limit: int) -> list[StoredTransition]:
        """Transitions with an id above `after`, in order, at most `limit`."""
        return await self._ask(lambda conn: queries.transitions_after(conn, after, limit))

    async def transitions_of(self, udid: str, limit: int) -> list[StoredTransition]:
        """The last transitions of one device, newest first, at most `limit`."""
        return await self._ask(lambda conn: queries.transitions_of(conn, udid, limit))

    def finish(
        self, callback: Callback, attempt: Attempt | None, state: CallbackState, due_ms: int = 0
    ) -> asyncio.Future[int]:
        """Record the attempt and move the callback on; returns by how much more is pending.

        PENDING with `due_ms` is a retry; else DELIVERED or DEAD. The stored count of attempts goes
        up by one if there is an attempt. With an attempt, PENDING does not revive a callback that
        was cancelled meanwhile; without one (a replay) it does. A callback that the store no longer
        has is logged and ignored.
        """
        now = self._now_ms()
        return self._change(
            Finish(callback, attempt, state, due_ms, now),
            partial(self._moved, callback.webhook_id),
        )

    async def lanes(self) -> list[PendingLane]:
        """One per (webhook, device) that has pending callbacks, with the first. O(lanes)."""
        return await self._ask(queries.lanes)

    async def pending(self, webhook_id: int, udid: str, after: int, limit: int) -> list[Callback]:
        """Pending callbacks of one lane with rowid > after, in order, at most `limit`."""
        return await self._ask(lambda conn: queries.pending(conn, webhook_id, udid, after, limit))

    async def webhook_ids(self, wanted: Sequence[tuple[int, str, int | None]]) -> list[int]:
        """The id of each webhook (org_id, name, explicit id or None), in the order asked.

        Explicit ids are taken as they are. Others are given once per (org, name) and kept for ever
        (for a name that had explicit ids before: the latest of them). No id is ever given, or
        accepted, that another webhook used; an explicit id that is in force (`retain_webhooks`), by
        a name that is asked for no more, is that webhook's under its new name. Ids that are known
        already are told even while the disk is full; new ones wait for it.

        Raises:
            StoreError: an explicit id belongs to another name; nothing is stored.
        """
        kept = tuple(wanted)
        known = await self._ask(lambda conn: queries.known_webhook_ids(conn, kept))
        if known is not None:
            return known
        return await self._change(lambda conn: queries.webhook_ids(conn, kept))

    def retain_webhooks(self, keep: Collection[int]) -> asyncio.Task[int]:
        """These are in force; cancel what is pending for all others: returns how many callbacks.

        In force from the call on, before it is awaited: to be called in the same turn of the loop
        as whatever makes callbacks for other webhooks. A large backlog is cancelled in several
        transactions; other changes go on between them, and each goes by what was called last.
        """
        self._in_force = frozenset(keep)
        return asyncio.create_task(self._until_all(self._cancel_others()), name="retain")

    async def _until_all(self, first: asyncio.Future[list[tuple[int, int]]]) -> int:
        last = total = sum(count for _, count in await first)
        while last == queries.CANCEL_ROWS:
            last = sum(count for _, count in await self._cancel_others())
            total += last
        return total

    def _cancel_others(self) -> asyncio.Future[list[tuple[int, int]]]:
        return self._change(
            partial(queries.retain_webhooks, keep=self._in_force, now=self._now_ms()), self._gone
        )

    def supersede(self, webhook_id: int, udid: str) -> asyncio.Future[int]:
        """Cancel what one lane has pending, but for its newest; returns how many callbacks.

        At most a few thousand at once: to be asked for until nothing older is left.
        """
        return self._change(
            partial(queries.supersede, webhook_id=webhook_id, udid=udid, now=self._now_ms()),
            lambda count: self._moved(webhook_id, -count),
        )

    async def revive(
        self,
        query: DeliveryQuery,
        webhooks: Callable[[], Collection[int]],
        told: Callable[[Sequence[Callback]], None],
    ) -> AsyncIterator[Callback]:
        """Make finished callbacks that match pending again, oldest first, `query.limit` at most.

        Those of other webhooks than `webhooks` says, asked at each step, are left as they are. What
        is pending again is told on the loop in commit order, before it is yielded, and also if
        whoever waits for it has gone.
        """
        after, end = 0, await self._ask(queries.last_id)
        if query.message_id is not None:
            wanted = query.message_id
            rowid = await self._ask(lambda conn: queries.id_of_message(conn, wanted))
            after, end = (0, 0) if rowid is None else (rowid - 1, rowid)
        left = query.limit

        def revived(step: Revived) -> None:
            self._grown(step.callbacks)
            told(step.callbacks)

        while after < end and left > 0:
            change = partial(
                queries.revive,
                query=query,
                webhooks=frozenset(webhooks()),
                after=after,
                limit=left,
            )
            step = await self._change(change, revived)
            after = step.last
            left -= len(step.callbacks)
            for callback in step.callbacks:
                yield callback

    async def leases(self) -> list[Lease]:
        """All leases, oldest first, expired ones included."""
        return await self._ask(queries.leases)

    def put_lease(self, lease: Lease) -> Coroutine[Any, Any, None]:
        """Store the lease, in place of the one with its id."""
        return _result(self._change(lambda conn: queries.put_lease(conn, lease)))

    def delete_lease(self, lease_id: str) -> Coroutine[Any, Any, None]:
        """Delete the lease, if it is there."""
        return _result(self._change(lambda conn: queries.delete_lease(conn, lease_id)))

    async def deliveries(self, query: DeliveryQuery) -> list[DeliveryRow]:
        """Callbacks that match, newest first.

        Looks through the history in steps of milliseconds, so that commits go on between them.
        """
        if query.message_id is not None:
            wanted = query.message_id
            rowid = await self._ask(lambda conn: queries.id_of_message(conn, wanted))
            if rowid is None:
                return []
            return await self._window(query, rowid, rowid + 1, query.limit)
        found: list[DeliveryRow] = []
        high = _BEYOND_LAST
        while high > 0 and len(found) < query.limit:
            low = await self._ask(partial(queries.window_low, high=high))
            found += await self._window(query, low, high, query.limit - len(found))
            high = low
        return found

    async def _window(
        self, query: DeliveryQuery, low: int, high: int, limit: int
    ) -> list[DeliveryRow]:
        return await self._ask(lambda conn: queries.deliveries(conn, query, low, high, limit))

    async def attempts(self, message_id: str) -> list[Attempt]:
        """All attempts of one callback, in order; empty for an unknown one."""
        return await self._ask(lambda conn: queries.attempts(conn, message_id))

    async def backlog(self) -> dict[int, tuple[int, int]]:
        """webhook_id → (pending callbacks, creation time of the first of them in ms)."""
        return await self._ask(queries.backlog)

    async def pending_sizes(self) -> dict[int, int]:
        """webhook_id → pending callbacks; one that has none may be left out.

        Counted once (60 ms of the writer's time for a million), then kept up with every commit:
        costs nothing to ask again, and is known while the disk fails.
        """
        if self._sizes is None:
            if self._sizing is None or self._sizing.done():
                self._sizing = self._submit(queries.backlog, writes=False, then=self._counted)
                self._sizing.add_done_callback(_heard)
            # Whoever does not wait to the end leaves the question for the next one.
            await asyncio.shield(self._sizing)
        return {} if self._sizes is None else dict(self._sizes)

    def _counted(self, found: dict[int, tuple[int, int]]) -> None:
        self._sizes = {webhook: size for webhook, (size, _) in found.items()}

    def _moved(self, webhook: int, more: int) -> None:
        """So many more are pending of this webhook. What came before the count is in it."""
        sizes = self._sizes
        if sizes is not None and more:
            sizes[webhook] = sizes.get(webhook, 0) + more

    def _grown(self, stored: Sequence[Callback]) -> None:
        for each in stored:
            self._moved(each.webhook_id, 1)

    def _gone(self, cancelled: Sequence[tuple[int, int]]) -> None:
        for webhook, count in cancelled:
            self._cancelled += count
            self._moved(webhook, -count)

    async def close(self) -> None:
        """Commit what is queued, within 3 s, then close and release the lock; idempotent.

        What cannot be stored any more fails for its callers with StoreError.
        """
        if self._closing is None:
            self._writer.stop()
            self._closing = asyncio.create_task(self._end(), name="store-close")
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        if not await asyncio.to_thread(self._writer.join, _CLOSE_SECONDS):
            # The thread goes on, and keeps the lock, until it is done or the process ends.
            log.error("store.close_hangs", seconds=_CLOSE_SECONDS, hint="is the disk hanging?")

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._submit(question, writes=False)

    def _change(
        self, change: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        return self._submit(change, writes=True, then=then)

    def _submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        writes: bool,
        then: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closing is not None:
            future.set_exception(StoreError("the store is closed: the agent is stopping"))
        elif writes and self._unstored >= self._max_unstored:
            self._drop()
            future.set_exception(
                StoreError(
                    f"{self._unstored} changes wait to be stored, no more are kept in memory:"
                    f" {self.health.error or 'the disk is too slow'}"
                )
            )
        else:
            self._unstored += writes
            self._writer.put(Job(work, future, writes, then))
        return future

    def _drop(self) -> None:
        self._dropped += 1
        now = time.monotonic()
        if now >= self._drop_log_at:
            self._drop_log_at = now + _LOG_EVERY
            log.error(
                "store.change_dropped",
                dropped=self._dropped,
                kept_in_memory=self._unstored,
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
            self._unstored -= job.writes
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
            if health.recovered_from != self._told.recovered_from:
                self._sizes = None  # what was saved of the file is to be counted anew
            self._told = health
            self._on_health(health)


async def _result(future: asyncio.Future[T]) -> T:
    return await future


def _heard(future: asyncio.Future[Any]) -> None:
    """An error nobody waited for is no bug to be logged."""
    if not future.cancelled():
        future.exception()
