"""Days that are over are reckoned up, and stay when their transitions are gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from agent.config import Delivery
from agent.history.days import DAY_MS, FOREIGN, Day, Sums, left_of, pack
from agent.history.replay import Figures, Place, Standing
from agent.history.seen import Watched
from agent.model import DeviceState, Platform, SourceName, Transition
from agent.service.reckon import reckon
from agent.store.files import STATE_NAME, connect, create, open_existing
from agent.store.migrate import migrate, scripts
from agent.store.retention import sweep
from agent.store.rollup import GRACE_MS, Roller
from agent.store.tables import days, devices, meta, transitions, watching
from tests.kit.clock import StubClock
from tests.kit.settings import section
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT
from tests.store.samples import device

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

FIRST = 20_000
MORNING = FIRST * DAY_MS + 8 * 3_600_000
UDID = "phone-1"
OF = {UDID: Platform.ANDROID}
HOUR = 3_600_000


def moved(udid: str, before: DeviceState | None, state: DeviceState, at_ms: int) -> Transition:
    return Transition(udid, before, state, "", at_ms, port="1-4.2")


def lived(conn: sqlite3.Connection, count: int) -> None:
    """So many days of a phone that is online at 8:00 and unplugged at 20:00, and watched."""
    devices.put(conn, [device(UDID)])
    before: DeviceState | None = None
    for number in range(count):
        for hours, state in ((0, DeviceState.ONLINE), (12, DeviceState.UNPLUGGED)):
            at = MORNING + number * DAY_MS + hours * HOUR
            transitions.add(conn, [moved(UDID, before, state, at)])
            before = state
    sees = {SourceName.ADB: True}
    watching.put(conn, Watched("", MORNING, MORNING + count * DAY_MS, sees), None)


def roll(conn: sqlite3.Connection, now_ms: int) -> None:
    roller = Roller(3, 0.0)
    while roller.step(conn, now_ms):
        pass


def in_memory(tmp_path: Path) -> sqlite3.Connection:
    create(tmp_path / STATE_NAME)
    return open_existing(tmp_path / STATE_NAME)


def listed(conn: sqlite3.Connection) -> list[tuple[int, bool]]:
    return [(each.day - FIRST, each.final) for each in days.listed(conn).days]


def test_a_day_is_reckoned_up_once_it_is_over_for_a_while(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 3)
    over = (FIRST + 1) * DAY_MS
    roll(conn, over + GRACE_MS - 1)
    assert listed(conn) == []
    roll(conn, over + GRACE_MS)
    assert listed(conn) == [(0, False)]
    roll(conn, over + 10 * DAY_MS)
    assert listed(conn) == [(0, False), (1, False), (2, False), (3, False)]
    assert days.rolled(conn) == FIRST + 10  # there is nothing in the other days
    conn.close()


def test_no_transition_goes_before_its_day_is_reckoned_up(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 4)
    late = MORNING + 100 * DAY_MS
    sweep(conn, late)
    assert transitions.newest_id(conn) == 8
    assert len(transitions.between(conn, 0, 99, 99)) == 8
    roll(conn, (FIRST + 2) * DAY_MS + GRACE_MS)
    sweep(conn, late)
    # Those of the first two days are gone, and the days are final.
    assert [each.id for each in transitions.between(conn, 0, 99, 99)] == [5, 6, 7, 8]
    assert listed(conn) == [(0, True), (1, True)]
    roll(conn, late)
    sweep(conn, late)
    # The newest stays for ever; what was watched is needed no more.
    assert [each.id for each in transitions.between(conn, 0, 99, 99)] == [8]
    assert watching.within(conn, 0, late) == []
    assert all(final for _, final in listed(conn))
    conn.close()


def test_what_is_written_of_a_day_later_has_it_reckoned_up_anew(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 3)
    roll(conn, (FIRST + 3) * DAY_MS + GRACE_MS)
    assert days.rolled(conn) == FIRST + 3
    again = moved(UDID, DeviceState.UNPLUGGED, DeviceState.OFFLINE, MORNING + DAY_MS + HOUR)
    transitions.add(conn, [again])
    assert days.rolled(conn) == FIRST + 1
    assert listed(conn) == [(0, False)]  # the others are no longer so
    roll(conn, (FIRST + 3) * DAY_MS + GRACE_MS)
    assert days.rolled(conn) == FIRST + 3
    conn.close()


def test_a_day_that_changes_while_it_is_worked_on_is_begun_anew(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 2)
    now = (FIRST + 1) * DAY_MS + GRACE_MS
    roller = Roller(1, 0.0)
    assert roller.step(conn, now)
    late = moved("phone-2", None, DeviceState.ONLINE, MORNING + HOUR)
    devices.put(conn, [device("phone-2")])
    transitions.add(conn, [late])
    while roller.step(conn, now):
        pass
    assert listed(conn) == [(0, False)]
    left = days.left_before(conn, FIRST + 1)
    assert left.standing["phone-2"].at == late.at_ms
    conn.close()


def test_days_are_kept_for_years_and_no_longer(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    packed = pack(Day(DAY_MS, 0, 0, 1, {}, {}))
    for day in range(days.KEPT + 5):
        days.put(conn, day, packed)
    days.expire(conn)
    found = conn.execute("SELECT count(*), min(day) FROM days").fetchone()
    assert found == (days.KEPT, 5)
    conn.close()


def test_a_day_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 2)
    roll(conn, (FIRST + 2) * DAY_MS + GRACE_MS)
    conn.execute("UPDATE days SET said = x'0100' WHERE day = ?", (FIRST + 1,))
    assert days.left_before(conn, FIRST + 2).end_ms == (FIRST + 1) * DAY_MS
    conn.execute("UPDATE watching SET sees = 'no JSON'")
    assert [row.sees for row in watching.within(conn, 0, MORNING * 2)] == [{}]
    conn.close()


@pytest.mark.parametrize("cut", [0, 1, 3, 9, 40, 200])
def test_what_is_cut_short_is_no_day(cut: int) -> None:
    place = Place(UDID, "", "1-4.2")
    figures = Figures([1, 2, 3, 4], 5, [1, 0, 1, 1], 1, 7, 0, {"unauthorized": [2, 7]})
    standing = {UDID: Standing(DAY_MS - 5, DeviceState.OFFLINE, "unauthorized", "", "1-4.2", 5, 7)}
    packed = pack(Day(DAY_MS, 4, 3, 5, standing, {place: figures}))
    sums = Sums()
    sums.add(packed)
    assert sums.figures() == {place: figures}
    assert left_of(packed).standing == standing
    with pytest.raises(ValueError, match=r"."):
        Sums().add(packed[:cut] if cut < len(packed) else packed[:-1])


async def test_an_older_store_was_watched_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / STATE_NAME
    path.touch()
    conn = connect(path, fresh=True)
    migrate(conn, path, scripts()[:8])
    conn.execute(
        "INSERT INTO devices (udid, platform, state, since_ms, name, model, port, reason, holder)"
        " VALUES (?, 'android', 'online', 5, '', '', '', '', '')",
        (UDID,),
    )
    conn.execute(
        "INSERT INTO transitions (udid, state, reason, at_ms, holder, host)"
        " VALUES (?, 'online', '', ?, '', '')",
        (UDID, MORNING),
    )
    conn.close()
    clock = StubClock(start_ms=MORNING + 3 * DAY_MS)
    store = open_store(tmp_path, clock=clock, settings=section(Delivery, retention=86_400.0))
    async with asyncio.timeout(LIMIT):
        while (await store.days.listed()).rolled != FIRST + 3:  # noqa: ASYNC110 - the writer's doing
            await asyncio.sleep(0.05)
    found = await reckon(store, OF, [], MORNING - DAY_MS, MORNING + 2 * DAY_MS)
    await store.close()
    (figures,) = found.figures.values()
    assert (figures.ms, figures.unseen) == ([0, 0, 0, 0], 2 * DAY_MS)


async def test_days_outlive_a_corrupt_file(tmp_path: Path) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 3)
    roll(conn, (FIRST + 3) * DAY_MS + GRACE_MS)
    conn.close()
    path = tmp_path / STATE_NAME
    with path.open("r+b") as file:
        file.write(b"\0" * 100)
    clock = StubClock(start_ms=MORNING + 4 * DAY_MS)
    store = open_store(tmp_path, clock=clock)
    assert store.health.recovered_from
    listed_now = await store.days.listed()
    assert [each.day for each in listed_now.days] == [FIRST, FIRST + 1, FIRST + 2]
    assert all(each.final for each in listed_now.days)
    # Ids begin anew: the first transition counts all the same.
    at = MORNING + 3 * DAY_MS
    await store.record(
        device(UDID, since_ms=at),
        moved(UDID, DeviceState.UNPLUGGED, DeviceState.ONLINE, at),
        [],
    )
    found = await reckon(store, OF, [], FIRST * DAY_MS, at + HOUR)
    await store.close()
    (figures,) = found.figures.values()
    assert figures.ms == [3 * 12 * HOUR, 0, 0, 3 * 12 * HOUR]
    assert figures.unseen == HOUR
    assert figures.entered == [4, 0, 0, 3]
    conn = connect(path)
    marks = conn.execute("SELECT DISTINCT substr(said, 1, 1) FROM days").fetchall()
    assert marks == [(FOREIGN,)]
    conn.close()


_CHILD = """
import sys
from pathlib import Path
from agent.store.files import open_existing
from agent.store.rollup import Roller
conn = open_existing(Path(sys.argv[1]))
roller = Roller(1, 0.0)
for _ in range(int(sys.argv[2])):
    if not roller.step(conn, int(sys.argv[3])):
        break
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 6, 9])
async def test_a_kill_in_the_middle_costs_no_figure(tmp_path: Path, steps: int) -> None:
    conn = in_memory(tmp_path)
    lived(conn, 4)
    conn.close()
    now = (FIRST + 3) * DAY_MS + GRACE_MS
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _CHILD, str(tmp_path / STATE_NAME), str(steps), str(now)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    async with asyncio.timeout(LIMIT):
        assert await child.stdout.readline() == b"there\n"
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
    conn = open_existing(tmp_path / STATE_NAME)
    assert len(listed(conn)) == ((days.rolled(conn) or FIRST) - FIRST)
    roll(conn, now)
    assert listed(conn) == [(0, False), (1, False), (2, False)]
    sums = Sums()
    for (said,) in conn.execute("SELECT said FROM days"):
        sums.add(said)
    (figures,) = sums.figures().values()
    assert figures.ms == [3 * 12 * HOUR, 0, 0, 2 * 12 * HOUR + 4 * HOUR]
    assert meta.find(conn, days.ROLLED) == FIRST + 3
    conn.close()
