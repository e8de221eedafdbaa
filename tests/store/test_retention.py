"""Old history goes, a slice at a time; what is pending and what was last known stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config import Delivery
from agent.model import CallbackState, DeviceState
from agent.store.files import STATE_NAME, connect
from agent.store.retention import SLICE, sweep
from tests.kit.clock import START_MS, StubClock
from tests.kit.settings import section
from tests.kit.store import open_store
from tests.store.samples import (
    attempt,
    callback,
    deliver,
    device,
    put,
    reckoned_up,
    transition,
    until_rows,
)
from tests.store.test_open import fill

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


def _count(conn: sqlite3.Connection, table: str) -> int:
    (count,) = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


async def test_a_slice_is_bounded_and_spares_what_is_pending(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    conn = connect(tmp_path / STATE_NAME)
    fill(conn, 3 * SLICE, 1, 1)
    conn.execute(
        "UPDATE callbacks SET state = 'delivered', attempts = 1, finished_ms = 50 WHERE id > 10"
    )
    conn.execute(
        "INSERT INTO attempts SELECT id, 1, 1, 1, 200, '', '' FROM callbacks WHERE id > 10"
    )
    assert not sweep(conn, 50).more  # not older
    assert sweep(conn, 51).more
    assert _count(conn, "callbacks") == 2 * SLICE
    assert _count(conn, "attempts") == 2 * SLICE - 10
    while sweep(conn, 51).more:
        pass
    assert _count(conn, "callbacks") == 10
    assert _count(conn, "attempts") == 0
    conn.close()


async def test_every_end_state_expires(tmp_path: Path) -> None:
    clock = StubClock(start_ms=1_000)
    store = open_store(tmp_path, settings=section(Delivery, retention=100.0), clock=clock)
    for state in (CallbackState.DELIVERED, CallbackState.DEAD, CallbackState.CANCELLED):
        stored = await put(store, state.value)
        await store.callbacks.finish(stored, attempt(state.value), state)
    await put(store, "pending")
    clock.now += 100.001
    fresh = await put(store, "fresh")
    await deliver(store, fresh)
    # The writer sweeps by itself, when it has nothing else to do.
    await until_rows(store, {"pending", "fresh"})
    assert await store.devices.all() == [device()]
    await store.close()


async def test_a_reload_changes_what_is_kept(tmp_path: Path) -> None:
    clock = StubClock(start_ms=1_000)
    store = open_store(tmp_path, settings=section(Delivery, retention=100.0), clock=clock)
    await deliver(store, await put(store, "delivered"))
    clock.now += 50
    store.reconfigure(section(Delivery, retention=49.0))
    await until_rows(store, set())
    await store.close()


async def test_the_newest_transition_of_a_device_stays(tmp_path: Path) -> None:
    store = open_store(tmp_path, clock=StubClock(start_ms=0))
    for udid in ("a", "b"):
        for at_ms in (10, 20, 30):
            await store.record(device(udid), transition(udid, at_ms), [])
    await store.record(device("b", DeviceState.ONLINE), transition("b", 900), [])
    await store.close()
    conn = connect(tmp_path / STATE_NAME)
    reckoned_up(conn)
    assert not sweep(conn, 500).more
    found = conn.execute("SELECT udid, at_ms FROM transitions ORDER BY udid, at_ms").fetchall()
    assert found == [("a", 30), ("b", 900)]
    conn.close()


async def test_the_file_stops_growing(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    conn = connect(tmp_path / STATE_NAME)
    fill(conn, 20_000, 1, 1)
    conn.execute("UPDATE callbacks SET state = 'dead', finished_ms = 5")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    full = (tmp_path / STATE_NAME).stat().st_size
    rounds = 0
    while sweep(conn, 6).more:
        rounds += 1
        assert rounds < 200
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert (tmp_path / STATE_NAME).stat().st_size < full * 0.7
    conn.close()


async def test_the_write_ahead_log_is_bounded(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(40):
        big = [callback(f"{number}-{part}", 1) for part in range(300)]
        await store.record(device(), None, big)
    log_size = (tmp_path / f"{STATE_NAME}-wal").stat().st_size
    assert log_size < 16 * 1024 * 1024
    await store.close()


async def test_a_clock_that_is_years_ahead_after_a_restart_ages_nothing(tmp_path: Path) -> None:
    clock = StubClock(start_ms=START_MS)
    settings = section(Delivery, retention=100.0)
    store = open_store(tmp_path, settings=settings, clock=clock)
    for name in ("oldest", "old", "fresh"):
        await deliver(store, await put(store, name))
        clock.now += 45
    await until_rows(store, {"old", "fresh"})
    await store.close()
    clock.set_wall(3 * 365 * 86_400.0)
    store = open_store(tmp_path, settings=section(Delivery, retention=80.0), clock=clock)
    await until_rows(store, {"fresh"})
    await store.close()
