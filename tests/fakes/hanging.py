"""A file system that hangs, as a network mount does whose server is away: FUSE without a daemon.

Whoever opens a file of it waits in the kernel until `close`, then gets an error.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_NO_SUID_NO_DEV = 2 | 4
_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Hanging:
    """Mounted from the start; skips the test where that is not allowed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"no FUSE here: {error}")
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if _libc.mount(b"hanging", bytes(place), b"fuse", _NO_SUID_NO_DEV, options.encode()):
            os.close(self._device)
            pytest.skip(f"may not mount: {os.strerror(ctypes.get_errno())}")

    def file(self, name: str) -> Path:
        """One of its files; none was ever seen."""
        return self.place / name

    def close(self) -> None:
        """Give all who wait an error, and go."""
        with suppress(OSError):
            os.close(self._device)
        _libc.umount2(bytes(self.place), _DETACH)
