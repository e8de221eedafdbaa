"""Leases: who holds a device, until when, and what a restart makes of that."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.errors import DeviceHeldError, LeaseError, UnknownLeaseError
from agent.model import Usage, UsageReading
from agent.store import Store
from agent.usage.lease_queue import Wish
from agent.usage.leases import Leases
from tests.fakes.clock import StubClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Desk:
    """Leases over a real store, with a stub clock; remembers what the pipeline was told."""

    def __init__(self, store: Store) -> None:
        self.clock = StubClock()
        self.told: list[tuple[str, Usage, str]] = []
        self.leases = Leases(
            store, self._tell, wall_ms=self.clock.wall_ms, call_later=self.clock.call_later
        )

    def _tell(self, udid: str, reading: UsageReading) -> None:
        self.told.append((udid, reading.usage, reading.holder))


@asynccontextmanager
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = Store.open(tmp_path)
    try:
        made = Desk(store)
        await made.leases.load()
        yield made
        await made.leases.close()
    finally:
        await store.close()


async def test_a_lease_is_use_until_it_is_released(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "pytest", 30)
        assert d.leases.all() == [lease]
        await d.leases.release(lease.id)
        assert d.told == [("ce09", Usage.IN_USE, "alice (pytest)"), ("ce09", Usage.IDLE, "")]
        assert d.leases.all() == []
        assert d.clock.armed == 0


async def test_a_second_holder_is_refused_by_name(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.leases.acquire(Wish("ce09"), "alice", "pytest", 30)
        d.clock.advance(12)
        with pytest.raises(DeviceHeldError, match=r"ce09 is held by alice \(pytest\) for 12 s"):
            await d.leases.acquire(Wish("ce09"), "bob", "", 30)
        await d.leases.acquire(Wish("other"), "bob", "", 30)


async def test_a_lease_nobody_renews_ends_with_its_ttl(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
        d.clock.advance(29)
        await d.leases.renew(lease.id)
        d.clock.advance(29)
        assert d.told == [("ce09", Usage.IN_USE, "alice")]
        d.clock.advance(1)
        assert d.told[-1] == ("ce09", Usage.IDLE, "")
        with pytest.raises(UnknownLeaseError, match="nobody renewed it for 30 s"):
            await d.leases.renew(lease.id)


async def test_a_restart_keeps_leases_for_one_ttl(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
    async with desk(tmp_path) as d:
        assert d.told == [("ce09", Usage.IN_USE, "alice")]
        await d.leases.renew(lease.id)
        d.clock.advance(30)
        assert d.told[-1] == ("ce09", Usage.IDLE, "")
    async with desk(tmp_path) as d:
        assert d.told == [], "an expired lease is gone for good"


@pytest.mark.parametrize("ttl", [0, -1, 0.5, 86_401, float("nan"), float("inf")])
async def test_a_ttl_out_of_bounds_is_refused(tmp_path: Path, ttl: float) -> None:
    async with desk(tmp_path) as d:
        with pytest.raises(LeaseError, match="1 to 86400 seconds"):
            await d.leases.acquire(Wish("ce09"), "alice", "", ttl)
        assert d.told == []


@pytest.mark.parametrize("holder", ["a\x00b", "line\nline", "\ud800"])
async def test_a_holder_is_plain_text(tmp_path: Path, holder: str) -> None:
    async with desk(tmp_path) as d:
        with pytest.raises(LeaseError, match="control characters"):
            await d.leases.acquire(Wish("ce09"), holder, "", 30)


async def test_a_holder_needs_a_name(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        with pytest.raises(LeaseError, match="name"):
            await d.leases.acquire(Wish("ce09"), "  ", "", 30)


async def test_a_failing_store_keeps_nobody_from_a_phone(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    d = Desk(store)
    await store.close()
    lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
    assert d.told == [("ce09", Usage.IN_USE, "alice")]
    await d.leases.release(lease.id)
