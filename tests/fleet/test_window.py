"""What goes into the stream next, and how long the next try is waited for."""

from __future__ import annotations

import random

from agent.fleet.backoff import FIRST, LAST, Backoff
from agent.fleet.window import SIZE, Window
from tests.kit.clock import StubClock
from tests.kit.seed import seed


def test_rows_go_in_order_as_many_at_a_time_as_there_is_room() -> None:
    window = Window(3, size=2)
    assert (window.position, window.room) == (3, 2)
    window.begin(4)
    window.begin(5)
    assert (window.position, window.room) == (5, 0)
    window.done(5)
    assert (window.position, window.room) == (5, 1)


def test_rows_that_the_hub_got_while_they_were_read_do_not_go() -> None:
    window = Window(0, size=2)
    window.acked(2)
    assert [window.begin(id_) for id_ in (1, 2, 3, 4, 5)] == [False, False, True, True, False]
    window.failed(3)
    assert not window.begin(5)
    window.done(4)
    window.acked(3)  # while the next try was waited for
    window.resume()
    assert window.position == 4


def test_what_the_broker_does_not_take_goes_again_with_all_behind_it() -> None:
    window = Window(0)
    for id_ in (1, 2, 3, 4):
        window.begin(id_)
    window.done(1)
    window.failed(3)
    assert (window.room, window.stalled) == (0, False)  # 2 and 4 are under way
    window.failed(2)
    window.done(4)
    assert (window.room, window.stalled) == (0, True)
    window.resume()
    assert (window.position, window.room, window.stalled) == (1, SIZE, False)


def test_what_the_hub_has_needs_no_other_try() -> None:
    window = Window(0)
    for id_ in (1, 2, 3):
        window.begin(id_)
    window.failed(2)
    window.acked(2)
    assert window.room == SIZE - 2  # 1 and 3
    window.acked(9)
    assert window.position == 9


def test_whatever_happens_every_row_gets_there() -> None:
    chance = random.Random(seed(7))
    for _ in range(200):
        newest, size = chance.randrange(1, 40), chance.randrange(1, 6)
        window = Window(0, size)
        under_way: list[int] = []
        taken: set[int] = set()
        acked = 0
        faults = chance.randrange(0, 20)
        for _ in range(10_000):
            if window.stalled:
                window.resume()
            choice = chance.random()
            if choice < 0.5 and window.room and window.position < newest:
                id_ = window.position + 1
                assert id_ not in under_way
                assert window.begin(id_)
                under_way.append(id_)
                assert len(under_way) <= size
            elif choice < 0.9 and under_way:
                id_ = under_way.pop(chance.randrange(len(under_way)))
                if faults and chance.random() < 0.5:
                    faults -= 1
                    window.failed(id_)
                else:
                    taken.add(id_)
                    window.done(id_)
            elif choice > 0.98:
                acked = chance.randrange(acked, newest + 1)  # it asked for what it misses
                window.acked(acked)
            if taken | set(range(acked + 1)) >= set(range(newest + 1)):
                break
        assert taken | set(range(1, acked + 1)) >= set(range(1, newest + 1))


def test_pauses_grow_to_a_bound_with_jitter_and_begin_anew() -> None:
    chance = random.Random(seed(3))
    backoff = Backoff(StubClock(jitter=chance.random))
    step = FIRST
    for _ in range(12):
        assert step * 0.5 <= backoff.pause() <= step * 1.5
        step = min(LAST, step * 2)
    assert step == LAST
    backoff.reset()
    assert backoff.pause() <= FIRST * 1.5
