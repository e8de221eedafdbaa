"""Leases: who holds a device, until when, and what a restart makes of that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.config import UsageSection
from agent.errors import DeviceHeldError, LeaseError, LeasesOffError, UnknownLeaseError
from agent.model import Usage
from agent.subscribers import Subscribers, Topic
from agent.usage.lease_queue import Wish
from agent.usage.leases import Leases
from tests.kit.clock import ClockLoop, StubClock
from tests.kit.store import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from structlog.typing import EventDict

    from agent.model import Lease
    from agent.usage.lease_writer import LeaseStore


CE09 = Wish("ce09")

ON, OFF = UsageSection(leases=True), UsageSection(leases=False)


class Desk:
    """Leases over a real store, with a stub clock; remembers what the pipeline was told."""

    def __init__(self, store: LeaseStore) -> None:
        self.clock = StubClock()
        self.told: list[tuple[str, Usage, str]] = []
        news = Subscribers()
        self.leases = leases_of(store, news.publisher(Topic.LEASE), self.clock)
        news.subscribe(Topic.LEASE, self._hear)

    def _hear(self, udid: str) -> None:
        reading = self.leases.reading(udid)
        self.told.append((udid, reading.usage, reading.holder))

    async def heard(self) -> list[tuple[str, Usage, str]]:
        """What was told, with all that has happened by now."""
        await asyncio.sleep(0)  # not for time: the loop's next turn
        return self.told


def leases_of(
    store: LeaseStore, changed: Callable[[str], None], clock: StubClock | ClockLoop
) -> Leases:
    """Leases that know of no device but by the name that is asked for."""
    return Leases(
        store,
        changed,
        candidates=tuple,
        candidate=lambda _: None,
        clock=clock,
    )


@asynccontextmanager
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = open_store(tmp_path)
    try:
        made = Desk(store.leases)
        await made.leases.load()
        await made.heard()
        yield made
        await made.leases.close()
    finally:
        await store.close()


async def test_a_lease_is_use_until_it_is_released(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "pytest", 30)
        assert d.leases.all() == [lease]
        await d.leases.release(lease.id)
        assert await d.heard() == [
            ("ce09", Usage.IN_USE, "alice (pytest)"),
            ("ce09", Usage.IDLE, ""),
        ]
        assert d.leases.all() == []
        assert d.clock.armed == []


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
        assert await d.heard() == [("ce09", Usage.IN_USE, "alice")]
        d.clock.advance(1)
        assert (await d.heard())[-1] == ("ce09", Usage.IDLE, "")
        with pytest.raises(UnknownLeaseError, match="nobody renewed it for 30 s"):
            await d.leases.renew(lease.id)


async def test_a_restart_keeps_leases_for_one_ttl(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
    async with desk(tmp_path) as d:
        assert await d.heard() == [("ce09", Usage.IN_USE, "alice")]
        await d.leases.renew(lease.id)
        d.clock.advance(30)
        assert (await d.heard())[-1] == ("ce09", Usage.IDLE, "")
    async with desk(tmp_path) as d:
        assert await d.heard() == [], "an expired lease is gone for good"


async def test_a_tied_lease_has_no_ttl_and_ends_with_its_last_connection(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
        for _ in range(2):
            d.leases.tie(lease.id)
        d.clock.advance(3000)  # as an agent that stood still sees it: nobody could renew
        await d.leases.untie(lease.id)
        d.clock.advance(3000)
        assert await d.heard() == [("ce09", Usage.IN_USE, "alice")]
        await d.leases.untie(lease.id)
        assert (await d.heard())[-1] == ("ce09", Usage.IDLE, "")
        assert await d.leases.ended(lease.id, 0) == "its holder's connection ended"
        await d.leases.untie(lease.id)  # of a lease that ended before: nothing
        with pytest.raises(UnknownLeaseError, match="connection ended"):
            d.leases.tie(lease.id)
        assert d.clock.armed == []


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
        d.leases.reconfigure(OFF)
        assert (await d.heard())[-1] == ("ce09", Usage.IDLE, "")
        with pytest.raises(LeasesOffError, match=r"\[usage\]"):
            await bob
        with pytest.raises(LeasesOffError):
            await d.leases.acquire(Wish("ce09"), "bob", "", 30)
        with pytest.raises(UnknownLeaseError, match="leases are turned off"):
            await d.leases.renew(lease.id)
        d.leases.reconfigure(ON)
        await d.leases.acquire(Wish("ce09"), "bob", "", 30)
    async with desk(tmp_path) as d:
        assert [each.holder for each in d.leases.all()] == ["bob"]


async def until_waiting(d: Desk, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while d.leases.waiting != count:  # noqa: ASYNC110 - a turn or two of the loop
            await asyncio.sleep(0)


def waits(d: Desk, holder: str, limit: float = 60, wish: Wish = CE09) -> asyncio.Task[Lease]:
    return asyncio.create_task(d.leases.acquire(wish, holder, "", 30, wait=limit))


async def tied(d: Desk) -> None:
    """A client with a tied lease, until its connection is lost."""
    lease = d.leases.tie((await d.leases.acquire(CE09, "alice", "", 30)).id)
    try:
        await asyncio.Event().wait()
    finally:
        await d.leases.untie(lease.id)


async def test_a_holder_and_who_waits_go_in_one_turn_of_the_loop(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        alice = asyncio.create_task(tied(d))
        async with asyncio.timeout(10):
            while not d.leases.all():  # noqa: ASYNC110 - the store thread is in it
                await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while d.clock.armed:  # noqa: ASYNC110 - until it is tied: no TTL
                await asyncio.sleep(0)
        bob, carol = waits(d, "bob"), waits(d, "carol")
        await until_waiting(d, 2)
        bob.cancel()
        alice.cancel()
        assert (await carol).holder == "carol", "the next one's"
        gone = await asyncio.gather(alice, bob, return_exceptions=True)
        assert [type(each) for each in gone] == [asyncio.CancelledError] * 2
        carol_id = d.leases.all()[0].id
        await d.leases.release(carol_id)
        assert (await d.heard())[-2:] == [("ce09", Usage.IN_USE, "carol"), ("ce09", Usage.IDLE, "")]
        assert "bob" not in {holder for _, _, holder in await d.heard()}
    async with desk(tmp_path) as d:
        assert await d.heard() == [], "a restart knows of no dead job"


@pytest.mark.parametrize("release_first", [True, False])
def test_who_waits_times_out_as_the_device_becomes_free(release_first: bool) -> None:
    """Whichever comes first in that turn: it is theirs, or nobody's, and the lease has ended."""
    loop = ClockLoop()
    store = SlowStore()
    store.gate.set()
    told: list[Usage] = []
    news = Subscribers()
    leases = leases_of(store, news.publisher(Topic.LEASE), loop)
    news.subscribe(Topic.LEASE, lambda udid: told.append(leases.reading(udid).usage))
    first = loop.create_task(leases.acquire(CE09, "alice", "", 30))
    bob = loop.create_task(leases.acquire(CE09, "bob", "", 30, wait=5))
    loop.turns()
    loop.now += 5
    if not release_first:
        loop.turn()  # the time is up, and who waits has not heard of it
    loop.create_task(leases.release(first.result().id))
    loop.turns()
    assert loop.broken == []
    assert store.stored == ({bob.result().id} if not bob.exception() else set())
    assert [each.id for each in leases.all()] == list(store.stored)
    assert (told[-1] is Usage.IDLE) == (not store.stored)
    loop.close()


