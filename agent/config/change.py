"""A configuration file changed and put in force: one way for the API and for commands.

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
from agent.config.documents import Documents, read_texts
from agent.config.journal import torn_by, whole
from agent.config.loader import config_of
from agent.config.replace import cannot, replace
from agent.config.rewrite import rewrite
from agent.disk import UNSUPPORTED, sync_directory
from agent.errors import (
    AgentError,
    CannotWriteError,
    ChangeRefusedError,
    ConfigError,
    FileBusyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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


_HEAD = """\
# Webhooks that were made over device-agent's API or on its page. The agent writes this file itself:
# change them there, or with 'device-agent webhooks'. Only [[webhooks]] tables belong here.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Which of the two files is changed, and what stands beside it."""

    path: Path
    beside: Callable[[Document], Documents]
    """Both, with this one so; raises ConfigError where the other cannot be read."""
    is_managed: bool

    @classmethod
    def own(
        cls, path: Path, environ: Mapping[str, str], managed: Path | None = None, *, mine: bool
    ) -> Self:
        """The operator's; the other arguments as of `read_texts`."""

        def beside(document: Document) -> Documents:
            texts = read_texts(path, environ, managed, mine=mine)
            if texts.kept is None:
                return Documents(document)
            return Documents(document, Document(texts.kept, str(texts.managed)))

        return cls(path, beside, is_managed=False)

    @classmethod
    def managed(cls, own: Path, path: Path) -> Self:
        """The agent's own, which is made where it is not there yet."""
        return cls(path, lambda document: Documents(Document.read(own), document), is_managed=True)


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
    target: Target,
    wanted: Change,
    load: Callable[[], _T],
    *,
    stays: Callable[[AgentError], bool],
    not_put_back: Callable[[CannotWriteError], None],
) -> Changed[_T]:
    """Change the file and put it in force; where that is refused, the file is as it was. Blocking.

    Args:
        target: the file.
        wanted: what to change.
        load: puts the file in force; raises AgentError where that is refused. It is asked once more
            after the file was put back, for what is in force is known to be in the file then.
        stays: whether the change stays although `load` raised that.
        not_put_back: told that the file could not be put back, before the refusal is raised.

    Raises:
        AgentError: as `FileChanger.open` and `FileChanger.change`; the refusal of `load`.
    """
    with FileChanger.open(target) as file:
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

    def __init__(self, target: Target, lock: int) -> None:
        """For `open`, which takes the lock."""
        self._target = target
        self._path = target.path
        self.real = target.path.resolve()
        """Where links lead."""
        self._lock = lock
        self._before = self._after = b""

    @classmethod
    def open(cls, target: Target) -> Self:
        """Wait until no other command changes it.

        Raises:
            ConfigError: it is missing, or cannot be read.
            CannotWriteError: the agent's own is missing, and cannot be made.
            FileBusyError: another command does not end within LOCK_LIMIT.
        """
        if target.is_managed:
            _make(target.path)
        read(target.path)  # says what is wrong, were it missing
        real = target.path.resolve()
        file = cls(target, _lock(real))
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
            documents = self._target.beside(document)
            config_of(documents)
            changed = wanted.apply(document, documents.table("agent").get("org_id", 1))
            try:
                config = config_of(self._target.beside(changed))
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


def _make(path: Path) -> None:
    """The agent's own file, for the agent's user alone, were it root who makes it."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise cannot(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            home = path.parent.stat()
            if (home.st_uid, home.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, home.st_uid, home.st_gid)
            file.write(_HEAD.encode())
            file.flush()
            os.fsync(handle)
        sync_directory(path.parent)
    except OSError as error:
        raise cannot(path, error) from None


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
