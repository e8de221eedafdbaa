"""A torn or overwritten file: set aside, said, salvaged; the agent goes on."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.model import CallbackState
from agent.store import Store, StoreHealth
from agent.store.files import STATE_NAME, connect
from tests.kit.examples import worlds
from tests.kit.store import open_store
from tests.kit.waiting import eventually
from tests.store.samples import (
    attempt,
    callback,
    deliver,
    device,
    lease,
    put,
    rows,
    silence,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.model import Callback

_COUNT = 400


async def _filled(directory: Path) -> dict[str, int]:
    """A closed store with some of everything; the webhooks' ids."""
    store = open_store(directory)
    names = [(1, f"hook-{number}", None) for number in range(20)]
    ids = await store.webhooks.ids([*names, (1, "explicit", 500)])
    await store.leases.put(lease())
    await store.silences.put(silence())
    callbacks: list[Callback] = []
    for start in range(0, _COUNT, 40):  # as they come in life: not one table after the other
        callbacks += await asyncio.gather(
            *(
                _record(store, f"m{n:03}", ids[n % 3], f"phone-{n % 40:02}")
                for n in range(start, start + 40)
            )
        )
    await asyncio.gather(*(deliver(store, stored) for stored in callbacks[::4]))
    for stored in callbacks[1::50]:
        failed = attempt(stored.message_id, 500, "HTTP 500")
        await store.callbacks.finish(stored, failed, CallbackState.DEAD)
    await store.close()
    return {name: webhook_id for (_, name, _), webhook_id in zip(names, ids, strict=False)}


async def _record(store: Store, name: str, webhook_id: int, udid: str) -> Callback:
    made = [callback(name, webhook_id, udid)]
    (stored,) = await store.record(device(udid), transition(udid), made)
    return stored


_KEPT = {f"m{number:03}" for number in range(_COUNT) if number % 4 or number % 50 == 1}


def _aside(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if ".corrupt-" in path.name)


async def _assert_goes_on(directory: Path, store: Store) -> None:
    """It can be written and closed, and opens as a healthy store."""
    await put(store, "after")
    await store.close()
    left = {path.name for path in directory.iterdir() if ".corrupt-" not in path.name}
    assert left == {"lock", STATE_NAME}
    again = open_store(directory)
    assert again.health == StoreHealth()
    assert "after" in await rows(again)
    await again.close()


async def _assert_all_salvaged(store: Store, ids: dict[str, int]) -> None:
    table = await rows(store)
    assert set(table) == _KEPT
    assert table["m001"].state is CallbackState.DEAD
    pending = [row.callback for row in table.values() if row.state is CallbackState.PENDING]
    # The ids given are the order of sending: kept.
    assert [c.message_id for c in sorted(pending, key=lambda c: c.rowid)] == sorted(
        c.message_id for c in pending
    )
    assert len(await store.devices.all()) == 40
    assert await store.leases.all() == [lease()]
    assert await store.silences.all() == [silence()]
    wanted = [(1, name, None) for name in ids]
    assert await store.webhooks.ids([*wanted, (1, "explicit", None)]) == [*ids.values(), 500]
    (new_id,) = await store.webhooks.ids([(1, "new", None)])
    assert new_id not in {*ids.values(), 500}
    newest = max(row.callback.rowid for row in table.values())
    assert (await put(store, "next")).rowid > max(newest, _COUNT)


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("length", [100, 4096])
async def test_a_header_that_is_none(tmp_path: Path, length: int) -> None:
    ids = await _filled(tmp_path)
    _overwrite(tmp_path / STATE_NAME, 0, random.Random(1).randbytes(length))
    damaged = (tmp_path / STATE_NAME).read_bytes()
    with structlog.testing.capture_logs() as logs:
        store = open_store(tmp_path)
    (aside,) = _aside(tmp_path)
    assert re.fullmatch(r"state\.db\.corrupt-\d{8}T\d{6}Z", aside.name)
    assert aside.read_bytes() == damaged
    assert store.health == StoreHealth(recovered_from=str(aside))
    (said,) = [entry for entry in logs if entry["event"] == "store.corrupt"]
    assert said["log_level"] == "error"
    assert said["set_aside"] == str(aside)
    assert "not a database" in said["error"]
    await _assert_all_salvaged(store, ids)
    await _assert_goes_on(tmp_path, store)


