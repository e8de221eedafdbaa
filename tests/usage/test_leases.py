"""Leases: who holds a device, until when, and what a restart makes of that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.errors import DeviceHeldError, LeaseError, LeasesOffError, UnknownLeaseError
from agent.model import Usage, UsageReading
from agent.store import Store
from agent.usage.lease_queue import Wish
from agent.usage.leases import Leases
from tests.fakes.clock import StubClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model import Lease
    from agent.usage.leases import LeaseStore


class Desk:
    """Leases over a real store, with a stub clock; remembers what the pipeline was told."""

    def __init__(self, store: LeaseStore) -> None:
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


async def test_a_tied_lease_has_no_ttl_and_ends_with_its_last_connection(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
        for _ in range(2):
            d.leases.tie(lease.id)
        d.clock.advance(3000)  # as an agent that stood still sees it: nobody could renew
        await d.leases.untie(lease.id)
        d.clock.advance(3000)
        assert d.told == [("ce09", Usage.IN_USE, "alice")]
        await d.leases.untie(lease.id)
        assert d.told[-1] == ("ce09", Usage.IDLE, "")
        assert await d.leases.ended(lease.id, 0) == "its holder's connection ended"
        await d.leases.untie(lease.id)  # of a lease that ended before: nothing
        with pytest.raises(UnknownLeaseError, match="connection ended"):
            d.leases.tie(lease.id)
        assert d.clock.armed == 0


async def test_an_agent_that_stops_leaves_a_tied_lease_its_ttl(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
        d.leases.tie(lease.id)
        d.clock.advance(3000)
        await d.leases.untie(lease.id, stopping=True)
        d.clock.advance(29)
        assert [each.id for each in d.leases.all()] == [lease.id]
        d.clock.advance(1)
        assert d.leases.all() == []


async def test_who_watches_a_lease_hears_of_an_end_in_the_last_instant(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        for turns in range(8):
            lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)

            async def keep(lease_id: str = lease.id) -> str | None:
                why = await d.leases.ended(lease_id, 0)
                if why is None:
                    await d.leases.renew(lease_id)  # nothing can come in between
                return why

            keeping = asyncio.create_task(keep())
            for _ in range(turns):
                await asyncio.sleep(0)  # not for time: each round ends it one turn later
            await d.leases.release(lease.id)
            assert await keeping in {None, "it was released"}


async def test_turned_off_they_end_and_none_are_given(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
        bob = asyncio.create_task(d.leases.acquire(Wish("ce09"), "bob", "", 30, wait=60))
        async with asyncio.timeout(10):
            while not d.leases.waiting:  # noqa: ASYNC110 - a turn or two of the loop
                await asyncio.sleep(0)
        d.leases.turn(on=False)
        assert d.told[-1] == ("ce09", Usage.IDLE, "")
        with pytest.raises(LeasesOffError, match=r"\[usage\]"):
            await bob
        with pytest.raises(LeasesOffError):
            await d.leases.acquire(Wish("ce09"), "bob", "", 30)
        with pytest.raises(UnknownLeaseError, match="leases are turned off"):
            await d.leases.renew(lease.id)
        d.leases.turn(on=True)
        await d.leases.acquire(Wish("ce09"), "bob", "", 30)
    async with desk(tmp_path) as d:
        assert [each.holder for each in d.leases.all()] == ["bob"]


class SlowStore:
    """Takes what it is given once its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def leases(self) -> list[Lease]:
        return []

    async def put_lease(self, lease: Lease) -> None:
        del lease
        await self.gate.wait()

    async def delete_lease(self, lease_id: str) -> None:
        del lease_id
        await self.gate.wait()


async def slowly(d: Desk) -> asyncio.Task[Lease]:
    """An acquisition that the store keeps waiting."""
    task = asyncio.create_task(d.leases.acquire(Wish("ce09"), "alice", "", 1))
    async with asyncio.timeout(10):
        while not d.leases.all():  # noqa: ASYNC110 - a turn or two of the loop
            await asyncio.sleep(0)
    return task


async def test_a_slow_store_uses_up_no_ttl() -> None:
    store = SlowStore()
    d = Desk(store)
    acquiring = await slowly(d)
    d.clock.advance(5)
    store.gate.set()
    lease = await acquiring
    d.clock.advance(0.9)
    assert d.leases.all() == [lease]
    d.clock.advance(0.1)
    assert d.leases.all() == []
    await d.leases.close()


async def test_a_lease_that_is_tied_while_it_is_stored_stays_tied() -> None:
    store = SlowStore()
    d = Desk(store)
    acquiring = await slowly(d)
    (listed,) = d.leases.all()
    d.leases.tie(listed.id)
    store.gate.set()
    await acquiring
    d.clock.advance(60)
    assert [each.id for each in d.leases.all()] == [listed.id]
    await d.leases.untie(listed.id)
    assert d.leases.all() == []
    await d.leases.close()


async def test_a_lease_that_is_taken_before_its_holder_is_told() -> None:
    store = SlowStore()
    d = Desk(store)
    acquiring = await slowly(d)
    taking = asyncio.create_task(
        d.leases.acquire(Wish("ce09"), "bob", "", 30, steal="release blocker")
    )
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(UnknownLeaseError, match="it was taken by bob: release blocker"):
        await acquiring
    assert d.leases.all() == [await taking]
    await d.leases.close()


async def test_who_goes_away_after_their_lease_was_taken_ends_nobody_elses() -> None:
    store = SlowStore()
    d = Desk(store)
    acquiring = await slowly(d)
    taking = asyncio.create_task(
        d.leases.acquire(Wish("ce09"), "bob", "", 30, steal="release blocker")
    )
    await asyncio.sleep(0)
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    store.gate.set()
    assert d.leases.all() == [await taking]
    assert d.told[-1][1:] == (Usage.IN_USE, "bob, taken from alice: release blocker")
    await d.leases.close()


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
