"""A store looked at from another process: it is judged, and stays as it is."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from agent.store.inspect import StoreState, inspect
from tests.kit.store import open_store
from tests.store.samples import callback, device, transition

if TYPE_CHECKING:
    from pathlib import Path

    from agent.store import Store


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def filled(directory: Path) -> Store:
    store = open_store(directory)
    for number in range(200):
        udid = f"phone-{number}"
        callbacks = [callback(f"msg_{number}", udid=udid)]
        await store.record(device(udid), transition(udid), callbacks)
    return store


def test_nothing_there(tmp_path: Path) -> None:
    assert inspect(tmp_path, 5.0).state is StoreState.ABSENT
    assert inspect(tmp_path / "none", 5.0).state is StoreState.ABSENT
    assert list(tmp_path.iterdir()) == []


async def test_a_store_at_rest_is_left_as_it_is(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    before = bytes_of(tmp_path)
    assert inspect(tmp_path, 5.0).state is StoreState.OK
    assert bytes_of(tmp_path) == before
    (tmp_path / "lock").unlink()
    assert inspect(tmp_path, 5.0).state is StoreState.OK
    assert not (tmp_path / "lock").exists()


def test_a_killed_agents_log_is_read_and_kept(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        # As the store does; what is committed stays in the write-ahead log.
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as conn:
            for words in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "user_version = 1"):
                conn.execute(f"PRAGMA {words}").fetchall()
            conn.execute("CREATE TABLE a (x)")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    before = bytes_of(tmp_path)
    assert "state.db-wal" in before
    assert inspect(tmp_path, 5.0).state is StoreState.OK
    assert bytes_of(tmp_path) == before


async def test_one_in_use_is_not_touched(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    found = inspect(tmp_path, 5.0)
    assert (found.state, found.detail) == (StoreState.BUSY, "an agent uses it")
    await store.record(device(), transition(), [callback("msg_after")])
    await store.close()


async def test_an_agent_can_start_afterwards(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    inspect(tmp_path, 5.0)
    await open_store(tmp_path).close()


@pytest.mark.parametrize("damage", ["header", "page", "text"])
async def test_a_corrupt_one(tmp_path: Path, damage: str) -> None:
    await (await filled(tmp_path)).close()
    path = tmp_path / "state.db"
    data = bytearray(path.read_bytes())
    match damage:
        case "header":
            data[:100] = bytes(100)
        case "page":
            data[8192:] = os.urandom(len(data) - 8192)
        case _:
            data = bytearray(b"no database at all, but long enough to be taken for one" * 20)
    path.write_bytes(data)
    assert inspect(tmp_path, 5.0).state is StoreState.CORRUPT
    assert path.read_bytes() == data


async def test_one_of_a_newer_agent(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as conn:
        conn.execute("PRAGMA user_version = 999")
    found = inspect(tmp_path, 5.0)
    assert found.state is StoreState.NEWER
    assert "999" in found.detail


async def test_a_large_one_is_given_up(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    assert inspect(tmp_path, -1.0).state is StoreState.SLOW
