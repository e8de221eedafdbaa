"""Silences: their timer, the store, and who is told. What they mean stands in `silence_book`.

A silence that is added counts at once, and one that is ended no more; the store is told before
anything that follows from it, so whatever happens in between a restart knows what counted. One ends
by the wall clock, which is what its end was named by: set forward it ends sooner, set back later.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from agent.clock import timestamp
from agent.errors import BusyError, StoreError
from agent.model import Silence
from agent.track.silence_book import MOST, SilenceBook, check
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.clock import Clock, Timer
    from agent.model import Device, SilenceKind

log = structlog.get_logger(__name__)

LOOK = 30.0
"""Seconds after which the wall clock is looked at anew: somebody may have set it."""
STORE_LIMIT = 2.0
"""Seconds that a request waits for the store; a silence counts at once all the same."""


class SilenceStore(Protocol):
    """What is needed of the store."""

    def put(self, silence: Silence) -> Awaitable[None]:
        """Insert or replace; queued by the call, resolves when durable."""

    def delete(self, silence_id: str) -> Awaitable[None]:
        """Remove; likewise."""


class Silences:
    """All silences. All methods run on the event loop's thread.

    Args:
        stored: as the store has them at the start.
        store: keeps them across restarts.
        clock: of the process.
        changed: called whenever a silence began or ended: it is to publish that alone.
    """

    def __init__(
        self,
        stored: Iterable[Silence],
        store: SilenceStore,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._book = SilenceBook(stored)
        self._store = store
        self._clock = clock
        self._changed = changed
        self._changes: list[Silence] = []
        self._timer: Timer | None = None
        self._writes: set[asyncio.Future[None]] = set()
        self._stopped = False

    def begin(self) -> None:
        """End those whose end came while no agent ran, and the others in time."""
        self._expire()

    def all(self) -> list[Silence]:
        """Those in force, oldest first."""
        now_ms = self._clock.wall_ms()
        return [silence for silence in self._book.all() if silence.ends_ms > now_ms]

    @property
    def now_ms(self) -> int:
        """By the clock that they end by."""
        return self._clock.wall_ms()

    @property
    def count(self) -> int:
        """How many are in force."""
        now_ms = self._clock.wall_ms()
        return sum(silence.ends_ms > now_ms for silence in self._book.all())

    def of(self, device: Device) -> Silence | None:
        """The one that keeps back what is told of the device now: of several the longest."""
        return self._book.of(device, self._clock.wall_ms()) if len(self._book) else None

    async def add(
        self, kind: SilenceKind, value: str, reason: str, ends_ms: int, by: str, id_: str = ""
    ) -> Silence:
        """Keep back what would be told of these devices, until then.

        Args:
            kind: what the value names; see `SilenceKind`.
            value: a UDID, a tag, a platform, a hub's port path; "" for all.
            reason: for those who miss a callback.
            ends_ms: wall clock.
            by: who wants it, for operators.
            id_: of its own, where a fleet's hub gave it one for all hosts; where there is one of
                that id already, that one is it. "": it gets one here.

        Raises:
            SilenceError: see `silence_book.check`.
            BusyError: there are too many.
            StoreError: the store refused it: it counts no more.
        """
        if id_ in self._book:
            return self._book.get(id_)
        now_ms = self._clock.wall_ms()
        value, reason = check(kind, value, reason, ends_ms, now_ms)
        if len(self._book) >= MOST:
            raise BusyError(f"there are {MOST} silences already: end some, or silence a hub or tag")
        silence = Silence(id_ or self._new_id(), kind, value, reason, by, now_ms, ends_ms)
        stored = self._write(self._store.put(silence), silence)
        self._book.add(silence)
        self._changes.append(silence)
        self._arm()
        self._changed()
        say(
            log.info,
            "silence.begun",
            id=silence.id,
            kind=str(kind),
            value=value,
            ends=timestamp(ends_ms),
            reason=reason,
            by=by,
        )
        try:
            await self._durable(stored, silence)
        except StoreError:
            if silence.id in self._book:
                self._drop(silence, "the store refused it")
            raise
        return silence

    async def end(self, silence_id: str, by: str) -> Silence:
        """End one before its time; what it kept back is told from now on.

        Raises:
            UnknownSilenceError: it has ended already, or never was.
            StoreError: the store refused it: a restart may know it still.
        """
        silence = self._book.get(silence_id)
        deleted = self._end(silence, f"{by or 'somebody'} ended it")
        say(log.info, "silence.ended", id=silence.id, reason=silence.reason, by=by)
        await self._durable(deleted, silence)
        return silence

    def take_changes(self) -> SilenceBook:
        """Those that began or ended since this was last asked."""
        changes, self._changes = self._changes, []
        return SilenceBook(changes)

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on."""
        for silence in self._book.rename(old, new):
            self._write(self._store.put(silence), silence)

    def store_again(self) -> None:
        """Store every silence anew: the store was made anew, and may not know it."""
        for silence in self._book.all():
            self._write(self._store.put(silence), silence)

    def stop(self) -> None:
        """End nothing more: the agent stops. What is over by the next start ends then."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    # --- inside ----------------------------------------------------------------------------

    def _new_id(self) -> str:
        while (id_ := secrets.token_hex(4)) in self._book:
            pass
        return id_

    def _expire(self) -> None:
        for silence in self._book.over(self._clock.wall_ms()):
            self._end(silence, f"it ended at {timestamp(silence.ends_ms)}")
            say(log.info, "silence.over", id=silence.id, reason=silence.reason, by=silence.by)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_ms = self._book.next_end_ms()
        if next_ms is not None and not self._stopped:
            left = (next_ms - self._clock.wall_ms()) / 1000
            self._timer = self._clock.call_later(min(max(left, 0.001), LOOK), self._expire)

    def _end(self, silence: Silence, why: str) -> asyncio.Future[None]:
        # The store first: what is told because it ended must not be stored before its end is.
        deleted = self._write(self._store.delete(silence.id), silence)
        self._drop(silence, why)
        return deleted

    def _drop(self, silence: Silence, why: str) -> None:
        self._book.remove(silence.id, why)
        self._changes.append(silence)
        self._arm()
        self._changed()

    async def _durable(self, write: asyncio.Future[None], silence: Silence) -> None:
        """Wait for the store, but without letting a disk that hangs keep anybody from it."""
        done, _ = await asyncio.wait({write}, timeout=STORE_LIMIT)
        if done:
            write.result()
        else:
            why = f"the store took over {STORE_LIMIT} s"
            say(log.error, "silence.not_stored", id=silence.id, error=why)

    def _write(self, work: Awaitable[None], silence: Silence) -> asyncio.Future[None]:
        write = asyncio.ensure_future(work)
        self._writes.add(write)
        write.add_done_callback(partial(self._written, silence))
        return write

    def _written(self, silence: Silence, write: asyncio.Future[None]) -> None:
        self._writes.discard(write)
        error = None if write.cancelled() else write.exception()
        if error is not None:
            say(log.error, "silence.not_stored", id=silence.id, error=str(error))