def _pages_of(path: Path, table: str) -> list[int]:
    """Byte offsets of the table's leaf pages, found by walking its b-tree."""
    conn = sqlite3.connect(path)
    (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    (size,) = conn.execute("PRAGMA page_size").fetchone()
    conn.close()
    data = path.read_bytes()
    leaves, queue = [], [root]
    while queue:
        start = (queue.pop() - 1) * size
        if data[start] != 5:  # 5: interior page of a table
            leaves.append(start)
            continue
        cells = int.from_bytes(data[start + 3 : start + 5], "big")
        for cell in range(cells):
            at = start + 12 + 2 * cell
            pointer = start + int.from_bytes(data[at : at + 2], "big")
            queue.append(int.from_bytes(data[pointer : pointer + 4], "big"))
        queue.append(int.from_bytes(data[start + 8 : start + 12], "big"))
    return sorted(leaves)


async def test_a_page_in_the_middle_found_while_running(tmp_path: Path) -> None:
    ids = await _filled(tmp_path)
    leaves = _pages_of(tmp_path / STATE_NAME, "callbacks")
    assert len(leaves) > 10
    _overwrite(tmp_path / STATE_NAME, leaves[len(leaves) // 2], b"\xff" * 4096)
    told: list[StoreHealth] = []
    store = open_store(tmp_path, on_health=told.append)
    assert store.health.ok
    with structlog.testing.capture_logs() as logs:
        table = await rows(store)
    (aside,) = _aside(tmp_path)
    assert store.health == StoreHealth(recovered_from=str(aside))
    assert told == [store.health]
    lost = _KEPT - set(table)
    assert 0 < len(lost) < 40
    assert set(table) <= _KEPT
    (said,) = [entry for entry in logs if entry["event"] == "store.corrupt"]
    lost_pending = [name for name in lost if int(name[1:]) % 50 != 1]
    assert f"{len(lost_pending)} pending callbacks, of phone-" in said["lost"]
    assert f"{len(table)} callbacks" in said["salvaged"]
    assert await store.webhooks.ids([(1, name, None) for name in ids]) == list(ids.values())
    await _assert_goes_on(tmp_path, store)


async def test_corruption_met_by_a_change_loses_no_change(tmp_path: Path) -> None:
    await _filled(tmp_path)
    # The page that takes the next callback.
    _overwrite(
        tmp_path / STATE_NAME, _pages_of(tmp_path / STATE_NAME, "callbacks")[-1], b"\xff" * 4096
    )
    told: list[StoreHealth] = []
    store = open_store(tmp_path, on_health=told.append)
    await put(store, "new")
    await put(store, "newer")
    assert {"new", "newer"} < set(await rows(store))
    await eventually(lambda: store.health.ok, "health")
    assert len(_aside(tmp_path)) == 1
    assert told[-1] == StoreHealth(recovered_from=str(_aside(tmp_path)[0]))
    assert store.made_anew == 1
    await _assert_goes_on(tmp_path, store)


async def test_damage_that_only_a_look_at_the_number_of_the_batch_shows(tmp_path: Path) -> None:
    """It keeps no agent from starting."""
    await _filled(tmp_path)
    (page,) = _pages_of(tmp_path / STATE_NAME, "sqlite_autoindex_meta_1")
    _overwrite(tmp_path / STATE_NAME, page, b"\xff" * 4096)
    store = open_store(tmp_path)
    assert len(_aside(tmp_path)) == 1
    assert set(await rows(store)) == _KEPT
    await _assert_goes_on(tmp_path, store)


@pytest.mark.parametrize("damage", ["DELETE FROM meta", "UPDATE meta SET key = 'botch' || key"])
async def test_a_store_that_does_not_know_its_batch_is_made_anew(
    tmp_path: Path, damage: str
) -> None:
    await _filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / STATE_NAME, isolation_level=None)) as conn:
        conn.execute(damage)
    store = open_store(tmp_path)
    assert len(_aside(tmp_path)) == 1
    assert set(await rows(store)) == _KEPT
    await _assert_goes_on(tmp_path, store)


async def test_lost_webhook_ids_are_not_given_again(tmp_path: Path) -> None:
    ids = await _filled(tmp_path)
    (page,) = _pages_of(tmp_path / STATE_NAME, "webhooks")
    _overwrite(tmp_path / STATE_NAME, page, b"\xff" * 4096)
    with structlog.testing.capture_logs() as logs:
        store = open_store(tmp_path)
    (said,) = [entry for entry in logs if entry["event"] == "store.corrupt"]
    assert "webhook ids" in said["lost"]
    fresh = await store.webhooks.ids([(1, name, None) for name in (*ids, "new")])
    assert not set(fresh) & {*ids.values(), 500}
    assert len(set(fresh)) == len(fresh)
    assert set(await rows(store)) == _KEPT
    await _assert_goes_on(tmp_path, store)


def _garbage(directory: Path) -> None:
    (directory / STATE_NAME).write_bytes(random.Random(3).randbytes(50_000))


def _empty(directory: Path) -> None:
    (directory / STATE_NAME).write_bytes(b"")


def _foreign(directory: Path) -> None:
    (directory / STATE_NAME).unlink()
    conn = sqlite3.connect(directory / STATE_NAME)
    conn.execute("CREATE TABLE devices (somebody TEXT)")
    conn.close()


def _tables_gone(directory: Path) -> None:
    conn = connect(directory / STATE_NAME)
    conn.execute("DROP TABLE callbacks")
    conn.close()


@pytest.mark.parametrize("damage", [_garbage, _empty, _foreign, _tables_gone])
async def test_nothing_left_to_read(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    ids = await _filled(tmp_path)
    damage(tmp_path)
    with structlog.testing.capture_logs() as logs:
        store = open_store(tmp_path)
    (aside,) = _aside(tmp_path)
    assert store.health.recovered_from == str(aside)
    assert [entry["log_level"] for entry in logs if entry["event"] == "store.corrupt"] == ["error"]
    assert await rows(store) == {}
    (fresh,) = await store.webhooks.ids([(1, "somebody new", None)])
    assert fresh not in {*ids.values(), 500}
    await _assert_goes_on(tmp_path, store)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
async def test_a_truncated_file(tmp_path: Path, part: float) -> None:
    ids = await _filled(tmp_path)
    whole = (tmp_path / STATE_NAME).read_bytes()
    (tmp_path / STATE_NAME).write_bytes(whole[: int(len(whole) * part)])
    store = open_store(tmp_path)
    (aside,) = _aside(tmp_path)
    assert store.health.recovered_from == str(aside)
    table = await rows(store)
    assert set(table) <= _KEPT
    assert part < 0.5 or len(table) > 50
    assert await store.webhooks.ids([(1, name, None) for name in ids]) == list(ids.values())
    await _assert_goes_on(tmp_path, store)


async def _crashed(directory: Path, source: Path) -> None:
    """A store as a crash leaves it: its newest callback is in the log only."""
    store = open_store(source)
    await put(store, "in the log")
    directory.mkdir()
    for name in (STATE_NAME, f"{STATE_NAME}-wal"):
        (directory / name).write_bytes((source / name).read_bytes())
    await store.close()


async def test_a_log_that_is_none_is_not_ignored_silently(tmp_path: Path) -> None:
    await _filled(tmp_path / "source")
    state = tmp_path / "state"
    await _crashed(state, tmp_path / "source")
    log = random.Random(5).randbytes(20_000)
    (state / f"{STATE_NAME}-wal").write_bytes(log)
    with structlog.testing.capture_logs() as logs:
        store = open_store(state)
    (aside,) = _aside(state)
    assert aside.read_bytes() == log
    assert store.health.ok
    assert str(aside) == store.health.recovered_from
    assert [entry["event"] for entry in logs] == ["store.corrupt"]
    # The rest of the store stays as it was, history included.
    assert len(await rows(store)) == _COUNT
    await _assert_goes_on(state, store)


async def test_a_log_without_its_file(tmp_path: Path) -> None:
    await _filled(tmp_path / "source")
    state = tmp_path / "state"
    await _crashed(state, tmp_path / "source")
    (state / STATE_NAME).unlink()
    store = open_store(state)
    (aside,) = _aside(state)
    assert aside.name.endswith("-wal")
    assert store.health.recovered_from == str(aside)
    assert await rows(store) == {}
    await _assert_goes_on(state, store)


async def test_a_corrupt_file_with_a_good_log(tmp_path: Path) -> None:
    ids = await _filled(tmp_path / "source")
    state = tmp_path / "state"
    await _crashed(state, tmp_path / "source")
    _overwrite(state / STATE_NAME, 0, bytes(100))
    store = open_store(state)
    # SQLite may have written the log back into the file when it closed it, so it may be alone.
    assert store.health.recovered_from == str(_aside(state)[0])
    table = await rows(store)
    assert "in the log" in table
    assert set(table) >= _KEPT
    assert await store.webhooks.ids([(1, name, None) for name in ids]) == list(ids.values())
    await _assert_goes_on(state, store)


@pytest.mark.parametrize(
    "damaged",
    [
        b'[["Content-Type", "application/js\xff\xfe"]]',
        b'[["Content-Type"! "application/json"]]',
        b'[["Content-Type"], "applicationjson"]]',
    ],
    ids=["no text", "no json", "no pairs"],
)
async def test_damage_inside_a_value_holds_up_no_lane(tmp_path: Path, damaged: bytes) -> None:
    """SQLite has no checksums: only whoever reads the value finds it."""
    await _filled(tmp_path)
    path = tmp_path / STATE_NAME
    good = b'[["Content-Type", "application/json"]]'
    assert len(damaged) == len(good)
    for row in (b"m001", b"m002", b"m003"):
        data = path.read_bytes()
        place = re.search(row + rb".?phone-.*?(?=" + re.escape(good) + rb")", data, re.DOTALL)
        assert place is not None
        _overwrite(path, place.end(), damaged)
    store = open_store(tmp_path)
    lanes = await store.callbacks.lanes()
    found_all = [
        await store.callbacks.pending(lane.webhook_id, lane.udid, 0, 1_000) for lane in lanes
    ]
    table = await rows(store)
    assert set(table) == _KEPT
    assert sum(map(len, found_all)) == sum(
        row.state is CallbackState.PENDING for row in table.values()
    )
    assert {c.headers for lane in found_all for c in lane} == {callback("any").headers}
    assert store.health.recovered_from == str(_aside(tmp_path)[0])
    await _assert_goes_on(tmp_path, store)


@pytest.mark.parametrize(
    ("column", "damaged", "kept"),
    [
        ("identity", '{"path": "pci-0', True),
        ("identity", '["pci-0"]', True),
        ("identity", '{"ways": 5}', True),
        ("identity", '{"shared": "true"}', True),
        ("platform", "andro\x01d", False),
    ],
)
async def test_damage_inside_a_device_does_not_keep_the_agent_from_starting(
    tmp_path: Path, column: str, damaged: str, *, kept: bool
) -> None:
    await _filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / STATE_NAME)) as conn:
        conn.execute(f"UPDATE devices SET {column} = ? WHERE udid = 'phone-01'", (damaged,))
        conn.commit()
    store = open_store(tmp_path)
    found = {record.udid: record for record in await store.devices.all()}
    whole = {f"phone-{n:02}" for n in range(40)} - {"phone-01"}
    assert set(found) == (whole | {"phone-01"} if kept else whole)
    assert all(record == device(udid) for udid, record in found.items())
    assert store.health.recovered_from == str(_aside(tmp_path)[0])
    await _assert_goes_on(tmp_path, store)


