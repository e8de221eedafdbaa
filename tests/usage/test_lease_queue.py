"""Who gets which device: a table, and what holds whatever is asked."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import DeviceHeldError, QueueFullError, UnknownDeviceError, UnknownLeaseError
from agent.model import Platform
from agent.usage.lease_queue import (
    MAX_WAITING,
    Candidate,
    LeaseQueue,
    Waiting,
    Wish,
    choose,
)
from agent.usage.leases import Leases
from tests.kit.clock import StubClock
from tests.kit.store import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PIXEL = Candidate("pixel", Platform.ANDROID, ("rack-1", "fast"), online=True)
NOTE = Candidate("note", Platform.ANDROID, ("rack-2",), online=True)
AWAY = Candidate("away", Platform.ANDROID, ("rack-1",), online=False)
IPHONE = Candidate("iphone", Platform.IOS, ("rack-1",), online=True)
ALL = (PIXEL, NOTE, AWAY, IPHONE)


@pytest.mark.parametrize(
    ("wish", "held", "given_one"),
    [
        (Wish("pixel"), (), "pixel"),
        (Wish("pixel"), ("pixel",), None),
        (Wish("away"), (), "away"),
        (Wish("nobody"), (), None),
        (Wish(), (), "iphone"),
        (Wish(), ("iphone",), "note"),
        (Wish(), ("iphone", "note", "pixel"), None),
        (Wish(platform=Platform.IOS), (), "iphone"),
        (Wish(platform=Platform.ANDROID), (), "note"),
        (Wish(platform=Platform.ANDROID, tags=("rack-1",)), (), "pixel"),
        (Wish(platform=Platform.ANDROID, tags=("rack-1",)), ("pixel",), None),
        (Wish(tags=("rack-1", "fast")), (), "pixel"),
        (Wish(tags=("rack-2", "fast")), (), None),
    ],
    ids=str,
)
def test_the_table(wish: Wish, held: tuple[str, ...], given_one: str | None) -> None:
    assert choose(wish, ALL, held, {}) == given_one


def test_of_several_the_one_that_was_used_longest_ago() -> None:
    assert choose(Wish(), ALL, (), {"iphone": 3, "note": 1, "pixel": 2}) == "note"
    assert choose(Wish(), ALL, (), {"iphone": 3, "note": 1}) == "pixel"


def test_hot_and_empty_ones_come_last_and_are_given_all_the_same() -> None:
    tired = [each._replace(tired=each.udid != "note") for each in ALL]
    used = {"iphone": 1, "note": 9, "pixel": 2}
    assert choose(Wish(), tired, (), used) == "note"
    assert choose(Wish(), tired, ("note",), used) == "iphone"
    assert choose(Wish("pixel"), tired, (), used) == "pixel"
    line, waits = waiting(Wish(), Wish(), Wish())
    assert line.serve(tired, used) == waits
    assert [each.given for each in waits] == ["note", "iphone", "pixel"]


UDIDS = st.sampled_from(["a", "b", "c", "d"])
WISHES = st.builds(
    Wish,
    st.sampled_from(["", "a", "b", "x"]),
    st.sampled_from([None, *Platform]),
    st.lists(st.sampled_from(["t", "u"]), max_size=2).map(tuple),
)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        UDIDS,
        st.sampled_from([None, *Platform]),
        st.lists(st.sampled_from(["t", "u"]), max_size=2).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda each: each.udid,
)


@given(WISHES, CANDIDATES, st.sets(UDIDS), st.dictionaries(UDIDS, st.integers(0, 9)))
def test_what_is_given_fits_and_is_free_and_none_only_where_none_is(
    wish: Wish, candidates: list[Candidate], held: set[str], used: dict[str, int]
) -> None:
    good = {
        each.udid: (each.tired, used.get(each.udid, 0))
        for each in candidates
        if wish.fits(each) and each.udid not in held and (each.online or wish.udid)
    }
    udid = choose(wish, candidates, held, used)
    assert (udid in good) if good else (udid is None)
    if udid is not None:
        assert good[udid] == min(good.values())


# --- the queue, pure --------------------------------------------------------------------------


def waiting(*wishes: Wish) -> tuple[LeaseQueue, list[Waiting]]:
    line = LeaseQueue()
    return line, [line.join(wish) for wish in wishes]


def test_a_device_is_kept_for_the_first_whom_it_fits() -> None:
    line, (iphone, pixel, anything) = waiting(Wish("iphone"), Wish("pixel"), Wish())
    assert line.serve([PIXEL, NOTE], {}) == [pixel, anything]
    assert (iphone.over, pixel.given, anything.given) == (False, "pixel", "note")
    assert set(line.kept) == {"pixel", "note"}
    assert line.serve([PIXEL], {}) == [], "who has been given one is given no other"
    assert line.leave(pixel) == "pixel"
    assert set(line.kept) == {"note"}
    assert line.leave(iphone) == ""
    assert len(line) == 1


def test_whom_it_was_kept_for_goes_on_waiting_in_their_place() -> None:
    line, (first, second) = waiting(Wish("pixel"), Wish("pixel"))
    assert line.serve([PIXEL], {}) == [first]
    line.withdraw("pixel")
    assert (first.over, list(line.kept)) == (False, [])
    assert line.serve([PIXEL], {}) == [first]
    line.leave(first)
    assert line.serve([PIXEL], {}) == [second]


def test_who_is_turned_away_is_served_no_more() -> None:
    line, (given, other) = waiting(Wish("pixel"), Wish("note"))
    line.serve([PIXEL], {})
    assert line.turn_away() == [given, other]
    assert (given.given, given.off, other.off, list(line.kept)) == ("", True, True, [])
    assert line.serve(ALL, {}) == []
    assert line.named == {"pixel", "note"}


@pytest.mark.parametrize(
    ("leased", "kept"), [(False, "new"), (True, "")], ids=["free", "somebody has it"]
)
def test_what_is_kept_goes_over_to_the_new_name_unless_somebody_has_that(
    leased: bool, kept: str
) -> None:
    line, (alice, bob) = waiting(Wish("pixel"), Wish("pixel"))
    line.serve([PIXEL], {})
    line.rename("pixel", "new", leased=leased)
    assert (alice.given, alice.wish, bob.wish) == (kept, Wish("new"), Wish("new"))
    assert list(line.kept) == ([kept] if kept else [])


def test_of_two_that_are_one_now_the_new_name_stays_kept_for_its_own() -> None:
    line, (alice, bob) = waiting(Wish("pixel"), Wish("note"))
    line.serve([PIXEL, NOTE], {})
    line.rename("pixel", "note", leased=False)
    assert (alice.over, bob.given) == (False, "note")


@given(
    st.lists(WISHES, max_size=6),
    st.lists(
        st.one_of(
            st.tuples(st.just("serve"), CANDIDATES),
            st.tuples(st.sampled_from(["leave", "withdraw"]), st.integers(0, 5)),
            st.tuples(st.just("rename"), st.tuples(UDIDS, UDIDS)),
        ),
        max_size=8,
    ),
)
def test_whatever_happens_each_device_is_kept_for_one_who_waits(
    wishes: list[Wish], steps: list[tuple[str, object]]
) -> None:
    line, there = waiting(*wishes)
    for what, arguments in steps:
        if what == "serve":
            assert isinstance(arguments, list)
            free = [each for each in arguments if each.udid not in line.kept]
            served = line.serve(free, {})
            assert {each.given for each in served} <= {each.udid for each in free}
            for before, each in combinations(there, 2):
                # In the order of asking: nobody got what one before them wanted just as well.
                assert before.over or each not in served or before.wish != each.wish
        elif what == "leave" and there:
            assert isinstance(arguments, int)
            gone = there.pop(arguments % len(there))
            assert line.leave(gone) == gone.given
        elif what == "withdraw" and line.kept:
            line.withdraw(min(line.kept))
        elif what == "rename":
            assert isinstance(arguments, tuple)
            line.rename(*arguments, leased=False)
        kept = [each.given for each in there if each.given]
        assert sorted(kept) == sorted(line.kept)
        assert len(line) == len(there)


# --- the queue, on the loop -------------------------------------------------------------------


@asynccontextmanager
async def queue(tmp_path: Path, *candidates: Candidate) -> AsyncIterator[Leases]:
    clock = StubClock()
    store = open_store(tmp_path)
    made = Leases(
        store.leases,
        lambda *_: None,
        candidates=lambda: candidates,
        candidate={each.udid: each for each in candidates}.get,
        clock=clock,
    )
    try:
        yield made
        await made.close()
    finally:
        await store.close()


async def until_waiting(leases: Leases, count: int) -> None:
    async with asyncio.timeout(10):
        while leases.waiting < count:  # noqa: ASYNC110 - the store thread is in it
            await asyncio.sleep(0)


async def test_who_waits_is_served_in_the_order_of_asking(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL) as leases:
        first = await leases.acquire(Wish("pixel"), "first", "", 30)
        served: list[str] = []

        async def wait(name: str) -> None:
            lease = await leases.acquire(Wish("pixel"), name, "", 30, wait=10)
            served.append(name)
            await leases.release(lease.id)

        waiting = []
        for number, name in enumerate(("bob", "carol", "dave"), start=1):
            waiting.append(asyncio.create_task(wait(name)))
            await until_waiting(leases, number)
        await leases.release(first.id)
        await asyncio.gather(*waiting)
        assert served == ["bob", "carol", "dave"]


async def test_who_wants_another_device_does_not_wait_behind(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL, IPHONE) as leases:
        await leases.acquire(Wish("pixel"), "first", "", 30)
        second = await leases.acquire(Wish("iphone"), "second", "", 30)
        pixel = asyncio.create_task(leases.acquire(Wish("pixel"), "bob", "", 30, wait=10))
        await until_waiting(leases, 1)
        any_ios = Wish(platform=Platform.IOS)
        iphone = asyncio.create_task(leases.acquire(any_ios, "carol", "", 30, wait=10))
        await until_waiting(leases, 2)
        await leases.release(second.id)
        assert (await iphone).udid == "iphone"
        assert not pixel.done()
        pixel.cancel()


async def test_who_goes_away_while_waiting_leaves_the_queue(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL) as leases:
        first = await leases.acquire(Wish("pixel"), "first", "", 30)
        bob = asyncio.create_task(leases.acquire(Wish("pixel"), "bob", "", 30, wait=10))
        await until_waiting(leases, 1)
        carol = asyncio.create_task(leases.acquire(Wish("pixel"), "carol", "", 30, wait=10))
        await until_waiting(leases, 2)
        await leases.release(first.id)  # bob is given it, and goes before he takes it
        bob.cancel()
        assert (await carol).holder == "carol"
        with pytest.raises(asyncio.CancelledError):
            await bob


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL) as leases:
        await leases.acquire(Wish("pixel"), "alice", "pytest", 30)
        with pytest.raises(DeviceHeldError, match=r"waited 0\.01 s: pixel is held by alice"):
            await leases.acquire(Wish("pixel"), "bob", "", 30, wait=0.01)
        assert leases.waiting == 0


async def test_any_says_who_has_them(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL, IPHONE) as leases:
        await leases.acquire(Wish(), "alice", "pytest", 30)
        await leases.acquire(Wish(), "bob", "", 30)
        with pytest.raises(DeviceHeldError, match=r"of 2 that fit none is free: .*bob.*alice"):
            await leases.acquire(Wish(), "carol", "", 30)
        with pytest.raises(UnknownDeviceError, match="any device rack-9: no device fits"):
            await leases.acquire(Wish(tags=("rack-9",)), "carol", "", 30)


async def test_a_rack_that_comes_back_is_looked_at_once(tmp_path: Path) -> None:
    """200 phones, 200 that wait for any of them: each phone is looked at once, in one turn."""
    rack = {f"p{n:03}": Candidate(f"p{n:03}", None, (), online=False) for n in range(200)}
    looked: list[str] = []
    clock = StubClock()

    def everything() -> list[Candidate]:
        looked.append("everything")
        return list(rack.values())

    def one(udid: str) -> Candidate:
        looked.append(udid)
        return rack[udid]

    store = open_store(tmp_path)
    leases = Leases(
        store.leases,
        lambda *_: None,
        candidates=everything,
        candidate=one,
        clock=clock,
    )
    waiting = [
        asyncio.create_task(leases.acquire(Wish(), f"{n}", "", 30, wait=60)) for n in range(200)
    ]
    await until_waiting(leases, 200)
    looked.clear()
    for udid, each in rack.items():
        rack[udid] = each._replace(online=True)
        for _ in range(3):  # it flickers
            leases.serve(udid)
    given = [(await each).udid for each in waiting]
    assert given == sorted(rack), "in the order of asking, the one used longest ago"
    assert sorted(looked) == sorted(rack)
    await leases.close()
    await store.close()


async def test_the_queue_has_an_end(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL) as leases:
        await leases.acquire(Wish("pixel"), "alice", "", 30)
        waiting = [
            asyncio.create_task(leases.acquire(Wish("pixel"), f"{n}", "", 30, wait=60))
            for n in range(MAX_WAITING)
        ]
        await until_waiting(leases, MAX_WAITING)
        with pytest.raises(QueueFullError):
            await leases.acquire(Wish("pixel"), "one more", "", 30, wait=60)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_a_lease_is_taken_with_a_reason_that_its_holder_reads(tmp_path: Path) -> None:
    async with queue(tmp_path, PIXEL) as leases:
        old = await leases.acquire(Wish("pixel"), "alice", "soak test", 30)
        new = await leases.acquire(Wish("pixel"), "bob", "", 30, steal="release  blocker")
        assert leases.all() == [new]
        assert new.taken == "alice: release blocker"
        assert await leases.ended(old.id, 0) == "it was taken by bob: release blocker"
        with pytest.raises(UnknownLeaseError, match="it was taken by bob: release blocker"):
            await leases.renew(old.id)
