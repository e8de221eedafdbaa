"""Reads what can still be read of a corrupt store into a fresh one. Works on a copy of the file.

Carried over: webhook ids first (they may never be given twice), devices, leases, silences, and
the callbacks that are pending or dead, with their ids; last, what reports of old days are made of.
Other history (transitions, delivered callbacks, attempts) stays in the file that was set aside. So
does what a hub knows of its fleet: without it the hub asks every host for all that it has, which
mends what else was lost.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from agent.model import CallbackState
from agent.store import files
from agent.store.tables import days, devices, log, meta, silences
from agent.store.tables.callbacks import read_headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_GAPS_MAX = 10_000
_STRIDE = 8
"""Ids stepped over between two tries behind an unreadable place: fewer than most pages hold."""
_STRIDES = 50_000
"""Tries, a second's worth, before the steps grow."""
_FIRST = -(1 << 62)
_LAST = 1 << 62
_KEPT_STATES = frozenset({CallbackState.PENDING.value, CallbackState.DEAD.value})
_ID_GAP = 1_000_000
"""Callback ids skipped when it cannot be known which was the last one given."""


@dataclass(slots=True)
class Report:
    """What was carried over (table → rows) and what was not, in the operator's words."""

    kept: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Scan:
    """One table's way over; `whole` as long as nothing was found unreadable."""

    whole: bool = True
    rows: int = 0
    refused: int = 0
    gaps: int = 0


def working_copy(path: Path, fresh: Path) -> Path | None:
    """A readable copy of the corrupt store, or None when nothing can be read at all.

    Where the file's first page is lost, that of a fresh store is put in its place: both were made
    by the same scripts, so their tables begin on the same pages.
    """
    if path.stat().st_size == 0:
        return None
    copy = files.beside(path, ".salvage")
    files.discard(copy)
    for header_lost in (False, True):
        shutil.copyfile(path, copy)
        if files.beside(path, "-wal").exists():
            shutil.copyfile(files.beside(path, "-wal"), files.beside(copy, "-wal"))
        if header_lost:
            _transplant_first_page(copy, fresh)
        found = _tables_in(copy)
        if found is not None and {"webhooks", "callbacks"} <= found:
            return copy
        files.discard(copy)
        if found is not None:  # a database, but somebody else's: nothing of ours to look for
            return None
    return None


