"""What every file system can, and what some cannot: directories that are synced."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

UNSUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ENOTTY}
)
"""What a file system answers that does not know a call."""


def sync_directory(path: Path) -> None:
    """Fsync a directory: its names are on the disk then.

    CIFS, 9p and some of FUSE do not know that (EINVAL); they keep their names by themselves.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(handle)
