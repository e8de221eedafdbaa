"""Leases written through to the store, in the order of the calls; a bad disk holds up nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agent.model import Lease

log = structlog.get_logger(__name__)

STORE_LIMIT = 2.0
"""Seconds that a request waits for the store; a lease counts at once all the same."""


class LeaseStore(Protocol):
    """What leases need of the store."""

    async def all(self) -> list[Lease]:
        """All that are stored."""

    def put(self, lease: Lease) -> Awaitable[None]:
        """Insert or replace; resolves when durable."""

    def delete(self, lease_id: str) -> Awaitable[None]:
        """Remove; resolves when durable."""


class LeaseWriter:
    """Each call returns a task that is done when the store knows, or has refused, which is said."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._tasks: set[asyncio.Future[None]] = set()

    def put(self, lease: Lease) -> asyncio.Future[None]:
        """Insert or replace."""
        return self._write(self._store.put(lease), lease)

    def delete(self, lease: Lease) -> asyncio.Future[None]:
        """Remove."""
        return self._write(self._store.delete(lease.id), lease)

    async def stored(self, task: asyncio.Future[None], lease: Lease) -> None:
        """Wait for the store, but without letting a failing disk keep anybody from a phone."""
        done, _ = await asyncio.wait({task}, timeout=STORE_LIMIT)
        if not done:
            why = f"the store took over {STORE_LIMIT} s"
            log.error("lease.not_stored", udid=lease.udid, holder=lease.holder, error=why)

    async def close(self, limit: float) -> None:
        """Wait for what is under way, `limit` seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)

    def _write(self, work: Awaitable[None], lease: Lease) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._written, lease))
        return task

    def _written(self, lease: Lease, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("lease.not_stored", udid=lease.udid, holder=lease.holder, error=str(error))
