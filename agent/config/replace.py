"""A file replaced whole, as its owner had it; who may not do that is told what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from agent.config.journal import whole
from agent.config.rewrite import rewrite
from agent.disk import UNSUPPORTED, sync_directory
from agent.errors import CannotWriteError

if TYPE_CHECKING:
    from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_IN_PLACE = UNSUPPORTED | {errno.EBUSY, errno.EXDEV, errno.EEXIST}
"""What `rename` answers of a file that is mounted by itself, and on odd file systems."""


def replace(real: Path, before: bytes, after: bytes) -> bool:
    """Write beside it and rename: whoever reads sees the old file or the new one, whole.

    Where that cannot be (it is a mount, or its owner cannot be kept), it is rewritten in place,
    safe against a crash all the same.

    Args:
        real: the file; links must have been followed.
        before: what it holds.
        after: what it is to hold.

    Returns:
        False: it is not `before` any more, and stays as it is.

    Raises:
        OSError: it cannot be written, and stays as it is; `cannot` makes words of that.
    """
    new = _beside(real)
    try:
        alike = _write_like(real, new, after)
        if whole(real, real.read_bytes()) != before:
            return False
        if not (alike and _renamed(new, real)):
            new.unlink()
            rewrite(real, before, after)
    finally:
        new.unlink(missing_ok=True)
    return True


def create(real: Path, data: bytes) -> bool:
    """Make it, whole from its first moment, for nobody but who owns its directory.

    Returns:
        False: there is one already, which stays as it is.

    Raises:
        OSError: it cannot be made, and nothing is left of it.
    """
    new = _beside(real)
    home = real.parent.stat()
    try:
        handle = os.open(new, _NEW, 0o600)
        with os.fdopen(handle, "wb") as file:
            if home.st_uid != os.geteuid():  # root makes it for the agent
                os.fchown(handle, home.st_uid, home.st_gid)
            file.write(data)
            file.flush()
            os.fsync(handle)
        if real.exists():
            return False
        new.rename(real)
    finally:
        new.unlink(missing_ok=True)
    sync_directory(real.parent)
    return True


def remove(real: Path, before: bytes) -> bool:
    """Remove it. False: it is not `before` any more, and stays as it is. Raises OSError."""
    if whole(real, real.read_bytes()) != before:
        return False
    real.unlink()
    sync_directory(real.parent)
    return True


def _beside(real: Path) -> Path:
    return real.with_name(f".{real.name}.{secrets.token_hex(4)}")


def _renamed(new: Path, real: Path) -> bool:
    """False: nothing can take the file's place here."""
    try:
        new.rename(real)
    except OSError as error:
        if error.errno not in _IN_PLACE:
            raise
        return False
    sync_directory(real.parent)
    return True


def _write_like(old: Path, new: Path, data: bytes) -> bool:
    """A new file with the old one's owner, mode and attributes; on the disk when this returns.

    False: the owner cannot be kept.
    """
    was = old.stat()
    handle = os.open(new, _NEW, 0o600)
    with os.fdopen(handle, "wb") as file:
        try:
            made = os.fstat(handle)
            if (was.st_uid, was.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(handle, was.st_uid, was.st_gid)
            if stat.S_IMODE(was.st_mode) != stat.S_IMODE(made.st_mode):
                os.fchmod(handle, stat.S_IMODE(was.st_mode))
        except OSError:
            return False
        with contextlib.suppress(OSError):  # access lists: not every file system has them
            for name in os.listxattr(old):
                os.setxattr(handle, name, os.getxattr(old, name))
        file.write(data)
        file.flush()
        os.fsync(handle)
    return True


def cannot(path: Path, error: OSError) -> CannotWriteError:
    """With the remedy that is true here: `sudo` is none for root, nor for a read-only mount."""
    match error.errno:
        case errno.EROFS:
            remedy = (
                "mount its directory writable (in a container: the directory, not the one file), "
                "or change the file where it comes from, then 'device-agent reload'"
            )
        case errno.ENOSPC | errno.EDQUOT:
            remedy = "free space on its disk, and try again"
        case errno.EACCES | errno.EPERM if os.geteuid() != 0:
            remedy = "use sudo, or edit it as its owner, then 'device-agent reload'"
        case errno.EACCES | errno.EPERM:
            remedy = (
                "root may write everything but that: look for an immutable flag (lsattr), for who "
                "owns the network share, or for what this container may not do"
            )
        case _:
            remedy = "look at its disk and what the kernel says of it (dmesg), and try again"
    why = f"cannot change {path} ({error.strerror})"
    return CannotWriteError(f"{why}: {remedy}", why)
