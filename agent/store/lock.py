"""One agent per state directory: an flock that dies with the process, SIGKILL included."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from agent.errors import StoreError, StoreLockedError
from agent.users import user_name

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME = "lock"


def unusable(directory: Path, reason: str) -> StoreError:
    """The error for a directory that cannot be used: who we are, what is missing, what to do."""
    uid, gid = os.geteuid(), os.getegid()
    user = user_name(uid) or str(uid)
    return StoreError(
        f"cannot use the state directory {directory}: {reason}. The agent runs as user {user}"
        f" (uid {uid}, gid {gid}) and must be able to create and write files there. Create it with"
        f" `install -d -m 0700 -o {user} {directory}` on a writable file system, set"
        " StateDirectory= in the systemd unit, or name another place as state_dir in [agent]."
    )


def prepare(directory: Path) -> None:
    """Make the directory (0700) if it is missing; raises StoreError if it is not usable."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise unusable(directory, "there is a file of that name, not a directory") from None
    except OSError as error:
        raise unusable(directory, f"it cannot be created: {error.strerror}") from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
        raise unusable(
            directory, "its file system is read-only" if read_only else "permission denied"
        )


class DirectoryLock:
    """Holds `<directory>/lock`; the file says the holder's pid and stays after release."""

    def __init__(self, directory: Path) -> None:
        """Take the lock at once.

        Raises:
            StoreLockedError: another process holds it.
            StoreError: the file cannot be made.
        """
        path = directory / LOCK_NAME
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(directory, f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise unusable(directory, f"{path} cannot be locked: {error.strerror}") from error
            raise StoreLockedError(
                f"another agent (pid {holder or 'unknown'}) is using the state directory"
                f" {directory}. Stop that one first, or give this one its own state_dir."
            ) from None
        # The pid is only there to be read by people: a full disk must not keep the agent down.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0))

    def release(self) -> None:
        """Let others in; to be called once."""
        os.close(self._fd)
