"""A file rewritten in place, where nothing can take its place: a crash loses neither text.

A file that is mounted by itself (`docker -v agent.toml:/etc/…`) cannot be renamed over: EBUSY.
Both texts are put down beside it first; see `journal`.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from agent.config.journal import LONGEST, journal_of
from agent.disk import UNSUPPORTED, sync_directory

if TYPE_CHECKING:
    from pathlib import Path


def rewrite(real: Path, before: bytes, after: bytes) -> None:
    """Put `after` in the place of `before`.

    Raises OSError: the file, or its directory, cannot be written; the file is as it was.
    """
    with real.open("r+b", buffering=0) as file:
        journal = journal_of(real)
        _put(journal, real, before, after)
        try:
            _fill(file.fileno(), after)
        except OSError:
            _fill(file.fileno(), before)
            raise
        finally:
            # Should `before` not be there again, the journal stays: it has both.
            if os.pread(file.fileno(), LONGEST, 0) in (before, after):
                journal.unlink()
                sync_directory(real.parent)


def _put(journal: Path, real: Path, before: bytes, after: bytes) -> None:
    """The journal, whole and on the disk; readable to whom the file is."""
    new = journal.with_name(journal.name + ".new")
    new.unlink(missing_ok=True)
    was = real.stat()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        with contextlib.suppress(OSError):  # then it stays ours alone
            os.fchown(handle, was.st_uid, was.st_gid)
            os.fchmod(handle, was.st_mode & 0o666)
        file.write(json.dumps({"before": len(before), "after": len(after)}).encode() + b"\n")
        file.write(before + after)
        file.flush()
        os.fsync(handle)
    new.rename(journal)
    sync_directory(real.parent)


def _fill(handle: int, data: bytes) -> None:
    try:
        os.posix_fallocate(handle, 0, len(data))  # a full disk says so before a byte is changed
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], done)
    os.ftruncate(handle, len(data))
    os.fsync(handle)