async def test_one_that_is_kept_for_who_waits_can_be_taken(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        first = await d.leases.acquire(CE09, "alice", "", 30)
        bob = waits(d, "bob")
        await until_waiting(d)
        releasing = asyncio.create_task(d.leases.release(first.id))
        await asyncio.sleep(0)  # not for time: it is released now, and bob has not heard of it
        taken = await d.leases.acquire(CE09, "carol", "", 30, steal="release blocker")
        await releasing
        assert d.leases.all() == [taken]
        await d.leases.release(taken.id)
        assert (await bob).holder == "bob", "who waited has kept their place"


async def test_nobody_overtakes_who_waits(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        first = await d.leases.acquire(CE09, "alice", "", 30)
        bob = waits(d, "bob")
        await until_waiting(d)
        releasing = asyncio.create_task(d.leases.release(first.id))
        await asyncio.sleep(0)  # not for time: as above
        with pytest.raises(DeviceHeldError, match="given this moment"):
            await d.leases.acquire(CE09, "carol", "", 30)
        assert (await bob).holder == "bob"
        await releasing


async def test_turned_off_and_on_again_before_who_waits_has_heard_of_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.leases.acquire(CE09, "alice", "", 30)
        waiting = [waits(d, f"{number}") for number in range(3)]
        await until_waiting(d, 3)
        d.leases.reconfigure(OFF)
        d.leases.reconfigure(ON)
        for each in waiting:
            with pytest.raises(LeasesOffError, match=r"\[usage\]"):
                await each
        assert d.leases.all() == []
        await d.leases.acquire(CE09, "bob", "", 30)


async def test_turned_off_while_one_is_being_stored() -> None:
    store = SlowStore()
    d = Desk(store)
    acquiring = await slowly(d)
    d.leases.reconfigure(OFF)
    store.gate.set()
    with pytest.raises(LeasesOffError):
        await acquiring
    assert (d.leases.all(), store.stored) == ([], set())
    await d.leases.close()


async def test_two_stored_leases_of_one_device_are_the_newer_one(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        old = await d.leases.acquire(CE09, "alice", "", 30)
    store = open_store(tmp_path)
    await store.leases.put(replace(old, id="newer", holder="bob", acquired_ms=old.acquired_ms + 1))
    await store.close()
    async with desk(tmp_path) as d:
        assert await d.heard() == [("ce09", Usage.IN_USE, "bob")]
        await d.leases.release("newer")
        assert (await d.heard())[-1] == ("ce09", Usage.IDLE, "")
    async with desk(tmp_path) as d:
        assert await d.heard() == []


def test_a_renewal_that_waits_while_the_agent_stands_still_is_read() -> None:
    loop = ClockLoop()
    store = SlowStore()
    store.gate.set()
    leases = leases_of(store, lambda _: None, loop)
    acquiring = loop.create_task(leases.acquire(CE09, "alice", "", 30))
    loop.turns()
    lease = acquiring.result()
    for renewed in (True, False):
        loop.now += 100  # of which nobody saw anything
        loop.turn()
        assert [each.id for each in leases.all()] == [lease.id]
        if renewed:
            loop.create_task(leases.renew(lease.id))
            loop.turns()
    loop.now += 5
    loop.turns()
    assert leases.all() == [], "not for ever"
    loop.close()


async def test_nothing_ends_by_time_once_the_agent_stops(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        lease = await d.leases.acquire(CE09, "alice", "", 30)
        d.leases.freeze()
        d.leases.tie(lease.id)
        await d.leases.untie(lease.id, stopping=True)
        d.clock.advance(3000)
        assert [each.id for each in d.leases.all()] == [lease.id]


class SlowStore:
    """Takes what it is given once its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.stored: set[str] = set()

    async def all(self) -> list[Lease]:
        return []

    async def put(self, lease: Lease) -> None:
        await self.gate.wait()
        self.stored.add(lease.id)

    async def delete(self, lease_id: str) -> None:
        await self.gate.wait()
        self.stored.discard(lease_id)


async def slowly(d: Desk) -> asyncio.Task[Lease]:
    """An acquisition that the store keeps waiting."""
    task = asyncio.create_task(d.leases.acquire(Wish("ce09"), "alice", "", 1))
    async with asyncio.timeout(10):
        while not d.leases.all():  # noqa: ASYNC110 - a turn or two of the loop
            await asyncio.sleep(0)
    return task


async def test_a_lease_whose_beginning_cannot_be_told_is_nobodys() -> None:
    """A log that cannot be written must not leave a lease behind that never ends."""

    def broken_pipe(_logger: object, _name: str, event: EventDict) -> EventDict:
        if event["event"] == "lease.acquired":
            raise BrokenPipeError
        return event

    store = SlowStore()
    store.gate.set()
    d = Desk(store)
    processors = structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [broken_pipe, *before]
    try:
        with pytest.raises(BrokenPipeError):
            await d.leases.acquire(Wish("ce09"), "alice", "", 30)
    finally:
        processors[:] = before
    assert (d.leases.all(), d.leases.reading("ce09").usage) == ([], Usage.IDLE)
    await d.leases.close()
    assert store.stored == set()


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
    assert (await d.heard())[-1][1:] == (Usage.IN_USE, "bob, taken from alice: release blocker")
    await d.leases.close()


@pytest.mark.parametrize("ttl", [0, -1, 0.5, 86_401, float("nan"), float("inf")])
async def test_a_ttl_out_of_bounds_is_refused(tmp_path: Path, ttl: float) -> None:
    async with desk(tmp_path) as d:
        with pytest.raises(LeaseError, match="1 to 86400 seconds"):
            await d.leases.acquire(Wish("ce09"), "alice", "", ttl)
        assert await d.heard() == []


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
    store = open_store(tmp_path)
    d = Desk(store.leases)
    await store.close()
    lease = await d.leases.acquire(Wish("ce09"), "alice", "", 30)
    assert await d.heard() == [("ce09", Usage.IN_USE, "alice")]
    await d.leases.release(lease.id)
