"""Leases: the exact usage source. Who holds a device, for how long, and what happens when they go.

A lease ends when it is released, when nobody renewed it for its TTL, or when somebody takes it with
a reason. One that is tied to a connection has no TTL meanwhile, and ends with the last of its
connections: an agent that stands still for a while must not take it for abandoned. Leases are
stored, so an agent that restarts knows them; each gets one full TTL from the start, because its
holder could not renew while the agent was away. Who waits is served strictly in the order of
asking, among those whom the device fits.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from agent.errors import (
    DeviceHeldError,
    LeaseError,
    LeasesOffError,
    QueueFullError,
    StoreError,
    UnknownDeviceError,
    UnknownLeaseError,
)
from agent.model import Lease, Usage, UsageReading
from agent.usage.lease_queue import Candidate, Wish, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

log = structlog.get_logger(__name__)

MIN_TTL, MAX_TTL = 1.0, 86_400.0
"""Seconds. Shorter ones end by a hiccup of their holder, longer ones outlive what they are for."""
MAX_WAIT = 86_400.0
"""Seconds."""
MAX_WAITING = 1000
"""Requests in the queue."""
OFF = "leases are turned off: see leases in [usage] of the agent's configuration"
REMEMBERED = 1000
"""Ends of leases that are told to who asks for them later."""
STORE_LIMIT = 2.0
"""Seconds that a request waits for the store; a lease counts at once all the same."""


class LeaseStore(Protocol):
    """What leases need of the store."""

    async def leases(self) -> list[Lease]:
        """All that are stored."""

    async def put_lease(self, lease: Lease) -> None:
        """Insert or replace; resolves when durable."""

    async def delete_lease(self, lease_id: str) -> None:
        """Remove; resolves when durable."""


@dataclass(eq=False, slots=True)
class _Waiting:
    wish: Wish
    turn: asyncio.Future[None]
    given: str = ""
    """The device that is kept for it until it takes it."""


class Leases:
    """All leases, at most one per device.

    Args:
        store: keeps them across restarts.
        changed: told a device's usage whenever that changes.
        wall_ms: wall clock, milliseconds.
        call_later: the loop's timer.
        candidates: all devices as they stand now.
    """

    def __init__(
        self,
        store: LeaseStore,
        changed: Callable[[str, UsageReading], None],
        *,
        candidates: Callable[[], Iterable[Candidate]] = tuple,
        wall_ms: Callable[[], int],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self._store = store
        self._changed = changed
        self._wall_ms = wall_ms
        self._call_later = call_later
        self._leases: dict[str, Lease] = {}
        self._of_device: dict[str, str] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._candidates = candidates
        self._used_ms: dict[str, int] = {}
        self._queue: dict[_Waiting, None] = {}
        self._ends: dict[str, str] = {}
        self._watched: dict[str, asyncio.Future[str]] = {}
        self._on = True
        self._ties: Counter[str] = Counter()
        """How many keep a lease from its TTL: its connections, or the store that takes it."""

    async def load(self) -> None:
        """Take up the stored leases; each lasts one TTL from now unless renewed."""
        for lease in await self._store.leases():
            self._hold(self._renewed(lease))

    def turn(self, *, on: bool) -> None:
        """Give leases, or give none: those in force end, and nobody waits any longer."""
        self._on = on
        if on:
            return
        for waiting in self._queue:
            if not waiting.turn.done():
                waiting.turn.set_exception(LeasesOffError(OFF))
        for lease in self.all():
            log.warning("lease.turned_off", udid=lease.udid, holder=lease.holder)
            self._end(lease, OFF)
            self._spawn(self._keep(self._store.delete_lease(lease.id), lease))

    def all(self) -> list[Lease]:
        """The leases in force, oldest first."""
        return sorted(self._leases.values(), key=lambda lease: lease.acquired_ms)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

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
        A cancelled call has left the queue.

        Raises:
            DeviceHeldError: it was not free in time; the message says who has it, since when, why.
            UnknownDeviceError: no device fits.
            QueueFullError: too many wait.
            LeasesOffError: none are given.
            UnknownLeaseError: it was taken before its holder could be told.
            LeaseError: no holder's name, or a number out of bounds.
        """
        if not self._on:
            raise LeasesOffError(OFF)
        purpose = " ".join(purpose.split())  # a command may have several lines
        steal = " ".join(steal.split())
        _check(holder, purpose + steal, ttl, wait)
        known = list(self._candidates())
        if not wish.udid and not any(wish.fits(candidate) for candidate in known):
            raise UnknownDeviceError(f"{wish}: no device fits; `device-agent devices` lists them")
        if steal and wish.udid in self._of_device:
            taken = await self._take(wish.udid, holder, steal, caller)
            return await self._give(wish.udid, holder, purpose, ttl, caller, taken)
        away = {*self._of_device, *(waiting.given for waiting in self._queue)}
        udid = choose(wish, known, away, self._used_ms)
        if udid is None and wish.udid and wish.udid not in away:
            udid = wish.udid
        if udid is None:
            udid = await self._wait(wish, wait)
        return await self._give(udid, holder, purpose, ttl, caller)

    def serve(self) -> None:
        """Give what is free to who waits: a lease ended, or a device changed."""
        if not self._queue:
            return
        known = list(self._candidates())
        taken = {waiting.given for waiting in self._queue if waiting.given}
        for waiting in list(self._queue):
            if waiting.given or waiting.turn.done():
                continue
            udid = choose(waiting.wish, known, {*self._of_device, *taken}, self._used_ms)
            if udid is not None:
                waiting.given = udid
                taken.add(udid)
                waiting.turn.set_result(None)

    def place(self, wish: Wish) -> int:
        """How many wait already that any device of that wish might go to."""
        return sum(waiting.wish.udid in {"", wish.udid} or not wish.udid for waiting in self._queue)

    async def ended(self, lease_id: str, limit: float) -> str | None:
        """Why the lease ended; None: it is still in force after `limit` seconds."""
        if lease_id not in self._leases:
            return self._ends.get(lease_id, "it was released")
        watched = self._watched.setdefault(lease_id, asyncio.get_running_loop().create_future())
        await asyncio.wait({watched}, timeout=limit)
        return watched.result() if watched.done() else None  # it may end in that very instant

    async def renew(self, lease_id: str) -> Lease:
        """Let it last another TTL from now.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        renewed = self._renewed(self._get(lease_id))
        self._hold(renewed)
        return renewed

    def tie(self, lease_id: str) -> Lease:
        """Let it last as long as a connection does, which is to `untie` it.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        lease = self._get(lease_id)
        self._ties[lease_id] += 1
        self._hold(self._renewed(lease))
        return self._leases[lease_id]

    async def untie(self, lease_id: str, *, stopping: bool = False) -> None:
        """A connection ended: with the last one the lease does, if it has not ended yet.

        Stopping: it is the agent that leaves, not the holder; the lease stays.
        """
        if lease_id not in self._leases:
            return
        if not self._loosen(lease_id):
            return
        if stopping:
            self._hold(self._renewed(self._leases[lease_id]))
        else:
            await self.release(lease_id, "its holder's connection ended")

    async def release(self, lease_id: str, why: str = "it was released", caller: str = "") -> Lease:
        """End it; `why` is told to who asks for it later, `caller` is for the log.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        lease = self._get(lease_id)
        self._end(lease, why)
        log.info("lease.released", udid=lease.udid, holder=lease.holder, reason=why, caller=caller)
        await self._keep(self._store.delete_lease(lease.id), lease)
        return lease

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; its usage has gone over to that one."""
        if old in self._used_ms:
            self._used_ms[new] = self._used_ms.pop(old)
        for waiting in self._queue:
            if waiting.wish.udid == old:
                waiting.wish = replace(waiting.wish, udid=new)
            if waiting.given == old:
                waiting.given = new
        if old in self._of_device:
            lease_id = self._of_device[new] = self._of_device.pop(old)
            lease = self._leases[lease_id] = replace(self._leases[lease_id], udid=new)
            self._spawn(self._keep(self._store.put_lease(lease), lease))

    async def close(self, limit: float = STORE_LIMIT) -> None:
        """Stop the timers, give the store `limit` seconds; the leases stay stored."""
        for timer in self._timers.values():
            timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)

    def _renewed(self, lease: Lease) -> Lease:
        return replace(lease, expires_ms=self._wall_ms() + int(lease.ttl * 1000))

    def _get(self, lease_id: str) -> Lease:
        try:
            return self._leases[lease_id]
        except KeyError:
            why = self._ends.get(lease_id, "it was released, or its time ran out")
            raise UnknownLeaseError(f"no lease {lease_id!r}: {why}") from None

    async def _wait(self, wish: Wish, limit: float) -> str:
        """The UDID that is ours now; it is kept for us until the caller gives it."""
        if limit <= 0:
            raise DeviceHeldError(self._held_words(wish))
        if len(self._queue) >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} requests wait for devices already")
        waiting = _Waiting(wish, asyncio.get_running_loop().create_future())
        self._queue[waiting] = None
        log.info("lease.waiting", wish=str(wish), limit=limit)
        try:
            async with asyncio.timeout(limit):
                await waiting.turn
                if not self._on:
                    raise LeasesOffError(OFF)
                return waiting.given
        except TimeoutError:
            raise DeviceHeldError(f"waited {limit:g} s: {self._held_words(wish)}") from None
        finally:
            del self._queue[waiting]
            if waiting.given and sys.exception() is not None:
                self.serve()  # it came too late for us: the next one's

    def _held_words(self, wish: Wish) -> str:
        if wish.udid:
            return self._held_by(wish.udid)
        fitting = [each for each in self._candidates() if wish.fits(each)]
        held = [self._held_by(each.udid) for each in fitting if each.udid in self._of_device]
        words = "; ".join(held[:5]) or "none of them is online and unused"
        return f"{wish}: of {len(fitting)} that fit none is free: {words}"

    def _held_by(self, udid: str) -> str:
        if udid not in self._of_device:
            return f"{udid} was given this moment to who waited for it"
        other = self._leases[self._of_device[udid]]
        age = max(0, self._wall_ms() - other.acquired_ms) // 1000
        what = f" ({other.purpose})" if other.purpose else ""
        return f"{udid} is held by {other.holder}{what} for {age} s"

    async def _take(self, udid: str, holder: str, reason: str, caller: str) -> str:
        lease = self._leases[self._of_device[udid]]
        log.warning(
            "lease.taken", udid=udid, holder=lease.holder, by=holder, reason=reason, caller=caller
        )
        self._end(lease, f"it was taken by {holder}: {reason}", last=False)
        self._spawn(self._keep(self._store.delete_lease(lease.id), lease))
        return f"{lease.holder}: {reason}"

    async def _give(
        self, udid: str, holder: str, purpose: str, ttl: float, caller: str, taken: str = ""
    ) -> Lease:
        now = self._wall_ms()
        lease = Lease(
            id=secrets.token_hex(8),
            udid=udid,
            holder=holder,
            purpose=purpose,
            acquired_ms=now,
            ttl=ttl,
            expires_ms=now + int(ttl * 1000),
            taken=taken,
        )
        self._used_ms[udid] = now
        # Its TTL counts from when its holder is told: a slow disk must not use it up.
        self._ties[lease.id] = 1
        self._hold(lease)
        log.info(
            "lease.acquired", udid=udid, holder=holder, purpose=purpose, ttl=ttl, caller=caller
        )
        try:
            await self._keep(self._store.put_lease(lease), lease)
        except asyncio.CancelledError:
            if lease.id in self._leases:
                self._end(lease, "its holder went away before it was told")
                self._spawn(self._keep(self._store.delete_lease(lease.id), lease))
            raise
        if lease.id in self._leases:
            self._loosen(lease.id)
        return await self.renew(lease.id)

    def _loosen(self, lease_id: str) -> bool:
        """One tie fewer; whether none is left."""
        self._ties[lease_id] -= 1
        if self._ties[lease_id]:
            return False
        del self._ties[lease_id]
        return True

    def _hold(self, lease: Lease) -> None:
        fresh = lease.id not in self._leases
        self._leases[lease.id] = lease
        self._of_device[lease.udid] = lease.id
        if (timer := self._timers.pop(lease.id, None)) is not None:
            timer.cancel()
        if lease.id not in self._ties:
            self._timers[lease.id] = self._call_later(lease.ttl, lambda: self._expire(lease.id))
        if fresh:
            holder = f"{lease.holder} ({lease.purpose})" if lease.purpose else lease.holder
            if lease.taken:
                holder += f", taken from {lease.taken}"
            self._changed(
                lease.udid, UsageReading(Usage.IN_USE, holder, since_ms=lease.acquired_ms)
            )

    def _end(self, lease: Lease, why: str, *, last: bool = True) -> None:
        """Last: nobody has the device from now on."""
        del self._leases[lease.id]
        del self._of_device[lease.udid]
        if (timer := self._timers.pop(lease.id, None)) is not None:
            timer.cancel()
        self._ties.pop(lease.id, None)
        self._ends[lease.id] = why
        if len(self._ends) > REMEMBERED:
            del self._ends[next(iter(self._ends))]
        watched = self._watched.pop(lease.id, None)
        if watched is not None and not watched.done():
            watched.set_result(why)
        if last:
            self._changed(lease.udid, UsageReading(Usage.IDLE))
            self.serve()

    def _expire(self, lease_id: str) -> None:
        lease = self._leases[lease_id]
        why = f"nobody renewed it for {lease.ttl:g} s"
        log.warning("lease.expired", udid=lease.udid, holder=lease.holder, hint=why)
        self._end(lease, why)
        self._spawn(self._keep(self._store.delete_lease(lease.id), lease))

    async def _keep(self, work: Coroutine[None, None, None], lease: Lease) -> None:
        """Write through, without letting a failing disk keep anybody from a phone."""
        task = self._spawn(work)
        done, _ = await asyncio.wait({task}, timeout=STORE_LIMIT)
        error = task.exception() if done else TimeoutError(f"the store took over {STORE_LIMIT} s")
        if error is not None and not isinstance(error, StoreError | TimeoutError):
            raise error
        if error is not None:
            log.error("lease.not_stored", udid=lease.udid, holder=lease.holder, error=str(error))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _check(holder: str, text: str, ttl: float, wait: float) -> None:
    if not holder.strip():
        raise LeaseError("a lease needs its holder's name")
    if not (holder + text).isprintable():
        raise LeaseError("a lease's holder and purpose are text without control characters")
    if not MIN_TTL <= ttl <= MAX_TTL:
        raise LeaseError(f"a lease's ttl is {MIN_TTL:.0f} to {MAX_TTL:.0f} seconds, not {ttl:g}")
    if not 0 <= wait <= MAX_WAIT:
        raise LeaseError(f"a lease is waited for 0 to {MAX_WAIT:.0f} seconds, not {wait:g}")
