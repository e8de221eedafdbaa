"""Which device is next, and what its lane holds: rows in, decisions out."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.deliver.lane import FEWEST, PREFETCH, Lane, Lanes, Memory
from tests.kit.deliver import NOW_MS, make_callback

if TYPE_CHECKING:
    from agent.model import Callback


def row(rowid: int, udid: str = "a") -> Callback:
    return replace(make_callback(udid=udid, created_ms=NOW_MS + rowid), rowid=rowid)


def lanes(limit: int = 1000) -> Lanes:
    return Lanes(Memory(limit))


def rowids(lane: Lane) -> list[int]:
    return [callback.rowid for callback in lane.queue]


def test_lanes_take_turns_in_the_order_in_which_they_came() -> None:
    them = lanes()
    became_ready = [them.add(row(n, udid), room=True) for n, udid in enumerate("abab", 1)]
    assert became_ready == [True, True, False, False]
    first, second = them.next(), them.next()
    assert (first.udid, rowids(first)) == ("a", [1, 3])
    assert (second.udid, rowids(second)) == ("b", [2, 4])
    assert not them.ready
    assert (first.pop().rowid, them.go_on(first), list(them.ready)) == (1, True, ["a"])
    assert them.queued == them.memory.callbacks == 3


def test_a_lane_with_nothing_pending_is_forgotten() -> None:
    them = lanes()
    them.add(row(1), room=True)
    lane = them.next()
    lane.pop()
    assert "a" in them
    assert not them.go_on(lane)
    assert ("a" in them, len(them), them.oldest_ms) == (False, 0, 0)


def test_a_full_lane_leaves_the_rest_to_the_store() -> None:
    them = lanes()
    for n in range(1, PREFETCH + 3):
        them.add(row(n), room=True)
    lane = them.next()
    assert rowids(lane) == [*range(1, PREFETCH + 1)]
    for _ in range(PREFETCH):
        lane.pop()
    assert lane.more
    assert them.go_on(lane), "parked, to be loaded"
    assert them.parked == {"a": (PREFETCH, NOW_MS + PREFETCH)}


def test_without_room_a_lane_holds_its_heads_number_only() -> None:
    them = lanes(limit=0)
    assert them.add(row(7), room=False)
    assert not them.add(row(8), room=False)
    assert (them.active, them.parked) == ({}, {"a": (7, NOW_MS + 7)})
    lane = them.next()
    assert lane.load() == FEWEST
    lane.loaded([row(7), row(8)], FEWEST)
    assert lane.more, "there may be another"
    assert rowids(lane) == [7, 8]


def test_a_row_that_races_a_load_is_neither_lost_nor_taken_twice() -> None:
    them = lanes()
    them.park("a", 1, NOW_MS)
    lane = them.next()
    limit = lane.load()
    lane.take(row(3), room=True)  # committed behind what the load reads, notified before it is back
    lane.loaded([row(1), row(2)], limit)
    assert (rowids(lane), lane.more) == ([1, 2], True)
    lane.pop(), lane.pop()
    limit = lane.load()
    lane.loaded([row(3), row(4)], limit)
    lane.take(row(4), room=True)  # that the load read already, notified late
    assert (rowids(lane), lane.more) == ([3, 4], False)
    lane.pop(), lane.pop()
    lane.take(row(4), room=True)  # later still: only the store knows
    assert (rowids(lane), lane.more) == ([], True)


def wait(them: Lanes, udid: str, due: float, *, head: int = 1, asked: bool = False) -> None:
    them.wait(udid, (due, head, NOW_MS + head, asked))


def test_those_that_wait_are_ready_when_they_are_due() -> None:
    them = lanes()
    for udid, due in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        wait(them, udid, due)
    assert them.first_due() == 10
    them.wake_due(20)
    assert list(them.ready) == ["b", "c"]
    assert (them.first_due(), [*them.waiting]) == (30, ["a"])


def test_a_probe_takes_the_one_that_has_waited_longest_but_none_that_was_asked_to_wait() -> None:
    them = lanes()
    wait(them, "a", 10, asked=True)
    wait(them, "b", 30)
    wait(them, "c", 20)
    assert them.wake_longest()
    assert list(them.ready) == ["b"]
    assert them.wake_longest()
    assert not them.wake_longest()
    assert [*them.waiting] == ["a"]


def test_a_recovery_wakes_the_oldest_heads_first() -> None:
    them = lanes()
    for udid, head, asked in (("a", 3, False), ("b", 1, False), ("c", 2, True)):
        wait(them, udid, 10, head=head, asked=asked)
    them.wake_all(asked_too=False)
    assert (list(them.ready), [*them.waiting]) == (["b", "a"], ["c"])
    them.wake_all(asked_too=True)
    assert (list(them.ready), them.first_due()) == (["b", "a", "c"], None)


def test_due_times_of_lanes_that_were_woken_do_not_pile_up() -> None:
    them = lanes()
    for n in range(1000):
        wait(them, "a", 1000.0 - n)
        assert them.first_due() == 1000.0 - n
        them.wake_all(asked_too=True)
        them.next()
        del them.active["a"]
    wait(them, "a", 5)
    assert (them.first_due(), len(them.due) <= PREFETCH + 3) == (5, True)


def test_what_is_put_off_holds_nothing_and_is_nothing_to_the_garbage_collector() -> None:
    them = lanes()
    them.add(row(1), room=True)
    them.add(row(2), room=True)
    lane = them.next()
    lane.pop()
    them.put_off(lane, 10, asked=False)
    assert (them.queued, them.memory.callbacks, them.active) == (0, 0, {})
    assert them.waiting == {"a": (10, 1, NOW_MS + 1, False)}
    assert them.oldest_ms == NOW_MS + 1
    gc.collect()
    assert not gc.is_tracked(them.waiting["a"])
    them.wake_due(10)
    gc.collect()
    assert not gc.is_tracked(them.parked["a"])


# --- what others have made final ---------------------------------------------------------------


def test_a_ready_lane_goes_by_its_first_row_that_is_pending_still_or_is_forgotten() -> None:
    them = lanes()
    for n, udid in enumerate("abc", 1):
        them.add(row(n, udid), room=udid != "c")
    them.settle("a", 7, NOW_MS + 7)
    them.settle("b", 0, 0)
    them.settle("c", 0, 0)
    them.settle("nobody", 0, 0)
    assert (them.parked, them.active, list(them.ready)) == ({"a": (7, NOW_MS + 7)}, {}, ["a"])
    assert (them.queued, them.oldest_ms) == (0, NOW_MS + 7)


def test_a_lane_that_waits_goes_on_waiting_or_is_forgotten() -> None:
    them = lanes()
    for udid in "ab":
        them.wait(udid, (5.0, 1, NOW_MS, True))
    them.settle("a", 7, NOW_MS + 7)
    them.settle("b", 0, 0)
    assert them.waiting == {"a": (5.0, 7, NOW_MS + 7, True)}
    them.wait("b", (9.0, 8, NOW_MS, False))
    them.wake_due(6.0)
    assert (list(them.ready), them.first_due()) == (["a"], 9.0)


def test_a_load_that_was_under_way_counts_no_more() -> None:
    them = lanes()
    them.add(row(1), room=False)
    lane = them.next()
    limit = lane.load()
    them.settle("a", 3, NOW_MS + 3)
    lane.loaded([row(1), row(2), row(3)], limit)
    assert (rowids(lane), lane.more) == ([], True), "to be loaded anew"
    lane.loaded([row(3)], lane.load())
    assert (rowids(lane), lane.more) == ([3], False)


def test_a_busy_lane_holds_nothing_and_is_loaded_when_its_turn_is_over() -> None:
    them = lanes()
    for n in (1, 2, 3):
        them.add(row(n), room=True)
    lane = them.next()
    lane.pop()
    them.settle("a", 0, 0)
    assert (rowids(lane), them.go_on(lane)) == ([], True)
    again = them.next()
    again.loaded([], again.load())
    assert not them.go_on(again)
    assert "a" not in them
