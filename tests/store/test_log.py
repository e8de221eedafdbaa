"""The log that a fleet's hub follows: gapless ids of one epoch, and what of it may be deleted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.config import Delivery
from agent.model import DeviceState
from agent.store.files import STATE_NAME, connect, create
from agent.store.migrate import migrate, scripts
from agent.store.retention import SLICE, sweep
from agent.store.tables import log as log_table
from agent.store.tables.transitions import StoredTransition
from tests.kit.clock import StubClock
from tests.kit.settings import section
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT
from tests.store.samples import device, reckoned_up, transition

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    import pytest

    from agent.store import Store


async def record(store: Store, count: int, udid: str = "phone-1", at_ms: int = 1_000) -> None:
    for number in range(count):
        await store.record(device(udid, since_ms=at_ms + number), transition(udid, at_ms), ())


async def test_an_agent_that_is_in_no_fleet_keeps_nothing_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await record(store, 3)
    state = await store.log.state()
    assert (state.newest, state.acked, state.unsent) == (3, None, 0)
    assert await store.log.acknowledge(state.epoch, 2, 0) == state
    await store.close()


async def test_the_first_time_in_a_fleet_what_was_before_counts_as_told(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await record(store, 3)
    assert (await store.log.join()).acked == 3
    await record(store, 2)
    again = await store.log.join()
    assert (again.acked, again.newest, again.unsent) == (3, 5, 2)
    await store.close()
    store = open_store(tmp_path)
    assert await store.log.state() == again
    await store.log.leave()
    assert (await store.log.state()).acked is None
    assert (await store.log.join()).acked == 5
    await store.close()


async def test_an_acknowledgement_never_goes_back_and_is_of_one_epoch(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    epoch = (await store.log.join()).epoch
    await record(store, 5)
    acked = [
        (await store.log.acknowledge(of, through, 0)).acked
        for of, through in ((epoch, 2), (epoch, 1), (epoch ^ 1, 5), (epoch, 4), (epoch, 0))
    ]
    assert acked == [2, 2, 2, 4, 4]
    assert (await store.log.state()).epoch == epoch
    await store.close()


async def test_a_hub_that_has_more_than_the_file_begins_a_new_epoch(tmp_path: Path) -> None:
    """A backup was put back: its next ids were told before, of something else."""
    store = open_store(tmp_path)
    before = await store.log.join()
    await record(store, 2)
    after = await store.log.acknowledge(before.epoch, 3, 0)
    assert after.epoch != before.epoch
    assert (after.acked, after.newest) == (0, 2)
    await store.close()


async def test_a_hub_that_has_another_row_of_an_id_begins_a_new_epoch(tmp_path: Path) -> None:
    """A backup was put back, and has grown beyond what the hub has by now."""
    store = open_store(tmp_path)
    before = await store.log.join()
    await record(store, 5)
    rows = (await store.log.after(0, 10)).rows
    assert [row.before for row in rows] == [0, *(row.check for row in rows[:-1])]
    assert len({row.check for row in rows}) == 5
    assert (await store.log.snapshot()).check == rows[-1].check
    later = await store.log.after(3, 10)
    assert (later.check, later.rows) == (rows[2].check, rows[3:])
    for check in (0, rows[2].check):
        assert await store.log.compare(before.epoch, 3, check) == before._replace(newest=5)
    assert await store.log.compare(before.epoch ^ 1, 3, 7) == before._replace(newest=5)
    after = await store.log.compare(before.epoch, 3, rows[2].check ^ 1)
    assert after == before._replace(epoch=after.epoch, newest=5)
    assert after.epoch != before.epoch
    acked = await store.log.acknowledge(after.epoch, 3, rows[2].check ^ 1)
    assert (acked.epoch != after.epoch, acked.acked) == (True, 0)
    acked = await store.log.acknowledge(acked.epoch, 3, rows[2].check)
    assert acked.acked == 3
    await store.close()


def test_of_two_rows_that_differ_the_checks_do() -> None:
    """And they are as they were: hubs keep them."""
    moved = transition()
    others = (
        moved,
        replace(moved, udid="phone-2"),
        replace(moved, previous=None),
        replace(moved, state=DeviceState.UTILIZING),
        replace(moved, reason="other"),
        replace(moved, at_ms=1_001),
        replace(moved, holder=""),
    )
    rows = [StoredTransition(1, each) for each in others] + [StoredTransition(2, moved)]
    checks = [log_table.check_of(row) for row in rows]
    assert len(set(checks)) == len(rows)
    assert checks[0] == 7685229883287867820


async def test_a_row_that_is_there_no_more_is_not_compared(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    before = await store.log.join()
    await record(store, 3)
    await store.close()
    conn = connect(tmp_path / STATE_NAME)
    conn.execute("DELETE FROM transitions WHERE id = 2")
    conn.close()
    store = open_store(tmp_path)
    found = await store.log.after(2, 9)
    assert (found.check, [row.before for row in found.rows]) == (0, [0])
    assert (await store.log.compare(before.epoch, 2, 7)).epoch == before.epoch
    await store.close()


async def test_rows_come_without_a_hole_and_with_their_device(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(6):
        await record(store, 1, f"phone-{number % 2}")
    found = await store.log.after(2, 3)
    assert [row.stored.id for row in found.rows] == [3, 4, 5]
    assert [row.device.udid for row in found.rows] == ["phone-0", "phone-1", "phone-0"]
    assert not found.hole
    assert found.state.newest == 6
    assert not (await store.log.after(6, 3)).rows
    assert not (await store.log.after(6, 3)).hole
    await store.close()
    conn = connect(tmp_path / STATE_NAME)
    conn.execute("DELETE FROM transitions WHERE id IN (1, 4)")
    conn.close()
    store = open_store(tmp_path)
    first, middle = await store.log.after(0, 10), await store.log.after(1, 10)
    assert (first.rows, first.hole) == ((), True)
    assert ([row.stored.id for row in middle.rows], middle.hole) == ([2, 3], False)
    assert (await store.log.after(3, 10)).hole
    await store.close()


async def test_a_snapshot_is_what_the_log_has_come_to(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await record(store, 2, "a")
    await record(store, 1, "b")
    await store.record(device("c"), None, ())
    await store.record(device("b", DeviceState.OFFLINE), None, ())  # no transition made that
    snapshot = await store.log.snapshot()
    assert snapshot.state.newest == 3
    assert [(each.udid, event) for each, event in snapshot.devices] == [
        ("a", 2),
        ("b", 0),
        ("c", 0),
    ]
    await store.close()


def test_a_snapshot_looks_at_one_transition_of_each_device(tmp_path: Path) -> None:
    create(tmp_path / STATE_NAME)
    conn = connect(tmp_path / STATE_NAME)
    plan = [row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + log_table.EVENTS)]
    conn.close()
    assert "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)" in plan
    assert "SEARCH transitions USING COVERING INDEX transitions_of_device (udid=?)" in plan
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN d"]


def _ids(conn: sqlite3.Connection) -> list[int]:
    return [id_ for (id_,) in conn.execute("SELECT id FROM transitions ORDER BY id")]


async def test_age_deletes_nothing_that_the_hub_has_not_acknowledged(tmp_path: Path) -> None:
    store = open_store(tmp_path, settings=section(Delivery, retention=1e9))
    epoch = (await store.log.join()).epoch
    await record(store, 6)
    await store.log.acknowledge(epoch, 3, 0)
    await store.close()
    conn = connect(tmp_path / STATE_NAME)
    reckoned_up(conn)
    assert sweep(conn, 2_000) == (False, 0, 0)
    assert _ids(conn) == [3, 4, 5, 6], "the hub goes on behind the third"
    conn.close()
    store = open_store(tmp_path, settings=section(Delivery, retention=1e9))
    await store.log.acknowledge(epoch, 6, 0)
    await store.close()
    conn = connect(tmp_path / STATE_NAME)
    reckoned_up(conn)
    assert sweep(conn, 2_000) == (False, 0, 0)
    assert _ids(conn) == [6]
    conn.close()


async def test_what_is_kept_back_is_bounded_and_its_loss_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_table, "KEPT_BACK", 4)
    store = open_store(tmp_path, settings=section(Delivery, retention=1e9))
    epoch = (await store.log.join()).epoch
    await record(store, 10)
    await store.log.acknowledge(epoch, 2, 0)
    await store.close()
    conn = connect(tmp_path / STATE_NAME)
    reckoned_up(conn)
    assert sweep(conn, 2_000) == (False, 4, 0)  # 1 and 2 were told, 3 to 6 were not
    assert _ids(conn) == [7, 8, 9, 10]
    conn.close()


async def test_the_store_counts_what_it_deleted_untold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_table, "KEPT_BACK", 1)
    clock = StubClock(start_ms=10_000)
    store = open_store(tmp_path, settings=section(Delivery, retention=1.0), clock=clock)
    await store.log.join()
    await record(store, SLICE // 100)
    async with asyncio.timeout(LIMIT):
        while store.figures.untold != SLICE // 100 - 1:
            await store.log.state()
    await store.close()


async def test_an_older_store_gets_an_epoch_of_its_own_and_is_in_no_fleet(tmp_path: Path) -> None:
    epochs = []
    for name in ("one", "two"):
        directory = tmp_path / name
        directory.mkdir()
        path = directory / STATE_NAME
        path.touch()
        conn = connect(path, fresh=True)
        migrate(conn, path, scripts()[:6])
        conn.execute(
            "INSERT INTO devices (udid, platform, state, since_ms, name, model, port, reason,"
            " holder) VALUES ('a', 'ios', 'online', 5, '', '', '', '', '')"
        )
        conn.execute("INSERT INTO transitions VALUES (7, 'a', NULL, 'online', '', 5, '')")
        conn.close()
        store = open_store(directory)
        state = await store.log.state()
        assert (state.newest, state.acked) == (7, None)
        epochs.append(state.epoch)
        assert (await store.log.join()).acked == 7
        await store.close()
    assert epochs[0] != epochs[1]
    assert all(0 <= epoch < 1 << 63 for epoch in epochs)


async def test_a_salvage_and_a_lost_wal_begin_a_new_epoch(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    before = await store.log.join()
    await record(store, 4)
    await store.log.acknowledge(before.epoch, 3, 0)
    await store.close()
    (tmp_path / f"{STATE_NAME}-wal").write_bytes(b"no log at all")
    store = open_store(tmp_path)
    assert store.health.recovered_from
    after = await store.log.state()
    assert after == before._replace(epoch=after.epoch, newest=4, acked=3)
    assert after.epoch != before.epoch
    await store.close()
    with (tmp_path / STATE_NAME).open("r+b") as file:
        file.write(bytes(100))
    store = open_store(tmp_path)
    assert store.health.recovered_from
    salvaged = await store.log.state()
    assert (salvaged.newest, salvaged.acked) == (0, 0)
    assert salvaged.epoch not in {before.epoch, after.epoch}
    await store.close()
