"""Leases: the exact usage source. Who holds a device, for how long, and what happens when they go.

Which leases there are stands in the book (`lease_book`), whose turn it is in the queue
(`lease_queue`, by way of the `allocator`). This is the I/O around them: timers, the store, and who
is told.

Leases are stored, so an agent that restarts knows them; each gets one full TTL from the start,
because its holder could not renew while the agent was away. What ends or begins is given to the
store first, then entered into the book, then told: whatever happens in between, a restart knows no
lease that has ended.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.errors import LeasesOffError
from agent.model import Lease
from agent.usage.allocator import OFF, Allocator
from agent.usage.lease_book import LeaseBook, check, lasting, newest
from agent.usage.lease_writer import STORE_LIMIT, LeaseWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.clock import Clock, Timer
    from agent.config import UsageSection
    from agent.model import UsageReading
    from agent.usage.lease_queue import Candidate, Wish
    from agent.usage.lease_writer import LeaseStore

log = structlog.get_logger(__name__)


class Leases:
    """All leases, at most one per device.

    Args:
        store: keeps them across restarts.
        changed: called with a device whose `reading` may be another one now; it must not look at
            once, but in a later turn of the loop (`agent.subscribers`).
        candidates: all devices as they stand now.
        candidate: one of them; None: there is no such device.
        clock: of the process.
    """

    def __init__(
        self,
        store: LeaseStore,
        changed: Callable[[str], None],
        *,
        candidates: Callable[[], Iterable[Candidate]],
        candidate: Callable[[str], Candidate | None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._changed = changed
        self._clock = clock
        self._book = LeaseBook()
        self._devices = Allocator(
            self._book, candidates=candidates, candidate=candidate, clock=clock
        )
        self._writer = LeaseWriter(store)
        self._timers = _Timers(clock, self._expire)
        self._watched: dict[str, asyncio.Future[str]] = {}
        self._on = True

    async def load(self) -> None:
        """Take up the stored leases; each lasts one TTL from now unless renewed."""
        leases, others = newest(await self._store.all())
        for lease in others:
            self._writer.delete(lease)
        for lease in leases:
            self._book.begin(lasting(lease, self._clock.wall_ms()))
            self._timers.set(lease.id, lease.ttl)
            self._changed(lease.udid)

    def reconfigure(self, settings: UsageSection) -> None:
        """Give leases, or give none: those in force end, and nobody waits any longer."""
        self._on = settings.leases
        if self._on:
            self.serve()  # a configuration came: which device fits whom may have changed
            return
        self._devices.turn_away()
        for lease in self.all():
            log.warning("lease.turned_off", udid=lease.udid, holder=lease.holder)
            self._end(lease, OFF)

    def all(self) -> list[Lease]:
        """The leases in force, oldest first."""
        return self._book.all()

    def of(self, udid: str) -> Lease | None:
        """The lease in force on that device."""
        return self._book.of(udid)

    def reading(self, udid: str) -> UsageReading:
        """What a device's lease says of its usage; idle: it has none."""
        return self._book.reading(udid)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._devices.waiting

    async def acquire(
        self,
        wish: Wish,
        holder: str,
        purpose: str,
        ttl: float,
        *,
        wait: float = 0.0,
        steal: str = "",
        caller: str = "",
    ) -> Lease:
        """Give a device to the holder, within `wait` seconds; `caller` is for the log.

        With `steal`, a reason, a device that is asked for by name is taken from whoever has it.
        A cancelled call has left the queue, and holds nothing.

        Raises:
            DeviceHeldError: it was not free in time; the message says who has it, since when, why.
            UnknownDeviceError: no device fits.
            QueueFullError: too many wait.
            LeasesOffError: none are given (any more).
            UnknownLeaseError: it was taken before its holder could be told.
            LeaseError: no holder's name, or a number out of bounds.
        """
        if not self._on:
            raise LeasesOffError(OFF)
        purpose = " ".join(purpose.split())  # a command may have several lines
        steal = " ".join(steal.split())
        check(holder, purpose + steal, ttl, wait)
        taken = ""
        if steal and wish.udid:
            udid = wish.udid
            taken = self._take(udid, holder, steal, caller)
        else:
            udid = await self._devices.allocate(wish, wait)
        # Without a pause since it was allocated.
        now = self._clock.wall_ms()
        expires = now + int(ttl * 1000)
        id_ = secrets.token_hex(8)
        return await self._give(Lease(id_, udid, holder, purpose, now, ttl, expires, taken), caller)

    def serve(self, udid: str = "") -> None:
        """A device may have become free, or ("") any of them: give it to who waits."""
        self._devices.serve(udid)

    async def ended(self, lease_id: str, limit: float) -> str | None:
        """Why the lease ended; None: it is still in force after `limit` seconds."""
        if lease_id not in self._book:
            return self._book.why_ended(lease_id)
        watched = self._watched.setdefault(lease_id, asyncio.get_running_loop().create_future())
        await asyncio.wait({watched}, timeout=limit)
        return watched.result() if watched.done() else None  # it may end in that very instant

    async def renew(self, lease_id: str) -> Lease:
        """Let it last another TTL from now.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        renewed = self._book.renew(lease_id, self._clock.wall_ms())
        if not self._book.is_tied(lease_id):
            self._timers.set(lease_id, renewed.ttl)
        return renewed

    def tie(self, lease_id: str) -> Lease:
        """Let it last as long as a connection does, which is to `untie` it.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        renewed = self._book.tie(lease_id, self._clock.wall_ms())
        self._timers.cancel(lease_id)
        return renewed

    async def untie(self, lease_id: str, *, stopping: bool = False) -> None:
        """A connection ended: with the last one the lease does, if it has not ended yet.

        Stopping: it is the agent that leaves, not the holder; the lease stays.
        """
        if lease_id not in self._book or not self._book.untie(lease_id):
            return
        if stopping:
            await self.renew(lease_id)
        else:
            await self.release(lease_id, "its holder's connection ended")

    async def release(self, lease_id: str, why: str = "it was released", caller: str = "") -> Lease:
        """End it; `why` is told to who asks for it later, `caller` is for the log.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        lease = self._book.get(lease_id)
        log.info("lease.released", udid=lease.udid, holder=lease.holder, reason=why, caller=caller)
        await self._writer.stored(self._end(lease, why), lease)
        return lease

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; its usage has gone over to that one."""
        moved = self._book.rename(old, new)
        holding = self._book.of(new)
        if moved is not None and holding is not None:
            if moved.id == holding.id:
                self._writer.put(moved)
            else:
                self._end(moved, f"its phone is {new} now, which {holding.holder} holds")
        self._devices.rename(old, new)
        self._changed(new)  # of the old name something may not have been told yet

    def freeze(self) -> None:
        """The agent begins to stop: nothing ends by time any more, for nobody can renew it."""
        self._timers.freeze()

    async def close(self, limit: float = STORE_LIMIT) -> None:
        """Stop the timers, give the store `limit` seconds; the leases stay stored."""
        self.freeze()
        self._devices.close()
        await self._writer.close(limit)

    # --- beginning and ending --------------------------------------------------------------

    def _take(self, udid: str, holder: str, reason: str, caller: str) -> str:
        """Take it from whoever has it; from whom, and why. "": it was free."""
        self._devices.take(udid)
        lease = self._book.of(udid)
        if lease is None:
            return ""
        log.warning(
            "lease.taken", udid=udid, holder=lease.holder, by=holder, reason=reason, caller=caller
        )
        self._end(lease, f"it was taken by {holder}: {reason}")
        return f"{lease.holder}: {reason}"

    async def _give(self, lease: Lease, caller: str) -> Lease:
        put = self._writer.put(lease)
        # Its TTL counts from when its holder is told: a slow disk must not use it up. So it is tied
        # to the store meanwhile.
        self._book.give(lease)
        self._changed(lease.udid)
        try:
            log.info(
                "lease.acquired",
                udid=lease.udid,
                holder=lease.holder,
                purpose=lease.purpose,
                ttl=lease.ttl,
                caller=caller,
            )
            await self._writer.stored(put, lease)
        except BaseException:
            if lease.id in self._book:
                held = self._book.get(lease.id)
                self._end(held, "its holder went away before it was told")
            raise
        if lease.id in self._book:
            self._book.untie(lease.id)
        elif not self._on:
            raise LeasesOffError(OFF)
        return await self.renew(lease.id)

    def _end(self, lease: Lease, why: str) -> asyncio.Future[None]:
        """End it everywhere; the task is done when the store knows."""
        # Before anybody hears of it, and may fail: what ended must not come back at a restart.
        deleted = self._writer.delete(lease)
        self._book.end(lease.id, why)
        self._timers.cancel(lease.id)
        watched = self._watched.pop(lease.id, None)
        if watched is not None and not watched.done():
            watched.set_result(why)
        self.serve(lease.udid)
        self._changed(lease.udid)
        return deleted

    def _expire(self, lease_id: str) -> None:
        longer = self._book.second_chance(lease_id, self._clock.wall_ms())
        if longer:
            self._timers.set(lease_id, longer)
            return
        lease = self._book.get(lease_id)
        why = f"nobody renewed it for {lease.ttl:g} s"
        log.warning("lease.expired", udid=lease.udid, holder=lease.holder, hint=why)
        self._end(lease, why)


class _Timers:
    """One for each lease that has a TTL now."""

    def __init__(self, clock: Clock, expire: Callable[[str], None]) -> None:
        self._clock = clock
        self._expire = expire
        self._timers: dict[str, Timer] = {}
        self._frozen = False

    def set(self, lease_id: str, seconds: float) -> None:
        """Anew, in place of the one that it has."""
        self.cancel(lease_id)
        if not self._frozen:
            self._timers[lease_id] = self._clock.call_later(seconds, partial(self._fire, lease_id))

    def cancel(self, lease_id: str) -> None:
        """It has none now."""
        if (timer := self._timers.pop(lease_id, None)) is not None:
            timer.cancel()

    def freeze(self) -> None:
        """None fires any more, and none is set."""
        self._frozen = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, lease_id: str) -> None:
        del self._timers[lease_id]
        self._expire(lease_id)
