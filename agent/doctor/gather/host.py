"""The disk under the store, and the clock."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from typing import TYPE_CHECKING

from agent.doctor.facts import HostFacts, StoreFacts, User
from agent.doctor.gather.limit import in_thread
from agent.store import SQLITE_VERSION
from agent.store.inspect import StoreState, inspect

if TYPE_CHECKING:
    from pathlib import Path

DISK_LIMIT = 4.0
"""Seconds; a network file system may hang for ever."""
CHECK_LIMIT = 1.5
"""Seconds for SQLite to look through the file, in which no agent can start."""


async def look_at_store(directory: Path, user: User, *, runs: bool, sqlite: str) -> StoreFacts:
    """The state directory; the store's file only where no agent runs. Raises nothing."""

    def look() -> StoreFacts:
        found = None if runs else inspect(directory, CHECK_LIMIT)
        state = str(found.state) if found is not None else ""
        detail = found.detail if found is not None else ""
        version = sqlite or SQLITE_VERSION
        place = directory
        while not place.exists() and place != place.parent:
            place = place.parent
        space, status = os.statvfs(place), place.stat()
        return StoreFacts(
            directory,
            version,
            exists=directory.is_dir(),
            state=state,
            detail=detail,
            free=space.f_bavail * space.f_frsize,
            total=space.f_blocks * space.f_frsize,
            inodes_free=space.f_favail,
            inodes=space.f_files,
            read_only=bool(space.f_flag & os.ST_RDONLY),
            usable=user.may_use(status.st_mode, status.st_uid, status.st_gid),
        )

    try:
        return await in_thread(look, DISK_LIMIT)
    except TimeoutError:
        detail = f"its disk did not answer within {DISK_LIMIT:g} s"
    except OSError as error:
        detail = error.strerror or str(error)
    return StoreFacts(
        directory, sqlite or SQLITE_VERSION, state=str(StoreState.UNREADABLE), detail=detail
    )


class _Timex(ctypes.Structure):
    """The head of `struct timex` (adjtimex(2)), and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


_STA_UNSYNC = 0x40
_TIME_ERROR = 5


def look_at_clock() -> HostFacts:
    """What the kernel says of its clock; raises nothing."""
    timex = _Timex()  # modes 0: only read
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        return HostFacts(socket.gethostname(), time.time())
    good = state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return HostFacts(
        socket.gethostname(), time.time(), synchronised=good, max_error=timex.maxerror / 1e6
    )
