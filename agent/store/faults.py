"""What went wrong with the file: is it broken, is the disk at fault, or only one change?"""

from __future__ import annotations

import sqlite3
from enum import Enum


class CorruptError(Exception):
    """The file is not a store, or a row is damaged, found without SQLite's help."""


class Trouble(Enum):
    """Who is to blame for an error, and so what to do about it."""

    CORRUPT = "corrupt"  # the file: set it aside, salvage
    DISK = "disk"  # the surroundings: keep the changes, try again later
    CHANGE = "change"  # the change itself: refuse it, go on with the others


_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CHANGE = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_ERROR,
    }
)


def primary_code(error: BaseException) -> int:
    """SQLite's result code without the extended part; -1 for errors that are not SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def trouble(error: Exception) -> Trouble:
    """Sort an error raised by a statement.

    Errors without SQLite's code come from binding values (a lone surrogate, an integer too large):
    the change is to blame. OSError and MemoryError are the surroundings'.
    """
    code = primary_code(error)
    if isinstance(error, CorruptError) or code in _CORRUPT or _is_no_text(error):
        return Trouble.CORRUPT
    if code in _CHANGE or (code == -1 and not isinstance(error, OSError | MemoryError)):
        return Trouble.CHANGE
    return Trouble.DISK


def _is_no_text(error: Exception) -> bool:
    # Python's own finding about a column that SQLite gave as text; it has no code.
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode")


def explain(error: Exception) -> str:
    """The error in an operator's words, with SQLite's name of it."""
    name = getattr(error, "sqlite_errorname", "")
    said = f"{error} ({name})" if name else str(error) or type(error).__name__
    match primary_code(error):
        case sqlite3.SQLITE_FULL:
            return f"the disk is full: {said}"
        case sqlite3.SQLITE_READONLY:
            return f"the file or its file system is read-only: {said}"
        case sqlite3.SQLITE_BUSY:
            return f"another program (a sqlite3 shell, a backup?) has the file open: {said}"
        case _:
            return said
