"""Opening: one agent at a time, versions, places that cannot be written, any size."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from agent.errors import StoreError, StoreLockedError, StoreVersionError
from agent.model import Platform
from agent.store.commit import commit
from agent.store.database import Database
from agent.store.files import STATE_NAME, connect, create
from agent.store.migrate import migrate, scripts, version
from agent.store.record import Record
from agent.store.tables import attempts, backlog, callbacks, deliveries, transitions, webhooks
from agent.store.tables.table import for_rows
from tests.kit.store import open_store
from tests.store.samples import callback, device, put, rows

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_missing_directory_is_made_private(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b" / STATE_NAME).stat().st_mode & 0o777 == 0o600
    await store.close()


async def test_a_second_agent_is_told_who_is_there(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StoreLockedError) as caught:
        open_store(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    await put(store, "the first one is not disturbed")
    await store.close()
    await open_store(tmp_path).close()


async def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tests.kit.store import open_store\n"
        "store = open_store(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - starting it is all the test does meanwhile
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(StoreLockedError, match=f"pid {holder.pid}"):
            open_store(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait(15)
    store = open_store(tmp_path)
    await put(store, "m")
    await store.close()


async def test_another_program_with_the_file_open_is_named_as_such(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    shell = sqlite3.connect(tmp_path / STATE_NAME)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program"):
        open_store(tmp_path)
    shell.close()
    await open_store(tmp_path).close()


async def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    file = tmp_path / STATE_NAME
    conn = sqlite3.connect(file)
    conn.execute("PRAGMA user_version = 1000")
    conn.close()
    with pytest.raises(StoreVersionError, match=f"{re.escape(str(file))}.* 1000.*newer agent"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if "corrupt" in path.name] == []
    conn = sqlite3.connect(file)
    assert conn.execute("PRAGMA user_version").fetchone() == (1000,)
    conn.close()
    # Nor does the refused agent keep the lock.
    with pytest.raises(StoreVersionError):
        open_store(tmp_path)


async def test_migrations_keep_what_is_there_and_fail_whole(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await put(store, "m")
    await store.close()
    path = tmp_path / STATE_NAME
    now = len(scripts())
    good = "CREATE TABLE extra (id INTEGER PRIMARY KEY) STRICT; INSERT INTO extra VALUES (5);"
    bad = "CREATE TABLE half (id INTEGER PRIMARY KEY) STRICT; INSERT INTO nowhere VALUES (1);"
    conn = connect(path)
    with pytest.raises(sqlite3.Error, match="nowhere"):
        migrate(conn, path, [*scripts(), good, bad])
    assert version(conn) == now + 1
    assert conn.execute("SELECT id FROM extra").fetchall() == [(5,)]
    assert conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchall() == []
    assert conn.execute("SELECT message_id FROM callbacks").fetchall() == [("m",)]
    conn.close()


async def test_devices_of_an_older_store_stay_and_any_platform_may_come(tmp_path: Path) -> None:
    path = tmp_path / STATE_NAME
    path.touch()
    conn = connect(path, fresh=True)
    migrate(conn, path, scripts()[:4])
    conn.execute("INSERT INTO devices VALUES ('a', 'ios', 'online', 5, 'n', '', '', '', '', '')")
    conn.execute("INSERT INTO transitions VALUES (1, 'a', NULL, 'online', '', 5, '')")
    migrate(conn, path, scripts())
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    conn.execute("UPDATE devices SET platform = 'one that is to come'")
    conn.execute("UPDATE devices SET platform = 'ios'")
    conn.close()
    store = open_store(tmp_path)
    (known,) = await store.devices.all()
    await store.close()
    assert (known.udid, known.platform, known.name) == ("a", Platform.IOS, "n")


def test_leases_of_an_older_store_stay_and_the_schema_fits_the_first_page(tmp_path: Path) -> None:
    """Where the first page is lost, a new store's takes its place: tables begin where they did."""
    path, fresh = tmp_path / STATE_NAME, tmp_path / "fresh"
    create(fresh)
    path.touch()
    conn = connect(path, fresh=True)
    migrate(conn, path, scripts()[:5])
    lease = ("l", "a", "alice", "", 1, 30.0, 2, "bob: mine")
    conn.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", lease)
    for number in range(1000):
        conn.execute(
            "INSERT INTO callbacks (message_id, webhook_id, udid, created_ms, body, headers, state,"
            " attempts, due_ms) VALUES (?, 1, 'a', 1, x'7b7d', '[]', 'pending', 0, 0)",
            (f"m{number}",),
        )
    migrate(conn, path, scripts())
    assert conn.execute("SELECT * FROM leases").fetchall() == [lease]
    assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    places = "SELECT name, rootpage FROM sqlite_schema ORDER BY name"
    other = connect(fresh)
    assert conn.execute(places).fetchall() == other.execute(places).fetchall()
    for each in (conn, other):
        each.close()
    leaf = 13
    assert path.read_bytes()[100] == fresh.read_bytes()[100] == leaf