def _transplant_first_page(damaged: Path, fresh: Path) -> None:
    with fresh.open("rb") as source:
        header = source.read(100)
        page_size = int.from_bytes(header[16:18], "big")
        source.seek(0)
        page = bytearray(source.read(page_size))
    # Offsets of the SQLite file format's header: 24 and 92 agree, so that 28 (pages) is believed;
    # 32 and 36 say that there are no free pages.
    page[28:32] = (damaged.stat().st_size // page_size).to_bytes(4, "big")
    page[92:96] = page[24:28]
    page[32:40] = bytes(8)
    with damaged.open("r+b") as target:
        target.write(page)


def _open(copy: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(copy, isolation_level=None)
    conn.text_factory = lambda raw: raw.decode("utf-8", "replace")
    # Lets SQLite read a file that is shorter than its header says.
    conn.execute("PRAGMA writable_schema = ON")
    conn.execute("PRAGMA locking_mode = EXCLUSIVE")
    return conn


def _tables_in(copy: Path) -> frozenset[str] | None:
    conn = _open(copy)
    try:
        return files.tables(conn)
    except sqlite3.DatabaseError:
        return None
    finally:
        conn.close()


def salvage(copy: Path | None, new: sqlite3.Connection) -> Report:
    """Fill the new store from the copy (None: nothing was readable), inside its transaction."""
    report = Report()
    if copy is None:
        report.lost.append("everything: the file is not a database any more")
        _spare_webhook_ids(new, report)
        return report
    old = _open(copy)
    try:
        # `batch` too: it tells whether a commit that failed with the corruption was stored.
        _carry(old, new, "meta", report)
        log.begin_anew(new)  # transitions are not carried over: ids begin again
        webhooks = _carry(old, new, "webhooks", report)
        if not webhooks.whole:
            _spare_webhook_ids(new, report)
        _carry(old, new, "devices", report)
        _mend_devices(new, report)
        _carry(old, new, "leases", report)
        _carry(old, new, "silences", report)
        _mend_silences(new, report)
        callbacks = _carry(old, new, "callbacks", report)
        _name_lost_callbacks(old, new, report)
        _keep_callback_ids_apart(old, new, callbacks)
        _carry(old, new, "days", report)
        days.forget_ids(new)
        _carry(old, new, "watching", report)
    finally:
        old.close()
    return report


def _carry(old: sqlite3.Connection, new: sqlite3.Connection, table: str, report: Report) -> _Scan:
    scan = _Scan()
    try:
        columns = _common_columns(old, new, table)
    except sqlite3.DatabaseError:
        columns = ()
    if not columns:
        scan.whole = False
        report.lost.append(f"{table}: unreadable")
        return scan
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - the schema's own names
    state = columns.index("state") if table == "callbacks" else None
    for row in _readable_rows(old, table, columns, scan):
        if state is not None and row[state] not in _KEPT_STATES:
            continue
        try:
            new.execute(insert, row)
            scan.rows += 1
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError):
            scan.refused += 1
    if state is not None:
        _mend_headers(new, report)
    scan.whole = not scan.gaps and not scan.refused
    report.kept[table] = scan.rows
    if scan.gaps:
        report.lost.append(f"{table}: {scan.gaps} places unreadable")
    if scan.refused:
        report.lost.append(f"{table}: {scan.refused} rows damaged")
    return scan


def _mend_headers(new: sqlite3.Connection, report: Report) -> None:
    """A callback goes out although the headers of its body are damaged."""
    damaged = []
    for rowid, headers in new.execute("SELECT id, headers FROM callbacks"):
        with suppress(ValueError):
            if headers.isascii() and read_headers(headers) is not None:
                continue
        damaged.append((json.dumps([("Content-Type", "application/json")]), rowid))
    new.executemany("UPDATE callbacks SET headers = ? WHERE id = ?", damaged)
    if damaged:
        report.lost.append(f"the headers of {len(damaged)} callbacks, but for their Content-Type")


def _mend_devices(new: sqlite3.Connection, report: Report) -> None:
    """What nobody can read would keep the agent from starting, time and again."""
    nameless, gone = devices.mend(new)
    if nameless:
        report.lost.append(f"how {nameless} devices are told from others, but for their UDIDs")
    if gone:
        report.kept["devices"] -= gone
        report.lost.append(f"devices: {gone} rows make no sense")


def _mend_silences(new: sqlite3.Connection, report: Report) -> None:
    """Likewise."""
    gone = silences.mend(new)
    if gone:
        report.kept["silences"] -= gone
        report.lost.append(f"silences: {gone} rows make no sense")


def _common_columns(
    old: sqlite3.Connection, new: sqlite3.Connection, table: str
) -> tuple[str, ...]:
    query = "SELECT name FROM pragma_table_info(?)"
    there = {name for (name,) in old.execute(query, (table,))}
    return tuple(name for (name,) in new.execute(query, (table,)) if name in there)


def _readable_rows(
    old: sqlite3.Connection, table: str, columns: Sequence[str], scan: _Scan
) -> Iterator[tuple[object, ...]]:
    """The table's rows in rowid order, stepping over what cannot be read."""
    query = (
        f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED"  # noqa: S608 - the schema's own names
        " WHERE rowid >= ? ORDER BY rowid"
    )
    start: int | None = _FIRST
    while start is not None and scan.gaps < _GAPS_MAX:
        try:
            for row in old.execute(query, (start,)):
                start = _checked(row[0], start) + 1
                yield row[1:]
        except sqlite3.DatabaseError:
            scan.gaps += 1
            start = _next_start(old, query + " LIMIT 1", start)
        else:
            return


def _checked(rowid: int, start: int) -> int:
    """The rowid, unless a damaged page gave one that the question excludes."""
    if rowid < start:
        raise sqlite3.DatabaseError(f"row {rowid} where only rows from {start} on belong")
    return rowid


def _next_start(old: sqlite3.Connection, probe: str, bad: int) -> int | None:
    """The lowest id above `bad` from which the table can be read on; None: there is none."""

    def readable(start: int) -> bool:
        try:
            row = old.execute(probe, (start,)).fetchone()
            if row is not None:
                _checked(row[0], start)
        except sqlite3.DatabaseError:
            return False
        return True

    first = max(bad + 1, 0)  # no id is below 0
    beyond = first + _STRIDE * _STRIDES
    doubling = (beyond << power for power in range(_LAST.bit_length() - beyond.bit_length()))
    for start in chain(range(first, beyond, _STRIDE), doubling):
        if readable(start):
            lowest = max(bad + 1, start - _STRIDE + 1)
            return next(earlier for earlier in range(lowest, start + 1) if readable(earlier))
    return None


def _name_lost_callbacks(old: sqlite3.Connection, new: sqlite3.Connection, report: Report) -> None:
    """The index of pending callbacks may still know those whose rows are gone."""
    missing: list[tuple[int, str]] = []
    try:
        listed = old.execute(
            "SELECT webhook_id, udid, id FROM callbacks INDEXED BY callbacks_pending"
            " WHERE state = 'pending'"
        )
        for webhook_id, udid, rowid in listed:
            if new.execute("SELECT 1 FROM callbacks WHERE id = ?", (rowid,)).fetchone() is None:
                missing.append((webhook_id, udid))
    except sqlite3.DatabaseError:
        report.lost.append("the index of pending callbacks: unreadable, so none can be named")
    if missing:
        lanes = sorted(set(missing))
        named = ", ".join(f"{udid} (webhook {webhook})" for webhook, udid in lanes[:10])
        more = f" and {len(lanes) - 10} more" if len(lanes) > 10 else ""  # noqa: PLR2004 - as sliced above
        report.lost.append(f"{len(missing)} pending callbacks, of {named}{more}")


def _keep_callback_ids_apart(old: sqlite3.Connection, new: sqlite3.Connection, scan: _Scan) -> None:
    (top,) = new.execute("SELECT coalesce(max(id), 0) FROM callbacks").fetchone()
    try:
        (given,) = old.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'callbacks'"
        ).fetchone() or (0,)
        last = max(int(given), top)
    except (sqlite3.DatabaseError, TypeError, ValueError):
        scan.whole = False
        last = top
    if not scan.whole:
        last += _ID_GAP
    new.execute("DELETE FROM sqlite_sequence WHERE name = 'callbacks'")
    new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('callbacks', ?)", (last,))


def _spare_webhook_ids(new: sqlite3.Connection, report: Report) -> None:
    """Ids were lost with their webhooks' names: give new ones from where none was ever given.

    Seconds since the epoch are above every id the store gave before, be it from 1 up or after an
    earlier loss.
    """
    floor = int(time.time())
    meta.put(new, meta.WEBHOOK_FLOOR, floor)
    report.lost.append(
        f"webhook ids: webhooks without an id in the config may get a new one, above {floor}"
    )
