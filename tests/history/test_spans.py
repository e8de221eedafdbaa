"""A phone's stays, and how a picture of many is made."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.history.seen import Gap, Seen, Watch, Watched, sees
from agent.history.spans import coarse, spans_of
from agent.model import DeviceState, Platform, SourceName, Transition
from tests.kit.examples import examples

ONLINE, OFFLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.UNPLUGGED


def went(*moves: tuple[int, DeviceState]) -> list[Transition]:
    return [Transition("a", None, state, "", at) for at, state in moves]


def test_stays_follow_each_other_to_the_end_of_the_range() -> None:
    spans = spans_of(went((0, ONLINE), (50, OFFLINE), (80, ONLINE), (120, OFFLINE)), 10, 100)
    told = [(each.start_ms, each.end_ms, each.state, each.began_ms) for each in spans]
    assert told == [(10, 50, ONLINE, 0), (50, 80, OFFLINE, 50), (80, 100, ONLINE, 80)]
    assert spans_of([], 0, 10) == []
    assert spans_of(went((20, ONLINE)), 0, 10) == []


def test_a_clock_that_was_set_back_leaves_no_stay_of_less_than_nothing() -> None:
    spans = spans_of(went((50, ONLINE), (30, OFFLINE), (40, UNPLUGGED), (60, ONLINE)), 0, 100)
    told = [(each.start_ms, each.end_ms, each.state) for each in spans]
    assert told == [(50, 60, UNPLUGGED), (60, 100, ONLINE)]


def test_a_run_of_short_stays_is_the_worst_of_them_and_a_lonely_one_remains() -> None:
    moves = went(
        *((0, ONLINE), (100, OFFLINE), (101, ONLINE), (200, OFFLINE), (203, UNPLUGGED)),
        *((205, OFFLINE), (206, ONLINE)),
    )
    shown, left_out = coarse(spans_of(moves, 0, 300), 10)
    told = [(each.start_ms, each.end_ms, each.state) for each in shown]
    assert told == [
        (0, 100, ONLINE),
        (100, 101, OFFLINE),
        (101, 200, ONLINE),
        (200, 206, UNPLUGGED),
        (206, 300, ONLINE),
    ]
    assert left_out == 2


@given(st.integers(0, 1 << 32), st.integers(1, 60))
def test_a_picture_has_no_hole_and_few_stays(seed: int, below: int) -> None:
    rng = Random(seed)
    times = sorted(rng.sample(range(1_000), rng.randint(1, 200)))
    spans = spans_of(went(*((at, rng.choice(list(DeviceState))) for at in times)), 0, 1_000)
    shown, left_out = coarse(spans, below)
    edges = [each.start_ms for each in shown] + [shown[-1].end_ms]
    assert edges == sorted(set(edges))
    assert (edges[0], edges[-1]) == (times[0], 1_000)
    assert len(shown) + left_out == len(spans)
    assert len(shown) <= 2 * (1_000 // below) + 1
    assert {each.state for each in shown} <= {each.state for each in spans}


@settings(max_examples=examples(200))
@given(st.integers(0, 1 << 32))
def test_who_was_seen_is_who_was_seen_each_moment(seed: int) -> None:
    rng = Random(seed)
    rows = []
    for _ in range(rng.randint(0, 8)):
        start = rng.randrange(60)
        told = {each: rng.random() < 0.7 for each in SourceName if rng.random() < 0.8}
        rows.append(Watched(rng.choice(["", "A"]), start, start + rng.randrange(30), told))
    watch = Watch(rows)
    start = rng.randrange(80)
    end = start + rng.randint(1, 40)
    for platform in Platform:
        moments = {
            at
            for at in range(start, end)
            for row in rows
            if row.host == "" and row.start_ms <= at < row.end_ms and sees(platform, row.sees)
        }
        assert watch.seen(platform, "").within(start, end) == len(moments)
        gaps = watch.gaps(platform, "", start, end)
        unseen = [at for gap in gaps for at in range(gap.start_ms, gap.end_ms)]
        assert unseen == [at for at in range(start, end) if at not in moments]


def test_nothing_is_seen_where_nobody_looked() -> None:
    assert Seen([]).within(0, 10) == 0
    assert Watch([]).gaps(Platform.IOS, "", 3, 9) == [Gap(3, 9, frozenset())]
