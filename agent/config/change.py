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
from agent.config.documents import HEAD, Documents, read_texts
from agent.config.journal import torn_by, whole
from agent.config.loader import config_of
from agent.config.replace import cannot, create, remove, replace
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
_AGENT_S = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM})
"""Errors that mean something else of the agent's own file."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which of the two files is changed, and what stands beside it."""

    path: Path
    beside: Callable[[Document], Documents]
    """Both, with this one so; raises ConfigError where the other cannot be read."""
    is_managed: bool
    """The agent's own, which is made with its first webhook."""

    @classmethod
    def own(cls, path: Path, environ: Mapping[str, str]) -> Self:
        """The operator's, changed by a command; `environ` tells where the other is."""

        def beside(document: Document) -> Documents:
            texts = read_texts(path, environ, mine=False)
            if texts.kept is None:
                return Documents(document)
            return Documents(document, Document(texts.kept, str(texts.managed)))

        return cls(path, beside, is_managed=False)

    @classmethod
    def managed(cls, own: Path, path: Path) -> Self:
        """The agent's own; `own` is the operator's."""
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
        self._before: bytes | None = None
        """None: it was not there."""
        self._after = b""

    @classmethod
    def open(cls, target: Target) -> Self:
        """Wait until no other command changes it.

        Raises:
            ConfigError: the operator's is missing, or it cannot be read.
            CannotWriteError: its directory is missing, or cannot be read.
            FileBusyError: another command does not end within LOCK_LIMIT.
        """
        if not target.is_managed:
            read(target.path)  # says what is wrong, were it missing
        file = cls(target, _lock(target))
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
            if not (self._target.is_managed and isinstance(error, FileNotFoundError)):
                raise _cannot(self._target, error) from None

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
            text = HEAD if before is None else decoded(before, self._path)
            document = Document(text, str(self._path))
            documents = self._target.beside(document)
            config_of(documents)
            changed = wanted.apply(document, documents.table("agent").get("org_id", 1))
            try:
                config = config_of(self._target.beside(changed))
            except ConfigError as error:
                raise ChangeRefusedError(error.problems) from None
            bom = _BOM if before is not None and before.startswith(_BOM) else b""
            after = bom + changed.text.encode()
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

    def _read(self) -> bytes | None:
        try:
            return whole(self.real, self.real.read_bytes())
        except FileNotFoundError as error:
            if self._target.is_managed:
                return None
            raise _cannot(self._target, error) from None
        except OSError as error:
            raise _cannot(self._target, error) from None

    def _replace(self, before: bytes | None, after: bytes | None) -> bool:
        """None: there is none. False: it is not `before`."""
        try:
            if before is None:
                return after is None or create(self.real, after)
            if after is None:
                return remove(self.real, before)
            return replace(self.real, before, after)
        except OSError as error:
            raise _cannot(self._target, error) from None


def _cannot(target: Target, error: OSError) -> CannotWriteError:
    if not target.is_managed or error.errno not in _AGENT_S:
        return cannot(target.path, error)
    home = target.path.parent
    why = f"cannot change {target.path} ({error.strerror})"
    if error.errno == errno.ENOENT:
        remedy = f"start the agent, which makes its directory {home}"
    else:
        remedy = f"{home} and what is in it belong to the user the agent runs as"
        remedy += "" if os.geteuid() == 0 else ": use sudo, or ask the running agent"
    return CannotWriteError(f"{why}: {remedy}", why)


def _lock(target: Target) -> int:
    """The directory is locked: the file itself is another one after a change.

    On a file system without locks what is read is compared before it is replaced, as ever.
    """
    path = target.path.resolve()
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(target, error) from None
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
                raise _cannot(target, error) from None
        return handle
