"""The configuration file changed and put in force: one way for the API and for commands.

Killed at any moment it leaves the old file or the new one, whole; see `replace` and `journal`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.config.document import Document, decoded, read
from agent.config.journal import torn_by, whole
from agent.config.loader import config_of
from agent.config.replace import cannot, replace
from agent.config.rewrite import rewrite
from agent.disk import UNSUPPORTED
from agent.errors import (
    AgentError,
    CannotWriteError,
    ChangeRefusedError,
    ConfigError,
    FileBusyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from agent.config.derived import Config
    from agent.config.edit import Change

_T = TypeVar("_T")

LOCK_LIMIT = 5.0
"""Seconds to wait for another command that changes the file."""
_TRIES = 5
"""Times that a change is made anew because an editor saved the file meanwhile."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Changed(Generic[_T]):
    """What came of a change that stays."""

    file: Path
    """Where links lead."""
    config: Config
    """Of the file as it is now."""
    answer: _T | None
    """Of who loaded it; None: nobody did, see `why_not`."""
    why_not: AgentError | None = None


def change(
    path: Path,
    wanted: Change,
    load: Callable[[], _T],
    *,
    stays: Callable[[AgentError], bool],
    not_put_back: Callable[[CannotWriteError], None],
) -> Changed[_T]:
    """Change the file and put it in force; where that is refused, the file is as it was. Blocking.

    Args:
        path: the file.
        wanted: what to change.
        load: puts the file in force; raises AgentError where that is refused. It is asked once more
            after the file was put back, for what is in force is known to be in the file then.
        stays: whether the change stays although `load` raised that.
        not_put_back: told that the file could not be put back, before the refusal is raised.

    Raises:
        AgentError: as `FileChanger.open` and `FileChanger.change`; the refusal of `load`.
    """
    with FileChanger.open(path) as file:
        config = file.change(wanted)
        try:
            return Changed(file.real, config, load())
        except AgentError as error:
            if stays(error):
                return Changed(file.real, config, None, error)
            try:
                file.put_back()
            except CannotWriteError as second:
                not_put_back(second)
            else:
                with suppress(AgentError):  # the first refusal is the news
                    load()
            raise


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
            raise cannot(self._path, error) from None

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
            raise cannot(self._path, error) from None

    def _replace(self, before: bytes, after: bytes) -> bool:
        try:
            return replace(self.real, before, after)
        except OSError as error:
            raise cannot(self._path, error) from None


def _lock(path: Path) -> int:
    """The directory is locked: the file itself is another one after a change.

    On a file system without locks what is read is compared before it is replaced, as ever.
    """
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise cannot(path, error) from None
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
                raise cannot(path, error) from None
        return handle