def test_every_migration_has_the_next_number() -> None:
    names = sorted(e.name for e in (files("agent.store") / "schema").iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(scripts()) + 1))
    assert all(name.endswith(".sql") for name in names)


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    with pytest.raises(StoreError, match=r"user \S+ \(uid \d+.*install -d"):
        open_store(tmp_path / "state")
    with pytest.raises(StoreError, match="cannot be created: Not a directory"):
        open_store(tmp_path / "state" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the netns tests")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="permission denied"):
        open_store(tmp_path / "state")


async def test_a_crash_while_the_store_was_made_leaves_nothing_half(tmp_path: Path) -> None:
    (tmp_path / f"{STATE_NAME}.new").write_bytes(b"half a store")
    (tmp_path / f"{STATE_NAME}.new-wal").write_bytes(b"half a log")
    store = open_store(tmp_path)
    assert store.health.recovered_from == ""
    await store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"lock", STATE_NAME}


async def test_a_file_that_went_away_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.open()
    database.commit([Record(device(), None, ())])
    database._drop_connection()  # as after repeated I/O errors
    (tmp_path / STATE_NAME).rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is gone"):
        database.read(_udids)
    with pytest.raises(OSError, match="is gone"):
        database.commit([])
    assert not (tmp_path / STATE_NAME).exists()
    (tmp_path / "elsewhere").rename(tmp_path / STATE_NAME)
    assert database.read(_udids) == [device().udid]
    database.close()


async def test_a_commit_that_failed_but_was_stored_is_not_repeated(tmp_path: Path) -> None:
    """COMMIT reports an error, a new connection finds the batch in the file: stored once."""
    database = Database(tmp_path)
    database.open()
    seen = [callback("m0"), callback("m1")]
    changes = [Record(device(), None, (seen[0],))]
    # What the failed commit left behind: its batch in the file, its outcomes in memory.
    (outcome,) = commit(database._connected(), changes, database._batch + 1)
    database._uncertain = [outcome]
    database._drop_connection()
    changes.append(Record(device(), None, (seen[1],)))
    assert database.commit(changes) == [outcome]
    assert len(database.commit(changes[1:])) == 1
    stored = database.read(lambda conn: conn.execute(callbacks.PENDING, (1, "phone-1", 0, 10)))
    assert [callbacks.read(row).message_id for row in stored] == ["m0", "m1"]
    # And one that was not stored is repeated.
    database._uncertain = [outcome]
    assert len(database.commit([Record(device("phone-2"), None, ())])) == 1
    assert database.read(_udids) == ["phone-1", "phone-2"]
    database.close()


def _udids(conn: sqlite3.Connection) -> list[str]:
    return [udid for (udid,) in conn.execute("SELECT udid FROM devices ORDER BY udid")]


def _plan(conn: sqlite3.Connection, query: str, *arguments: object) -> str:
    return "\n".join(row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + query, arguments))


_WHOLE_TABLE = re.compile(r"SCAN (callbacks|next|c)\b(?! USING COVERING INDEX callbacks_pending)")