@pytest.mark.parametrize("seed", worlds(12))
async def test_damage_anywhere_never_stops_the_agent(tmp_path: Path, seed: int) -> None:
    await _filled(tmp_path)
    rng = random.Random(seed)
    path = tmp_path / STATE_NAME
    size = path.stat().st_size
    for _ in range(rng.randrange(1, 6)):
        _overwrite(path, rng.randrange(size - 64), rng.randbytes(rng.randrange(1, 5_000)))
    store = open_store(tmp_path)
    await put(store, "during")
    assert await store.callbacks.lanes()
    assert "during" in {row.callback.message_id for row in (await rows(store)).values()}
    await store.devices.all()
    await store.webhooks.ids([(1, "hook-1", None)])
    await store.close()


async def test_a_crash_in_the_middle_of_a_recovery(tmp_path: Path) -> None:
    """Each step of it leaves either the corrupt file or the complete new one."""
    await _filled(tmp_path)
    good = (tmp_path / STATE_NAME).read_bytes()
    # Set aside, new store complete, not yet in place; the old log would be replayed over it.
    (tmp_path / f"{STATE_NAME}.ready").write_bytes(good)
    _overwrite(tmp_path / STATE_NAME, 0, b"x" * 500)
    (tmp_path / f"{STATE_NAME}-wal").write_bytes(b"log of the corrupt one")
    store = open_store(tmp_path)
    assert store.health.recovered_from == ""
    assert len(await rows(store)) == _COUNT
    assert await store.devices.all() != [device()]
    await _assert_goes_on(tmp_path, store)
