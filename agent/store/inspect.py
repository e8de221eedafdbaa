"""A look at a store that no agent uses, from another process; it stays as it is."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from agent.store import files
from agent.store.faults import Trouble, explain, trouble
from agent.store.lock import LOCK_NAME
from agent.store.migrate import scripts, version

if TYPE_CHECKING:
    from pathlib import Path

_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock."""


class StoreState(StrEnum):
    """What was found."""

    OK = "ok"
    ABSENT = "absent"
    BUSY = "busy"
    CORRUPT = "corrupt"
    NEWER = "newer"
    UNREADABLE = "unreadable"
    SLOW = "slow"


class Inspection(NamedTuple):
    """`detail` says what is behind the state, for people."""

    state: StoreState
    detail: str = ""


def inspect(directory: Path, limit: float) -> Inspection:
    """Look whether the store there is whole (`PRAGMA quick_check`), for `limit` seconds at most.

    Takes the directory's lock meanwhile: where an agent has it, the file is not touched. Blocking;
    raises nothing.
    """
    path = directory / files.STATE_NAME
    try:
        if not path.exists():
            return Inspection(StoreState.ABSENT, f"{path} is not there yet")
        # Not made if missing, and opened for reading: this may be another user.
        lock = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        lock = -1  # a store that was restored without it
    except OSError as error:
        return Inspection(StoreState.UNREADABLE, error.strerror or str(error))
    try:
        if lock >= 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return Inspection(StoreState.BUSY, "an agent uses it")
        return _look(path, time.monotonic() + limit)
    finally:
        if lock >= 0:
            os.close(lock)


def _look(path: Path, until: float) -> Inspection:
    # Of this connection alone; left behind by root they would be in the agent's way.
    ours = [
        each for suffix in ("-shm", "-wal") if not (each := files.beside(path, suffix)).exists()
    ]
    try:
        conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
        try:
            conn.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            if (found := version(conn)) > (known := len(scripts())):
                return Inspection(StoreState.NEWER, f"schema {found}, this agent knows {known}")
            (words,) = conn.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            conn.close()
    except sqlite3.Error as error:
        if "interrupted" in str(error):
            return Inspection(StoreState.SLOW)
        corrupt = trouble(error) is Trouble.CORRUPT
        state = StoreState.CORRUPT if corrupt else StoreState.UNREADABLE
        return Inspection(state, explain(error))
    finally:
        for each in ours:
            with suppress(OSError):
                each.unlink(missing_ok=True)
    good = words == "ok"
    return Inspection(StoreState.OK if good else StoreState.CORRUPT, "" if good else str(words))
