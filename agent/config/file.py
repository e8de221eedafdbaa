"""The configuration file on disk: which text of it was read, and changes that replace it whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from typing import TYPE_CHECKING

from agent.config.document import Document, decoded, read
from agent.config.journal import torn_by, whole
from agent.config.loader import config_of
from agent.config.rewrite import rewrite
from agent.config.warn import warnings
from agent.disk import UNSUPPORTED, sync_directory
from agent.errors import CannotWriteError, ChangeRefusedError, ConfigError, FileBusyError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from agent.config.derived import Config
    from agent.config.edit import Change
    from agent.errors import Problem

LOCK_LIMIT = 5.0
"""Seconds to wait for another command that changes the file."""
_WRITTEN_IN = 0.2
"""Seconds that a file may be empty while somebody writes it in place."""
_TRIES = 5
"""Times that a change is made anew because an editor saved the file meanwhile."""
_IN_PLACE = UNSUPPORTED | {errno.EBUSY, errno.EXDEV, errno.EEXIST}
"""What `rename` answers of a file that is mounted by itself, and on odd file systems."""
_BOM = b"\xef\xbb\xbf"


class ConfigFile:
    """The file, and which text of it was loaded last.

    Args:
        path: absolute: relative paths in it start from its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded = ""
        """Fingerprint of what `load` read last, usable or not."""

    def load(self) -> tuple[Config, tuple[Problem, ...]]:
        """The configuration, and what `check` warns of. Blocks, for a moment if it is empty.

        Raises ConfigError, with every mistake.
        """
        try:
            text = read(self.path)
            if not text.strip():
                time.sleep(_WRITTEN_IN)
                text = read(self.path)
        except ConfigError as error:
            self.loaded = _fingerprint(str(error))
            raise
        self.loaded = _fingerprint(text)
        document = Document(text, str(self.path))
        config = config_of(document)
        return config, warnings(config, document)

    def look(self) -> tuple[str, str]:
        """Its text as it is now, and the fingerprint of that; unreadable: no text, and its own."""
        try:
            text = read(self.path)
        except ConfigError as error:
            return "", _fingerprint(str(error))
        return text, _fingerprint(text)


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


EMPTY = _fingerprint("")
"""Of a file that is there, and has nothing in it."""


class FileChanger:
    """The only command that changes the file, from `open` to `close`; a context manager.

    An editor knows no lock: what it saves meanwhile is kept, and the change made to that.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """For `open`, which takes the lock."""
        self._path = path
        self.real = path.resolve()
        """Where links lead."""
        self._lock = lock
        self._before = self._after = b""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Wait until no other command changes it.

        Raises:
            ConfigError: it is missing, or cannot be read.
            FileBusyError: another command does not end within LOCK_LIMIT.
        """
        read(path)  # says what is wrong, were it missing
        real = path.resolve()
        file = cls(path, _lock(real))
        try:
            file._mend()
        except BaseException:
            file.close()
            raise
        return file

    def _mend(self) -> None:
        """Bring a change to its end that a crash cut off; readers have taken it for done."""
        try:
            torn = torn_by(self.real, self.real.read_bytes())
            if torn is not None:
                rewrite(self.real, *torn)
        except OSError as error:
            raise _cannot(self._path, error) from None

    def change(self, wanted: Change) -> Config:
        """Replace the file, at once, by one that can be used. May be called again.

        Raises:
            ConfigError: the file cannot be used as it is.
            ChangeRefusedError: it could not be used after the change.
            UnknownWebhookError: it has no such webhook.
            EditError: it is written in a way that cannot be edited.
            CannotWriteError: it may not be written, or the disk fails.
            FileBusyError: something else keeps on writing it.
            Whatever is raised, nothing is changed.
        """
        for _ in range(_TRIES):
            before = self._read()
            document = Document(decoded(before, self._path), str(self._path))
            config_of(document)
            changed = wanted.apply(document)
            try:
                config = config_of(changed)
            except ConfigError as error:
                raise ChangeRefusedError(error.problems) from None
            after = (_BOM if before.startswith(_BOM) else b"") + changed.text.encode()
            if after == before or self._replace(before, after):
                self._before, self._after = before, after
                return config
        raise FileBusyError(f"{self._path} is being written by something else: try again")

    def put_back(self) -> None:
        """Undo the last change.

        Raises:
            FileBusyError: somebody wrote the file since; it is left as it is.
            CannotWriteError: it may not be written any more.
        """
        if not self._replace(self._after, self._before):
            raise FileBusyError(f"{self._path} was changed meanwhile, and is left as it is")

    def close(self) -> None:
        """Let other commands change it."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> bytes:
        try:
            return whole(self.real, self.real.read_bytes())
        except OSError as error:
            raise _cannot(self._path, error) from None

    def _replace(self, before: bytes, after: bytes) -> bool:
        """Write beside it and rename: whoever reads sees the old file or the new one, whole.

        Where that cannot be (it is a mount, or its owner cannot be kept), it is rewritten in place,
        safe against a crash all the same. False: it is not `before` any more, and stays as it is.
        """
        new = self.real.with_name(f".{self.real.name}.{secrets.token_hex(4)}")
        try:
            try:
                alike = _write_like(self.real, new, after)
                if self._read() != before:
                    return False
                if not (alike and _renamed(new, self.real)):
                    new.unlink()
                    rewrite(self.real, before, after)
            finally:
                new.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot(self._path, error) from None
        return True


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


def _lock(path: Path) -> int:
    """The directory is locked: the file itself is another one after a change.

    On a file system without locks what is read is compared before it is replaced, as ever.
    """
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(path, error) from None
    until = time.monotonic() + LOCK_LIMIT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.02)
                continue
            os.close(handle)
            raise FileBusyError(f"{path} is being changed by another command: try again") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED | {errno.ENOLCK}:
                os.close(handle)
                raise _cannot(path, error) from None
        return handle


def _write_like(old: Path, new: Path, data: bytes) -> bool:
    """A new file with the old one's owner, mode and attributes; on the disk when this returns.

    False: the owner cannot be kept.
    """
    was = old.stat()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
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


def _cannot(path: Path, error: OSError) -> CannotWriteError:
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
