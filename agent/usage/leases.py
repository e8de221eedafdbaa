"""Leases: the exact usage source. Who holds a device, for how long, and what happens when they go.

A lease ends when it is released or when nobody renewed it for its TTL. Leases are stored, so an
agent that restarts knows them; each gets one full TTL from the start, because its holder could not
renew while the agent was away.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from agent.errors import DeviceHeldError, LeaseError, StoreError, UnknownLeaseError
from agent.model import Lease, Usage, UsageReading

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = structlog.get_logger(__name__)

MIN_TTL, MAX_TTL = 1.0, 86_400.0
"""Seconds. Shorter ones end by a hiccup of their holder, longer ones outlive what they are for."""
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


class Leases:
    """All leases, at most one per device.

    Args:
        store: keeps them across restarts.
        changed: told a device's usage whenever that changes.
        wall_ms: wall clock, milliseconds.
        call_later: the loop's timer.
    """

    def __init__(
        self,
        store: LeaseStore,
        changed: Callable[[str, UsageReading], None],
        *,
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

    async def load(self) -> None:
        """Take up the stored leases; each lasts one TTL from now unless renewed."""
        for lease in await self._store.leases():
            self._hold(replace(lease, expires_ms=self._wall_ms() + int(lease.ttl * 1000)))

    def all(self) -> list[Lease]:
        """The leases in force, oldest first."""
        return sorted(self._leases.values(), key=lambda lease: lease.acquired_ms)

    async def acquire(self, udid: str, holder: str, purpose: str, ttl: float) -> Lease:
        """Give the device to the holder.

        Raises:
            DeviceHeldError: somebody has it; the message says who, since when, and why.
            LeaseError: no holder's name, or a TTL out of bounds.
        """
        if not holder.strip():
            raise LeaseError("a lease needs its holder's name")
        purpose = " ".join(purpose.split())  # a command may have several lines
        if not (holder + purpose).isprintable():
            raise LeaseError("a lease's holder and purpose are text without control characters")
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise LeaseError(
                f"a lease's ttl is {MIN_TTL:.0f} to {MAX_TTL:.0f} seconds, not {ttl:g}"
            )
        if (held := self._of_device.get(udid)) is not None:
            other = self._leases[held]
            age = max(0, self._wall_ms() - other.acquired_ms) // 1000
            what = f" ({other.purpose})" if other.purpose else ""
            raise DeviceHeldError(f"{udid} is held by {other.holder}{what} for {age} s")
        now = self._wall_ms()
        lease = Lease(
            id=secrets.token_hex(8),
            udid=udid,
            holder=holder,
            purpose=purpose,
            acquired_ms=now,
            ttl=ttl,
            expires_ms=now + int(ttl * 1000),
        )
        self._hold(lease)
        log.info("lease.acquired", udid=udid, holder=holder, purpose=purpose, ttl=ttl)
        await self._keep(self._store.put_lease(lease), lease)
        return lease

    async def renew(self, lease_id: str) -> Lease:
        """Let it last another TTL from now.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        lease = self._get(lease_id)
        renewed = replace(lease, expires_ms=self._wall_ms() + int(lease.ttl * 1000))
        self._hold(renewed)
        return renewed

    async def release(self, lease_id: str) -> Lease:
        """End it.

        Raises:
            UnknownLeaseError: it has ended already, or never was.
        """
        lease = self._get(lease_id)
        self._end(lease)
        log.info("lease.released", udid=lease.udid, holder=lease.holder)
        await self._keep(self._store.delete_lease(lease.id), lease)
        return lease

    async def close(self, limit: float = STORE_LIMIT) -> None:
        """Stop the timers, give the store `limit` seconds; the leases stay stored."""
        for timer in self._timers.values():
            timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)

    def _get(self, lease_id: str) -> Lease:
        try:
            return self._leases[lease_id]
        except KeyError:
            raise UnknownLeaseError(
                f"no lease {lease_id!r}: it was released, or its time ran out"
            ) from None

    def _hold(self, lease: Lease) -> None:
        fresh = lease.id not in self._leases
        self._leases[lease.id] = lease
        self._of_device[lease.udid] = lease.id
        if (timer := self._timers.pop(lease.id, None)) is not None:
            timer.cancel()
        self._timers[lease.id] = self._call_later(lease.ttl, lambda: self._expire(lease.id))
        if fresh:
            holder = f"{lease.holder} ({lease.purpose})" if lease.purpose else lease.holder
            self._changed(
                lease.udid, UsageReading(Usage.IN_USE, holder, since_ms=lease.acquired_ms)
            )

    def _end(self, lease: Lease) -> None:
        del self._leases[lease.id]
        del self._of_device[lease.udid]
        self._timers.pop(lease.id).cancel()
        self._changed(lease.udid, UsageReading(Usage.IDLE))

    def _expire(self, lease_id: str) -> None:
        lease = self._leases[lease_id]
        log.warning(
            "lease.expired",
            udid=lease.udid,
            holder=lease.holder,
            hint=f"nobody renewed it for {lease.ttl:g} s",
        )
        self._end(lease)
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
