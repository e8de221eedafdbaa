"""Leases: the exact usage source. Who holds a device, for how long, and what happens when they go.

A lease ends when it is released, when nobody renewed it for its TTL, or when somebody takes it with
a reason. One that is tied to a connection has no TTL meanwhile, and ends with the last of its
connections: an agent that stands still for a while must not take it for abandoned. Leases are
stored, so an agent that restarts knows them; each gets one full TTL from the start, because its
holder could not renew while the agent was away. Who waits is served strictly in the order of
asking, among those whom the device fits.

What ends or begins is given to the store first, then kept in memory, then told: whatever happens in
between, a restart knows no lease that has ended. Who waits may be cancelled, time out or be turned
away in the very turn of the loop in which a device becomes free. So it is only *kept* for them at
first, and is theirs when they take it; and who waits is served once in a turn, by looking at the
devices that changed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from agent.errors import (
    DeviceHeldError,
    LeaseError,
    LeasesOffError,
    QueueFullError,
    UnknownDeviceError,
    UnknownLeaseError,
)
from agent.model import Lease, Usage, UsageReading
from agent.usage.lease_queue import Candidate, Offer, Wish, choose

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
LATE, SECOND_CHANCE = 1.0, 5.0
"""Seconds. A TTL that is looked at so late ran out while the agent stood still: its renewal may
wait in a socket, and gets so much longer to be read."""


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
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Something below has changed."""
    given: str = ""
    """The device that is kept for it until it takes it."""
    off: bool = False
    """Leases were turned off while it waited."""


