"""Reports are exact, whatever happened: held against brute force, through the store's own tables.

Transitions, blind times, clocks that are set, days that are reckoned up, a roller that dies in the
middle, retention: after any of it, a report of any range says what all that ever happened says.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.history.days import DAY_MS
from agent.history.replay import Figures
from agent.history.seen import Watched
from agent.history.watch import Written
from agent.model import DeviceRecord, DeviceState, Platform, SourceName, Transition
from agent.service.reckon import reckon
from agent.store import retention
from agent.store.files import create, open_existing
from agent.store.rollup import Roller
from agent.store.tables import days, devices, transitions, watching
from tests.history.brute import World
from tests.kit.examples import examples

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from agent.store import Store

PHONES = {
    "ce0917198075440c057e": Platform.ANDROID,
    # Twins: the second has its own name, and rows of its own.
    "ce0917198075440c057e@pci-0000:00:14.0-usb-0:4.2": Platform.ANDROID,
    "00008120-000A2D3C0E91801E": Platform.IOS,
}
FIRST = 20_000 * DAY_MS
HOUR = 3_600_000
WHAT = ("pass", "move", "look", "look on", "set", "roll", "die", "sweep", "report")
WEIGHTS = (12, 36, 10, 12, 4, 10, 2, 5, 9)


class AtOnce:
    """The tables' access to a connection, without the writer's thread."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def ask(self, question: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(question(self._conn))
        return future


class Tables:
    """What `reckon` asks of a store."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        access = cast("Any", AtOnce(conn))
        self.days = days.Days(access)
        self.transitions = transitions.Transitions(access)
        self.watching = watching.Watching(access)


class Bench:
    """A store's file, and all that ever happened."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.world = World(PHONES)
        self.now = FIRST + 5 * HOUR
        self.states: dict[str, DeviceState] = {}
        self.roller = Roller(2, 0.0)
        self.open: Written | None = None
        devices.put(
            conn,
            [DeviceRecord(udid, of, DeviceState.ONLINE, 0) for udid, of in PHONES.items()],
        )

    def move(self, udid: str, state: DeviceState, host: str, port: str, code: str) -> None:
        before = self.states.get(udid)
        if before is state:
            return
        self.states[udid] = state
        made = Transition(udid, before, state, "why", self.now, host=host, port=port, code=code)
        final = [each.day for each in days.listed(self.conn).days if each.final]
        self.world.move(made, (final[-1] + 1) * DAY_MS if final else 0)
        transitions.add(self.conn, [made])

    def look(self, host: str, sees: dict[SourceName, bool], lasts: int) -> None:
        self.open = Written(host, self.now, self.now, sees)
        self.look_on(lasts)

    def look_on(self, lasts: int) -> None:
        if self.open is None:
            return
        self.now += lasts
        row, seen_to = self.open, self.open.end_ms
        row.end_ms = max(row.end_ms, self.now)
        final = {each.day for each in days.listed(self.conn).days if each.final}
        row.row = watching.put(self.conn, row.as_watched(), row.row)
        # What is told of a day that is final comes too late.
        for start, end in by_day(seen_to, row.end_ms):
            if start // DAY_MS not in final:
                self.world.watched.append(Watched(row.host, start, end, row.sees))

    def roll(self, steps: int) -> None:
        for _ in range(steps):
            if not self.roller.step(self.conn, self.now):
                break

    def report(self, ago: int, lasts: int) -> None:
        since = max(0, self.now - ago)
        until = max(since + 1, min(self.now, since + lasts))
        store = cast("Store", Tables(self.conn))
        found = asyncio.run(reckon(store, PHONES, [], since, until))
        assert found.since <= since
        assert until <= found.until
        if (found.since, found.until) != (since, until):
            final = {each.day for each in days.listed(self.conn).days if each.final}
            assert final
            assert found.since in {since, since // DAY_MS * DAY_MS}
        wanted = self.world.figures(found.since, found.until)
        assert {at: each for at, each in found.figures.items() if each != Figures()} == wanted


def by_day(start: int, end: int) -> list[tuple[int, int]]:
    edges = [start, *range(-(-(start + 1) // DAY_MS) * DAY_MS, end, DAY_MS), end]
    return [(left, right) for left, right in pairwise(edges) if left < right]


def do(bench: Bench, rng: Random) -> None:
    """One thing happens."""
    match rng.choices(WHAT, WEIGHTS)[0]:
        case "pass":
            bench.now += passes(rng)
        case "move":
            bench.move(
                rng.choice(sorted(PHONES)),
                rng.choice(list(DeviceState)),
                rng.choice(["", "", "rack-3"]),
                rng.choice(["", "1-4.2", "2-1"]),
                rng.choice(["", "unauthorized", "not_on_usb"]),
            )
        case "look":
            of = rng.choice([(), (SourceName.UDEV,)])
            sees = {each: rng.random() < 0.8 for each in (SourceName.ADB, SourceName.USBMUX, *of)}
            bench.look(rng.choice(["", "", "rack-3"]), sees, passes(rng))
        case "look on":
            bench.look_on(passes(rng))
        case "set":
            bench.open = bench.open if rng.random() < 0.3 else None
            by = rng.choice([HOUR, DAY_MS, 3 * DAY_MS])
            bench.now = max(FIRST, bench.now + rng.randint(-by, by))
        case "roll":
            bench.roll(rng.choice([1, 2, 3, 1_000]))
        case "die":
            bench.roller = Roller(2, 0.0)
        case "sweep":
            retention.sweep(bench.conn, bench.now - rng.choice([0, HOUR, DAY_MS, 4 * DAY_MS]))
        case "report":
            bench.report(rng.randint(0, 8 * DAY_MS), rng.choice([HOUR, DAY_MS, 8 * DAY_MS]))


def passes(rng: Random) -> int:
    return rng.choice([0, 1, rng.randint(0, 90_000), rng.randint(0, 6 * HOUR), DAY_MS])


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 32))
def test_reports_are_exact(seed: int) -> None:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        path = Path(place) / "state.db"
        create(path)
        conn = open_existing(path)
        stack.callback(conn.close)
        bench = Bench(conn)
        for _ in range(rng.randint(5, 90)):
            do(bench, rng)
        month = 30 * DAY_MS
        bench.report(month, month)
        bench.roll(1_000)
        bench.report(month, month)
        retention.sweep(conn, bench.now - DAY_MS)
        bench.report(month, month)
        bench.report(2 * DAY_MS + HOUR, DAY_MS)