def _assert_plans(conn: sqlite3.Connection) -> None:
    """Nothing that runs while the agent works may look at finished callbacks it does not want."""
    lanes = _plan(conn, callbacks.LANES)
    assert "COVERING INDEX callbacks_pending (webhook_id=? AND udid>?)" in lanes
    assert "COVERING INDEX callbacks_pending (webhook_id>?)" in lanes
    assert "SEARCH next USING INTEGER PRIMARY KEY (rowid=?)" in lanes
    assert "SEARCH c USING INTEGER PRIMARY KEY (rowid=?)" in lanes
    pending = _plan(conn, callbacks.PENDING, 1, "a", 0, 10)
    assert "callbacks_pending (webhook_id=? AND udid=? AND id>?)" in pending
    assert "TEMP B-TREE" not in pending
    assert "callbacks_pending (webhook_id>?)" in _plan(conn, webhooks.WITH_PENDING)
    assert "callbacks_pending (webhook_id=?)" in _plan(conn, webhooks.CANCEL, 1, 1, 1)
    superseded = _plan(conn, callbacks.SUPERSEDE, 1, 1, "a", 1)
    assert superseded.count("callbacks_pending (webhook_id=? AND udid=?") == 2
    assert "TEMP B-TREE" not in superseded
    assert "callbacks_finished (finished_ms<?)" in _plan(conn, callbacks.EXPIRE, 1, 1)
    assert "transitions_by_age (at_ms<?)" in _plan(conn, transitions.EXPIRE, 1, 1, 1)
    for statement, width in ((callbacks.FINISH_PENDING, 5), (attempts.ADD, 7)):
        plan = _plan(conn, for_rows(statement, width, 4), *[0] * 4 * width)
        assert re.search(r"SEARCH (callbacks|c) USING INTEGER PRIMARY KEY \(rowid=\?\)", plan), plan
    for query, arguments in (
        (callbacks.LANES, ()),
        (callbacks.PENDING, (1, "a", 0, 10)),
        (webhooks.WITH_PENDING, ()),
        (webhooks.CANCEL, (1, 1, 1)),
        (backlog.COUNT, ()),
        (deliveries.WINDOW, (1, 1)),
        (deliveries.WINDOW_UP, (1, 1)),
        (callbacks.SUPERSEDE, (1, 1, "a", 1)),
    ):
        plan = _plan(conn, query, *arguments)
        assert not _WHOLE_TABLE.search(plan), plan


async def test_query_plans(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    conn = connect(tmp_path / STATE_NAME)
    _assert_plans(conn)
    conn.close()


def fill(conn: sqlite3.Connection, count: int, webhooks: int, devices: int) -> None:
    """Add that many pending callbacks, spread over webhooks and devices."""
    conn.execute("BEGIN")
    conn.execute(
        """
        WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
        INSERT INTO callbacks (message_id, webhook_id, udid, created_ms, body, headers, state,
                               attempts, due_ms)
        SELECT printf('msg_%012d', i), 1 + i % ?, printf('phone-%04d', i / ? % ?), 1000 + i,
               zeroblob(300), '[]', 'pending', 0, 0 FROM n
        """,
        (count, webhooks, webhooks, devices),
    )
    conn.execute("COMMIT")


@pytest.mark.long
async def test_a_million_pending_rows(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    conn = connect(tmp_path / STATE_NAME)
    fill(conn, 1_000_000, 5, 200)
    _assert_plans(conn)
    conn.close()
    store = open_store(tmp_path)
    lanes = await store.callbacks.lanes()
    assert len(lanes) == 1_000
    assert sorted(lane.head.rowid for lane in lanes) == list(range(1, 1_001))
    assert sum((await store.backlog.sizes()).values()) == 1_000_000
    await store.record(device(), None, [])
    await store.close()


async def test_what_a_full_store_holds_is_all_there(tmp_path: Path) -> None:
    await open_store(tmp_path).close()
    conn = connect(tmp_path / STATE_NAME)
    fill(conn, 3_000, 3, 10)
    conn.close()
    store = open_store(tmp_path)
    assert len(await store.callbacks.lanes()) == 30
    assert len(await rows(store)) == 3_000
    await store.close()


_ALL_STEPS = """
import asyncio, sys
from pathlib import Path
from tests.kit.store import open_store
async def main():
    for number in (1, 2, 3):
        store = open_store(Path(sys.argv[1]))
        await store.webhooks.ids([(1, f"a{number}", None)])
        await store.close()
        if number == 1:  # made anew from what can be read
            Path(sys.argv[1], "state.db").write_bytes(b"no database at all" * 1000)
    print(bool(store.health.recovered_from or list(Path(sys.argv[1]).glob("*corrupt*"))))
asyncio.run(main())
"""


@pytest.mark.skipif(
    shutil.which("strace") is None
    or subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs strace, and to be allowed to trace",
)
@pytest.mark.parametrize("error", ["EINVAL", "EOPNOTSUPP"])
def test_a_file_system_that_cannot_sync_directories(tmp_path: Path, error: str) -> None:
    """CIFS, 9p and some of FUSE: they keep names by themselves."""
    state = tmp_path / "state"
    state.mkdir()
    seen = tmp_path / "seen"
    done = subprocess.run(
        [
            *("strace", "-f", "--seccomp-bpf", "-qq", "-o", seen, "-P", state),
            *("-e", "trace=fsync"),
            *("-e", f"inject=fsync:error={error}", sys.executable, "-c", _ALL_STEPS, state),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"
    assert seen.read_text().count(f"-1 {error}") >= 3, "it was asked"
