"""The lease book: which leases there are, as a pure function of what was asked and when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UnknownLeaseError
from agent.model import Lease, Usage, UsageReading
from agent.usage.lease_book import REMEMBERED, SECOND_CHANCE, LeaseBook, newest

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_000_000


def lease(id_: str, udid: str = "ce09", *, at: int = NOW, ttl: float = 30, **more: str) -> Lease:
    holder, purpose = more.pop("holder", "alice"), more.pop("purpose", "")
    return Lease(id_, udid, holder, purpose, at, ttl, at + int(ttl * 1000), **more)


def book(*leases: Lease) -> LeaseBook:
    made = LeaseBook()
    for each in leases:
        made.begin(each)
    return made


def test_a_device_is_in_use_by_its_lease_and_idle_without() -> None:
    it = book(lease("1", purpose="soak"), lease("2", "ce10", taken="bob: release blocker"))
    assert it.reading("ce09") == UsageReading(Usage.IN_USE, "alice (soak)", since_ms=NOW)
    assert it.reading("ce10").holder == "alice, taken from bob: release blocker"
    it.end("1", "it was released")
    assert it.reading("ce09") == UsageReading()
    assert (set(it.devices), "1" in it, "2" in it) == ({"ce10"}, False, True)
    assert it.of("ce09") is None


def test_an_end_is_remembered_for_who_asks_later_and_not_for_ever() -> None:
    it = LeaseBook()
    for number in range(REMEMBERED + 1):
        it.begin(lease(str(number)))
        it.end(str(number), f"end {number}")
    assert it.why_ended(str(REMEMBERED)) == f"end {REMEMBERED}"
    with pytest.raises(UnknownLeaseError, match="no lease '1': end 1"):
        it.get("1")
    with pytest.raises(UnknownLeaseError, match="released, or its time ran out"):
        it.renew("0", NOW)


def test_a_renewal_is_one_ttl_from_now() -> None:
    it = book(lease("1"))
    assert it.renew("1", NOW + 7000).expires_ms == NOW + 37_000
    assert it.get("1").acquired_ms == NOW


@pytest.mark.parametrize(
    ("late_ms", "ttl", "chance"),
    [(0, 30, 0), (1000, 30, 0), (1001, 30, SECOND_CHANCE), (9000, 2, 2), (-5000, 30, 0)],
)
def test_a_ttl_that_is_looked_at_late_has_one_more_chance(
    late_ms: int, ttl: float, chance: float
) -> None:
    it = book(lease("1", ttl=ttl))
    late = it.get("1").expires_ms + late_ms
    assert it.second_chance("1", late) == chance
    if chance:
        assert it.second_chance("1", late + int(chance * 1000)) == 0, "once"


def test_it_is_tied_until_the_last_tie_is_loosened() -> None:
    it = LeaseBook()
    it.give(lease("1"))  # to the store that takes it up
    it.tie("1", NOW)
    assert it.tie("1", NOW + 1000).expires_ms == NOW + 31_000
    assert [it.untie("1"), it.untie("1"), it.is_tied("1")] == [False, False, True]
    assert (it.untie("1"), it.is_tied("1")) == (True, False)
    it.tie("1", NOW)
    it.end("1", "it was released")
    assert not it.is_tied("1")


def test_a_device_that_is_renamed_takes_its_lease_and_its_turn_with_it() -> None:
    it = LeaseBook()
    it.give(lease("1", "old", at=NOW + 5))
    moved = it.rename("old", "new")
    assert moved is not None
    assert (moved.udid, it.of("new"), it.of("old")) == ("new", moved, None)
    assert it.used_ms == {"new": NOW + 5}
    assert it.rename("nobody", "else") is None


def test_one_phone_held_under_both_its_names_is_whose_who_had_the_new_one() -> None:
    it = book(lease("1", "old", holder="alice"), lease("2", "new", holder="bob"))
    moved = it.rename("old", "new")
    assert moved is not None
    assert moved.id == "1"
    assert it.reading("new").holder == "bob"
    it.end("1", "its phone is new now")
    assert it.reading("new").holder == "bob"
    assert [each.id for each in it.all()] == ["2"]


def test_who_holds_it_for_what_and_for_how_long() -> None:
    it = book(lease("1", purpose="soak"))
    assert it.held_by("ce09", NOW + 12_900) == "ce09 is held by alice (soak) for 12 s"
    assert it.held_by("ce09", NOW - 5) == "ce09 is held by alice (soak) for 0 s", (
        "a clock that jumps"
    )


def test_of_the_stored_ones_a_device_has_its_newest() -> None:
    old, other, new = lease("1"), lease("2", "ce10"), lease("3", at=NOW + 1)
    assert newest([old, other, new]) == ([new, other], [old])
    assert newest([]) == ([], [])


@pytest.mark.parametrize("ttl", [1e300, 0.5])
def test_of_the_stored_ones_none_is_taken_up_that_could_not_be_given(ttl: float) -> None:
    good, damaged = lease("1"), replace(lease("2", at=NOW + 1), ttl=ttl)
    assert newest([good, damaged]) == ([good], [damaged])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["give", "tie", "untie", "end", "rename", "renew"]),
        st.sampled_from("abc"),
        st.sampled_from("abc"),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_is_entered_a_device_has_one_lease_and_a_lease_one_device(
    steps: Iterable[tuple[str, str, str]],
) -> None:
    it = LeaseBook()
    for number, (what, udid, other) in enumerate(steps):
        held = it.of(udid)
        match what:
            case "give" if held is None:
                it.give(lease(str(number), udid, at=NOW + number))
            case "tie" if held is not None:
                it.tie(held.id, NOW)
            case "untie" if held is not None and it.is_tied(held.id):
                it.untie(held.id)
            case "renew" if held is not None:
                it.renew(held.id, NOW + number)
            case "end" if held is not None:
                it.end(held.id, what)
            case "rename" if udid != other:
                moved, keeper = it.rename(udid, other), it.of(other)
                if moved is not None and keeper is not None and keeper.id != moved.id:
                    it.end(moved.id, what)
                assert it.of(udid) is None
        leases = it.all()
        assert {each.udid for each in leases} == set(it.devices)
        assert len(leases) == len(set(it.devices))
        assert [it.of(each.udid) for each in leases] == leases
        assert all(it.reading(each.udid).usage is Usage.IN_USE for each in leases)
