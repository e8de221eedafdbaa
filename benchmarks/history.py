"""A report of a year of 1,000 phones, and of 30 days of a hub's 10,000: time, bytes, pauses."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from agent.clock import LoopClock
from agent.config import Delivery
from agent.history.days import DAY_MS, Day, day_of, pack
from agent.history.replay import Replay
from agent.history.seen import Watch, Watched
from agent.model import DeviceRecord, DeviceState, Platform, SourceName, Transition, Visibility
from agent.service.causes import Causes
from agent.service.report import Reports
from agent.store import Store
from agent.store.files import STATE_NAME, connect, create
from agent.store.tables import days, devices, transitions, watching
from agent.track.views import DeviceView
from agent.track.watching import Watching
from benchmarks.report import Figure

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from agent.track.tracker import Tracker

RETENTION = 30
"""Days of which the transitions are there."""
SEES = dict.fromkeys(SourceName, True)
CODES = ("unauthorized", "not_seen_by_adb", "unresponsive", "recovery", "source_down")
TICK = 0.001


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    phones, length = (200, 60) if quick else (1_000, 365)
    figures = await _measured(directory, "host", phones, length, 20.0)
    if not quick:
        figures += await _measured(directory, "hub", 10_000, 30, None)
    return figures


async def _measured(
    directory: Path, name: str, phones: int, length: int, most: float | None
) -> list[Figure]:
    place = directory / name
    place.mkdir()
    now = LoopClock().wall_ms()
    packed = await asyncio.to_thread(_fill, place, phones, length, now)
    store = Store.open(place, settings=Delivery(), clock=LoopClock(), on_health=lambda _: None)
    watch = Watching(store.watching, dict, LoopClock())
    tracker = cast("Tracker", _Tracker(_udids(phones)))
    reports = Reports(tracker, store, watch, Causes(tracker, store, LoopClock(), ""))
    what = f"{phones:,} phones, {length} days"
    took, longest, spent = [], [], []
    for by in ("device", "hub", "device", "tag", "device"):
        before = time.process_time()
        seconds, pause = await _timed(reports, {"since": f"{length - 1}d", "by": by})
        spent.append(time.process_time() - before)
        took.append(seconds)
        longest.append(pause)
    short, _ = await _timed(reports, {"since": "30h"})
    await store.close()
    took.sort()
    longest.sort()
    spent.sort()
    return [
        Figure(
            f"history: a report of {what}",
            f"{took[2]:.2f} s",
            f"{took[0]:.2f} to {took[-1]:.2f}",
            "< 1 s" if most else "",
            took[2] < 1 if most else None,
        ),
        Figure(
            f"history: CPU of it, {what}",
            f"{spent[2]:.2f} s",
            f"{spent[0]:.2f} to {spent[-1]:.2f}",
        ),
        Figure(
            f"history: longest pause of the loop meanwhile, {what}",
            f"{longest[2] * 1000:.0f} ms",
            f"{longest[0] * 1000:.0f} to {longest[-1] * 1000:.0f}",
            "≤ 50 ms",
            longest[2] <= 0.05,
        ),
        Figure(f"history: a report of 30 hours, {phones:,} phones", f"{short:.2f} s"),
        Figure(
            f"history: by how much the file grows, {what}",
            f"{packed / 1e6:.1f} MB",
            f"{packed / phones / length:.0f} bytes a phone and day",
            f"< {most:.0f} MB" if most else "",
            packed / 1e6 < most if most else None,
        ),
    ]


async def _timed(reports: Reports, query: dict[str, str]) -> tuple[float, float]:
    """Seconds of a report, written as JSON; and of the longest pause of the loop meanwhile."""
    longest, over = 0.0, False

    async def tick() -> None:
        nonlocal longest
        last = time.monotonic()
        while not over:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            longest, last = max(longest, now - last - TICK), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    longest = 0.0
    began = time.monotonic()
    answer = await reports.report(query)
    took = time.monotonic() - began
    over = True
    await ticking
    began = time.monotonic()
    json.dumps(answer)  # which the API does in slices
    return took + time.monotonic() - began, longest


# --- a year ------------------------------------------------------------------------------------


def _udids(phones: int) -> list[str]:
    rng = random.Random(1)
    return [
        rng.randbytes(10).hex() if number % 3 else f"00008120-{rng.randbytes(8).hex().upper()}"
        for number in range(phones)
    ]


def _fill(place: Path, phones: int, length: int, now: int) -> int:
    """A store of so many days up to now; by how many bytes the packed ones made it grow."""
    rng = random.Random(2)
    udids = _udids(phones)
    of = {udid: Platform.IOS if "-" in udid else Platform.ANDROID for udid in udids}
    path = place / STATE_NAME
    create(path)
    with closing(connect(path)) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        devices.put(conn, [DeviceRecord(udid, of[udid], DeviceState.ONLINE, 0) for udid in udids])
        today, states, stored = day_of(now), dict[str, DeviceState](), 0
        replay: Replay | None = None
        blobs = []
        for day in range(today - length, today + 1):
            end = min((day + 1) * DAY_MS, now)
            looked = _looked(rng, day, end)
            made = _day(rng, udids, states, day, end)
            if day >= today - RETENTION:
                conn.execute("BEGIN")
                transitions.add(conn, made)
                for each in looked:
                    watching.put(conn, each, None)
                conn.execute("COMMIT")
            if day == today:
                break
            standing = {} if replay is None else replay.standing
            begin = day * DAY_MS
            replay = Replay(0, standing, Watch(looked), of, begin, begin, end)
            for number, transition in enumerate(made):
                replay.take(number + 1, transition)
            replay.close()
            before, stored = stored, transitions.newest_id(conn)
            last = Day(end, stored, stored, before + len(made) + 1, standing, replay.figures)
            blobs.append((day, pack(last)))
        size = _size(conn)
        conn.execute("BEGIN")
        for day, blob in blobs:
            days.put(conn, day, blob)
        days.roll_on(conn, today, today)
        days.close(conn, (today - RETENTION) * DAY_MS)
        conn.execute("COMMIT")
        return _size(conn) - size


def _size(conn: sqlite3.Connection) -> int:
    pages, free, size = (
        conn.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _looked(rng: random.Random, day: int, end: int) -> list[Watched]:
    """All day, but for an adb server that was down and an agent that was restarted."""
    at = sorted(rng.randrange(day * DAY_MS, end) for _ in range(3))
    down = {**SEES, SourceName.ADB: False}
    return [
        Watched("", day * DAY_MS, at[0], SEES),
        Watched("", at[0], at[0] + 4_000, down),
        Watched("", at[0] + 4_000, at[1], SEES),
        Watched("", at[1] + 2_000, end, SEES),
    ]


def _day(
    rng: random.Random, udids: list[str], states: dict[str, DeviceState], day: int, end: int
) -> list[Transition]:
    """2 to 10 transitions of each phone; every fiftieth hangs elsewhere than the day before."""
    made: list[Transition] = []
    for number, udid in enumerate(udids):
        moves = day if number % 50 == day % 50 else 0
        port = f"{1 + number % 8}-{1 + moves % 4}.{1 + number // 8 % 7}"
        times = sorted(rng.randrange(day * DAY_MS, end) for _ in range(rng.randint(2, 10)))
        for at in times:
            before = states.get(udid)
            state = _next(rng, before)
            code = {
                DeviceState.OFFLINE: rng.choice(CODES),
                DeviceState.UNPLUGGED: "not_on_usb",
            }.get(state, "")
            made.append(Transition(udid, before, state, "", at, code=code, port=port))
            states[udid] = state
    return sorted(made, key=lambda each: each.at_ms)


def _next(rng: random.Random, before: DeviceState | None) -> DeviceState:
    if before is not DeviceState.ONLINE:
        return DeviceState.ONLINE
    return rng.choices(
        (DeviceState.UTILIZING, DeviceState.OFFLINE, DeviceState.UNPLUGGED), (8, 3, 1)
    )[0]


class _Tracker:
    """Shows the phones."""

    def __init__(self, udids: list[str]) -> None:
        self._udids = udids
        self._views = {udid: _view(number, udid) for number, udid in enumerate(udids)}
        self.views = self

    def udids(self) -> list[str]:
        return self._udids

    def one(self, udid: str) -> DeviceView | None:
        return self._views.get(udid)


def _view(number: int, udid: str) -> DeviceView:
    given: dict[str, Any] = {
        "udid": udid,
        "name": f"Phone {number}",
        "platform": Platform.IOS if "-" in udid else Platform.ANDROID,
        "state": DeviceState.ONLINE,
        "reason": "",
        "since_ms": 0,
        "holder": "",
        "port": "",
        "tags": (f"rack-{number % 10}",),
        "visibility": Visibility.PRIVATE,
        "flapping": False,
        "model": f"Model {number % 30}",
        "silence": None,
        "told": None,
    }
    return DeviceView(**given)