class Leases:
    """All leases, at most one per device.

    Args:
        store: keeps them across restarts.
        changed: told a device's usage whenever that changes.
        candidates: all devices as they stand now.
        candidate: one of them, or None; by default it is looked for among all.
        wall_ms: wall clock, milliseconds.
        call_later: the loop's timer.
    """

    def __init__(
        self,
        store: LeaseStore,
        changed: Callable[[str, UsageReading], None],
        *,
        candidates: Callable[[], Iterable[Candidate]] = tuple,
        candidate: Callable[[str], Candidate | None] | None = None,
        wall_ms: Callable[[], int],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self._store = store
        self._changed = changed
        self._wall_ms = wall_ms
        self._call_later = call_later
        self._candidates = candidates
        self._candidate = candidate or self._among_all
        self._leases: dict[str, Lease] = {}
        self._of_device: dict[str, str] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._used_ms: dict[str, int] = {}
        self._queue: dict[_Waiting, None] = {}
        self._kept: dict[str, _Waiting] = {}
        """Devices that were given to who waited, and are not taken yet."""
        self._freed: set[str] = set()
        """Devices that may be free for who waits; looked at in the loop's next turn."""
        self._all_freed = False
        self._serving: asyncio.Handle | None = None
        self._ends: dict[str, str] = {}
        self._watched: dict[str, asyncio.Future[str]] = {}
        self._on = True
        self._frozen = False
        self._ties: Counter[str] = Counter()
        """How many keep a lease from its TTL: its connections, or the store that takes it."""

    async def load(self) -> None:
        """Take up the stored leases; each lasts one TTL from now unless renewed."""
        newest: dict[str, Lease] = {}
        for lease in await self._store.leases():
            older = newest.get(lease.udid)
            if older is not None:  # by a fault, long ago: a device has one lease
                self._write(self._store.delete_lease(older.id), older)
            newest[lease.udid] = lease
        for lease in newest.values():
            self._begin(self._renewed(lease))

    def turn(self, *, on: bool) -> None:
        """Give leases, or give none: those in force end, and nobody waits any longer."""
        self._on = on
        if on:
            self.serve()  # a configuration came: which device fits whom may have changed
            return
        self._kept.clear()
        for waiting in self._queue:
            waiting.given, waiting.off = "", True
            waiting.news.set()
        for lease in self.all():
            log.warning("lease.turned_off", udid=lease.udid, holder=lease.holder)
            self._end(lease.id, OFF)

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
        _check(holder, purpose + steal, ttl, wait)
        if self._serving is not None:
            self._serve()  # nobody overtakes those who wait
        if steal and wish.udid:
            taken = self._take(wish.udid, holder, steal, caller)
            return await self._give(wish.udid, holder, purpose, ttl, caller, taken)
        udid = self._choose(wish)
        if udid is None:
            udid = await self._wait(wish, wait)
        return await self._give(udid, holder, purpose, ttl, caller)

    def serve(self, udid: str = "") -> None:
        """A device may have become free, or ("") any of them: give it to who waits.

        Done once in the loop's next turn, whatever comes until then: a whole rack that comes back
        is looked at once.
        """
        if not self._queue or not self._on:
            return
        if udid:
            self._freed.add(udid)
        else:
            self._all_freed = True
        if self._serving is None:
            self._serving = asyncio.get_running_loop().call_soon(self._serve)

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
        renewed = self._leases[lease_id] = self._renewed(self._get(lease_id))
        self._arm(renewed, renewed.ttl)
        return renewed

    def tie(self, lease_id: str) -> Lease:
        """Let it last as long as a connection does, which is to `untie` it.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        renewed = self._leases[lease_id] = self._renewed(self._get(lease_id))
        self._ties[lease_id] += 1
        self._arm(renewed, renewed.ttl)
        return renewed

    async def untie(self, lease_id: str, *, stopping: bool = False) -> None:
        """A connection ended: with the last one the lease does, if it has not ended yet.

        Stopping: it is the agent that leaves, not the holder; the lease stays.
        """
        if lease_id not in self._leases:
            return
        if not self._loosen(lease_id):
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
        lease = self._get(lease_id)
        log.info("lease.released", udid=lease.udid, holder=lease.holder, reason=why, caller=caller)
        await self._stored(self._end(lease_id, why), lease)
        return lease

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; its usage has gone over to that one."""
        if old in self._used_ms:
            self._used_ms[new] = self._used_ms.pop(old)
        for waiting in self._queue:
            if waiting.wish.udid == old:
                waiting.wish = replace(waiting.wish, udid=new)
        kept = self._kept.pop(old, None)
        if kept is not None:
            kept.given = "" if self._is_taken(new) else new
            if kept.given:
                self._kept[new] = kept
        if old in self._of_device:
            self._rename_lease(self._leases[self._of_device.pop(old)], new)
        if new in self._of_device:
            # Whatever went over with the device, it is held: told again is told once.
            self._tell(self._leases[self._of_device[new]])
        self.serve(new)

    def freeze(self) -> None:
        """The agent begins to stop: nothing ends by time any more, for nobody can renew it."""
        self._frozen = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def close(self, limit: float = STORE_LIMIT) -> None:
        """Stop the timers, give the store `limit` seconds; the leases stay stored."""
        self.freeze()
        if self._serving is not None:
            self._serving.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)

    # --- the queue -------------------------------------------------------------------------

    async def _wait(self, wish: Wish, limit: float) -> str:
        """The UDID that is ours now; the caller gives it without a pause."""
        if limit <= 0:
            raise DeviceHeldError(self._held_words(wish))
        if len(self._queue) >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} requests wait for devices already")
        waiting = _Waiting(wish)
        self._queue[waiting] = None
        log.info("lease.waiting", wish=str(wish), limit=limit)
        try:
            async with asyncio.timeout(limit):
                while not waiting.given and not waiting.off:
                    waiting.news.clear()
                    await waiting.news.wait()
        except TimeoutError:
            # A device that became free in this very turn is ours all the same.
            if not waiting.given and not waiting.off:
                words = self._held_words(waiting.wish)
                raise DeviceHeldError(f"waited {limit:g} s: {words}") from None
        except BaseException:
            if waiting.given:
                del self._kept[waiting.given]
                self.serve(waiting.given)  # it came too late for us: the next one's
            raise
        finally:
            del self._queue[waiting]
        if waiting.off:
            raise LeasesOffError(OFF)
        del self._kept[waiting.given]
        return waiting.given

    def _serve(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None
        freed, self._freed = self._freed, set()
        known = {udid: self._candidate(udid) for udid in freed}
        if self._all_freed:
            self._all_freed = False
            named = {waiting.wish.udid for waiting in self._queue} - {""}
            known |= dict.fromkeys(named) | {each.udid: each for each in self._candidates()}
        offer = Offer(
            [
                each or Candidate(udid, None, (), online=False)
                for udid, each in known.items()
                if not self._is_taken(udid)
            ],
            self._used_ms,
        )
        for waiting in self._queue:
            if not offer:
                return
            if waiting.given or waiting.off:
                continue
            udid = offer.take(waiting.wish)
            if udid is not None:
                waiting.given = udid
                self._kept[udid] = waiting
                waiting.news.set()

    def _choose(self, wish: Wish) -> str | None:
        if wish.udid:
            return None if self._is_taken(wish.udid) else wish.udid
        known = list(self._candidates())
        if not any(wish.fits(candidate) for candidate in known):
            raise UnknownDeviceError(f"{wish}: no device fits; `device-agent devices` lists them")
        return choose(wish, known, {*self._of_device, *self._kept}, self._used_ms)

    def _is_taken(self, udid: str) -> bool:
        return udid in self._of_device or udid in self._kept

    def _among_all(self, udid: str) -> Candidate | None:
        return next((each for each in self._candidates() if each.udid == udid), None)

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

    # --- beginning and ending --------------------------------------------------------------

    def _take(self, udid: str, holder: str, reason: str, caller: str) -> str:
        """Take it from whoever has it; from whom, and why. "": it was free."""
        kept = self._kept.pop(udid, None)
        if kept is not None:
            kept.given = ""  # goes on waiting, in its place
        if udid not in self._of_device:
            return ""
        lease = self._leases[self._of_device[udid]]
        log.warning(
            "lease.taken", udid=udid, holder=lease.holder, by=holder, reason=reason, caller=caller
        )
        self._end(lease.id, f"it was taken by {holder}: {reason}", last=False)
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
        put = self._write(self._store.put_lease(lease), lease)
        self._begin(lease)
        log.info(
            "lease.acquired", udid=udid, holder=holder, purpose=purpose, ttl=ttl, caller=caller
        )
        try:
            await self._stored(put, lease)
        except BaseException:
            if lease.id in self._leases:
                self._end(lease.id, "its holder went away before it was told")
            raise
        if lease.id in self._leases:
            self._loosen(lease.id)
        elif not self._on:
            raise LeasesOffError(OFF)
        return await self.renew(lease.id)

    def _begin(self, lease: Lease) -> None:
        self._leases[lease.id] = lease
        self._of_device[lease.udid] = lease.id
        self._arm(lease, lease.ttl)
        self._tell(lease)

    def _end(self, lease_id: str, why: str, *, last: bool = True) -> asyncio.Task[None]:
        """End it everywhere; the task is done when the store knows.

        Last: nobody has the device from now on.
        """
        lease = self._leases[lease_id]
        # Before anybody hears of it, and may fail: what ended must not come back at a restart.
        deleted = self._write(self._store.delete_lease(lease_id), lease)
        del self._leases[lease_id]
        if self._of_device.get(lease.udid) == lease_id:
            del self._of_device[lease.udid]
        if (timer := self._timers.pop(lease_id, None)) is not None:
            timer.cancel()
        self._ties.pop(lease_id, None)
        self._ends[lease_id] = why
        if len(self._ends) > REMEMBERED:
            del self._ends[next(iter(self._ends))]
        watched = self._watched.pop(lease_id, None)
        if watched is not None and not watched.done():
            watched.set_result(why)
        if last:
            self.serve(lease.udid)
            self._changed(lease.udid, UsageReading(Usage.IDLE))
        return deleted

    def _expire(self, lease_id: str) -> None:
        lease = self._leases[lease_id]
        if self._wall_ms() - lease.expires_ms > LATE * 1000:
            # Once: from now on it is on time, or the agent stood still again.
            longer = min(lease.ttl, SECOND_CHANCE)
            until = self._wall_ms() + int(longer * 1000)
            self._leases[lease_id] = replace(lease, expires_ms=until)
            self._arm(lease, longer)
            return
        why = f"nobody renewed it for {lease.ttl:g} s"
        log.warning("lease.expired", udid=lease.udid, holder=lease.holder, hint=why)
        self._end(lease_id, why)

    def _rename_lease(self, lease: Lease, new: str) -> None:
        renamed = self._leases[lease.id] = replace(lease, udid=new)
        if new in self._of_device:
            # One phone, held under both its names: who had the new one keeps it.
            other = self._leases[self._of_device[new]]
            self._end(lease.id, f"its phone is {new} now, which {other.holder} holds", last=False)
            return
        self._of_device[new] = lease.id
        if (kept := self._kept.pop(new, None)) is not None:
            kept.given = ""
        self._write(self._store.put_lease(renamed), renamed)

    def _renewed(self, lease: Lease) -> Lease:
        return replace(lease, expires_ms=self._wall_ms() + int(lease.ttl * 1000))

    def _get(self, lease_id: str) -> Lease:
        try:
            return self._leases[lease_id]
        except KeyError:
            why = self._ends.get(lease_id, "it was released, or its time ran out")
            raise UnknownLeaseError(f"no lease {lease_id!r}: {why}") from None

    def _loosen(self, lease_id: str) -> bool:
        """One tie fewer; whether none is left."""
        self._ties[lease_id] -= 1
        if self._ties[lease_id] > 0:
            return False
        del self._ties[lease_id]
        return True

    def _arm(self, lease: Lease, seconds: float) -> None:
        if (timer := self._timers.pop(lease.id, None)) is not None:
            timer.cancel()
        if lease.id not in self._ties and not self._frozen:
            self._timers[lease.id] = self._call_later(seconds, partial(self._expire, lease.id))

    def _tell(self, lease: Lease) -> None:
        holder = f"{lease.holder} ({lease.purpose})" if lease.purpose else lease.holder
        if lease.taken:
            holder += f", taken from {lease.taken}"
        self._changed(lease.udid, UsageReading(Usage.IN_USE, holder, since_ms=lease.acquired_ms))

    # --- the store -------------------------------------------------------------------------

    def _write(self, work: Coroutine[None, None, None], lease: Lease) -> asyncio.Task[None]:
        """Write through; the store has it in the order of these calls."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._written, lease))
        return task

    def _written(self, lease: Lease, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("lease.not_stored", udid=lease.udid, holder=lease.holder, error=str(error))

    async def _stored(self, task: asyncio.Task[None], lease: Lease) -> None:
        """Wait for the store, but without letting a failing disk keep anybody from a phone."""
        done, _ = await asyncio.wait({task}, timeout=STORE_LIMIT)
        if not done:
            why = f"the store took over {STORE_LIMIT} s"
            log.error("lease.not_stored", udid=lease.udid, holder=lease.holder, error=why)


def _check(holder: str, text: str, ttl: float, wait: float) -> None:
    if not holder.strip():
        raise LeaseError("a lease needs its holder's name")
    if not (holder + text).isprintable():
        raise LeaseError("a lease's holder and purpose are text without control characters")
    if not MIN_TTL <= ttl <= MAX_TTL:
        raise LeaseError(f"a lease's ttl is {MIN_TTL:.0f} to {MAX_TTL:.0f} seconds, not {ttl:g}")
    if not 0 <= wait <= MAX_WAIT:
        raise LeaseError(f"a lease is waited for 0 to {MAX_WAIT:.0f} seconds, not {wait:g}")
