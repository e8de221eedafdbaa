"""Which times are written down as watched."""

from __future__ import annotations

from agent.history.seen import Gap, Seen, Watch, Watched
from agent.history.watch import LATE, LOOK_EVERY, MOST, Looks, Sight
from agent.model import Platform, SourceName

ADB, USBMUX, UDEV = SourceName.ADB, SourceName.USBMUX, SourceName.UDEV
ALL = {"": Sight({ADB: True, USBMUX: True, UDEV: True})}
NO_ADB = {"": Sight({ADB: False, USBMUX: True, UDEV: True})}


class Bench:
    """Looks at two clocks that a test turns."""

    def __init__(self) -> None:
        self.looks = Looks()
        self.wall, self.now = 1_000_000, 50.0

    def look(self, after: float, sights: dict[str, Sight], set_by: float = 0.0) -> None:
        """So many seconds later; the wall clock was set meanwhile."""
        self.now += after
        self.wall += round((after + set_by) * 1000)
        self.looks.look(self.wall, self.now, sights)

    @property
    def times(self) -> list[tuple[int, int]]:
        """What is to be stored, in seconds since the beginning."""
        rows = sorted(self.looks.unsaved(), key=lambda row: row.start_ms)
        return [
            ((row.start_ms - 1_000_000) // 1000, (row.end_ms - 1_000_000) // 1000) for row in rows
        ]


def test_one_time_goes_on_while_the_same_is_seen() -> None:
    bench = Bench()
    for _ in range(4):
        bench.look(5, ALL)
    assert bench.times == [(5, 20)]


def test_a_clock_that_is_set_while_the_agent_starts_makes_no_years_seen() -> None:
    bench = Bench()
    began_ms, began = 0, bench.now
    bench.now += 2
    bench.looks.begin(bench.wall, bench.now, ALL, began_ms, began)  # 1,000 s by the wall clock
    bench.look(5, ALL)
    assert bench.times == [(0, 5)]


def test_what_was_seen_since_the_start_is_watched() -> None:
    bench = Bench()
    bench.looks.begin(bench.wall, bench.now, ALL, bench.wall - 2_000, bench.now - 2)
    bench.look(5, ALL)
    assert bench.times == [(-2, 5)]


def test_another_begins_where_other_sources_see() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(3, NO_ADB)
    bench.look(4, NO_ADB)
    bench.look(2, ALL)
    bench.look(5, ALL)
    assert bench.times == [(0, 3), (3, 9), (9, 14)]


def test_nobody_looked_while_the_process_stood_still() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(5, ALL)
    bench.look(LOOK_EVERY + LATE + 1, ALL)
    bench.look(5, ALL)
    assert bench.times == [(0, 5), (13, 18)]


def test_a_busy_machine_looks_all_the_same() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(LOOK_EVERY + LATE, ALL)
    assert bench.times == [(0, 7)]


def test_a_suspend_is_seen_by_nobody() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(5, ALL, set_by=3_600)  # the monotonic clock stands still in it
    bench.look(5, ALL)
    assert bench.times == [(0, 0), (3_605, 3_610)]


def test_a_clock_that_is_set_back_begins_another_time() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(5, ALL)
    bench.look(5, ALL, set_by=-60)
    bench.look(5, ALL)
    assert bench.times == [(-50, -45), (0, 5)]


def test_a_clock_that_is_slewed_changes_nothing() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(5, ALL, set_by=-0.5)
    bench.look(5, ALL, set_by=0.5)
    assert bench.times == [(0, 10)]


def test_a_host_is_watched_as_far_as_it_was_heard() -> None:
    bench = Bench()
    bench.look(0, {"A": Sight({ADB: True}), "B": Sight({ADB: True}, 2.0)})
    bench.look(5, {"A": Sight({ADB: True}, 1.0), "B": Sight({ADB: True}, 7.0)})
    bench.look(5, {"A": Sight({ADB: True}, 0.0)})
    rows = {
        row.host: (row.start_ms - 1_000_000, row.end_ms - 1_000_000)
        for row in bench.looks.unsaved()
    }
    assert rows == {"A": (0, 10_000), "B": (-2_000, -2_000)}


def test_what_is_stored_is_not_stored_again_unless_it_moves() -> None:
    bench = Bench()
    bench.look(0, ALL)
    first = bench.looks.take()
    assert len(first) == 1
    assert bench.looks.take() == []
    bench.look(5, ALL)
    assert bench.looks.take() == first


def test_what_begins_is_stored_soon_and_what_goes_on_is_not() -> None:
    bench = Bench()
    bench.look(0, ALL)
    told = [bench.looks.urgent]
    bench.looks.take()
    for sights in (ALL, ALL, NO_ADB):
        bench.look(5, sights)
        told.append(bench.looks.urgent)
    assert told == [True, False, False, True]


def test_what_could_not_be_stored_waits_and_is_bounded() -> None:
    bench = Bench()
    for number in range(MOST + 10):
        bench.look(1, ALL if number % 2 else NO_ADB)
    taken = bench.looks.take()
    bench.looks.put_back(taken)
    kept = bench.looks.take()
    assert kept == taken[-MOST:]


def test_the_end_is_the_end() -> None:
    bench = Bench()
    bench.look(0, ALL)
    bench.look(5, ALL)
    bench.looks.end()
    bench.look(100, ALL)
    assert bench.times == [(0, 5), (105, 105)]


def test_a_phone_is_seen_by_its_bridge_and_by_a_udev_that_is_on() -> None:
    watch = Watch(
        [
            Watched("", 0, 10, {ADB: True, USBMUX: False, UDEV: True}),
            Watched("", 10, 20, {ADB: True, USBMUX: True, UDEV: False}),
            Watched("", 20, 30, {ADB: False, USBMUX: True}),
            Watched("", 40, 50, {USBMUX: True}),
            Watched("A", 30, 40, {ADB: True}),
        ]
    )
    assert watch.seen(Platform.ANDROID, "").within(0, 100) == 10
    assert watch.seen(Platform.IOS, "").within(0, 100) == 20
    assert watch.seen(Platform.IOS, "").within(25, 45) == 10
    assert watch.seen(Platform.ANDROID, "A").within(0, 100) == 10
    assert watch.gaps(Platform.ANDROID, "", 0, 45) == [
        Gap(10, 20, frozenset({UDEV})),
        Gap(20, 30, frozenset({ADB})),
        Gap(30, 40, frozenset()),
        Gap(40, 45, frozenset({ADB})),
    ]


def test_times_that_overlap_count_once() -> None:
    seen = Seen([(10, 20), (15, 30), (5, 12), (40, 40), (50, 60)])
    assert seen.within(0, 100) == 35
    assert seen.within(29, 51) == 2
    assert seen.within(20, 20) == 0


def test_too_many_gaps_are_told_as_fewer() -> None:
    # An adb server that dies every 10 s, but for one long quiet time.
    rows = [
        Watched("", start, start + 10_000, {ADB: number % 2 == 0, UDEV: True})
        for number in range(2_000)
        for start in (number * 10_000 + (5_000_000 if number >= 1_001 else 0),)
    ]
    end = rows[-1].end_ms
    every = Watch(rows).gaps(Platform.ANDROID, "", 0, end)
    assert len(every) > 900
    few = Watch(rows, 4).gaps(Platform.ANDROID, "", 0, end)
    assert len(few) <= 4
    assert few[0].start_ms <= every[0].start_ms
    assert few[-1].end_ms == every[-1].end_ms
    assert all(any(a.start_ms <= b.start_ms and b.end_ms <= a.end_ms for a in few) for b in every)
    assert Watch(rows, 5_000).gaps(Platform.ANDROID, "", 0, end) == every
    assert Watch(rows, 4).seen(Platform.ANDROID, "").within(0, end) == 1_000 * 10_000
