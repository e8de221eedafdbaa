"""The operator's file and, beside it, the webhooks that the agent keeps itself: read as one.

The agent never writes `agent.toml`. What is made over the API or on the page stands in
`webhooks.toml` in the state directory, as `[[webhooks]]` tables and nothing else. Everything that
looks at a configuration looks at both, joined: their webhooks stand behind those of the operator.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config.derived import Config
from agent.config.document import Document, read
from agent.config.places import Origin, nearest
from agent.errors import ConfigError, Problem
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.places import KeyPath

MANAGED = "webhooks.toml"
"""Its name in the state directory."""
HEAD = """\
# Webhooks that were made over device-agent's API or on its page. The agent writes this file itself:
# change them there, or with 'device-agent webhooks'. Only [[webhooks]] tables belong here.
"""
"""What it begins with."""
_TABLE = "webhooks"


class Documents:
    """Both, as one document; never changes.

    Args:
        own: the operator's file.
        managed: the agent's own; None: there is none.
    """

    def __init__(self, own: Document, managed: Document | None = None) -> None:
        self.own = own
        self.managed = managed
        self.file = own.file
        """Of the operator; relative paths, in both, start from its directory."""
        first = own.data.get(_TABLE, [])
        more = [] if managed is None else managed.data.get(_TABLE, [])
        joined = isinstance(first, list) and isinstance(more, list) and bool(more)
        self.of_operator = len(first) if isinstance(first, list) else 0
        """How many webhooks of `data` are in the operator's file; the agent's follow."""
        self.keeps_some = bool(more)
        """The agent's own file has webhooks."""
        self.data: dict[str, Any] = {**own.data, _TABLE: [*first, *more]} if joined else own.data

    def table(self, key: str) -> dict[str, Any]:
        """What stands under that header of the operator's file; nothing where it is no table."""
        return self.own.table(key)

    def place(self, path: KeyPath) -> tuple[str, int, int]:
        """File, line and column of a path of `data`, or of what it is missing from."""
        document, inside = self.home(path)
        return (document.file, *nearest(document.places, inside))

    def origin(self, index: int) -> Origin:
        """Of the webhook with that number in `data`."""
        file, line, _ = self.place((_TABLE, index))
        return Origin(file, line, managed=index >= self.of_operator)

    def misplaced(self) -> list[Problem]:
        """What the agent's own file holds that does not belong in it."""
        managed = self.managed
        if managed is None:
            return []
        found = [
            Problem(
                managed.file,
                *nearest(managed.places, (key,)),
                f"'{printable(key, 60)}' does not belong here: this file holds [[webhooks]] alone, "
                f"all else stands in {self.file}",
            )
            for key in managed.data
            if key != _TABLE
        ]
        if not isinstance(managed.data.get(_TABLE, []), list):
            place = nearest(managed.places, (_TABLE,))
            found.append(Problem(managed.file, *place, "write [[webhooks]], one for each webhook"))
        return found

    def home(self, path: KeyPath) -> tuple[Document, KeyPath]:
        """In which of the two a path of `data` is, and where in that."""
        if self.managed is not None and path[:1] == (_TABLE,) and len(path) > 1:
            index = path[1]
            if isinstance(index, int) and index >= self.of_operator:
                return self.managed, (_TABLE, index - self.of_operator, *path[2:])
        return self.own, path


@dataclass(frozen=True, slots=True)
class Texts:
    """What stands in the two files."""

    own: str
    path: Path
    """Of the operator's."""
    kept: str | None = None
    """In the agent's own; None: there is none."""
    managed: Path | None = None
    """Of that; None: where it would be is not known, for the operator's is no TOML."""
    hidden: bool = False
    """It may be there, and cannot be read by this user."""

    def documents(self) -> Documents:
        """Raises ConfigError: one is no TOML."""
        problems: list[Problem] = []
        made: list[Document | None] = []
        for text, path in ((self.own, self.path), (self.kept, self.managed)):
            try:
                made.append(None if text is None or path is None else Document(text, str(path)))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        own, managed = made
        assert own is not None
        return Documents(own, managed)


def read_texts(
    path: Path, environ: Mapping[str, str], managed: Path | None = None, *, mine: bool = True
) -> Texts:
    """Both files as they are on the disk.

    Args:
        path: the operator's.
        environ: tells where the state directory is, unless the file does.
        managed: the agent's own, where that is known already.
        mine: this process is the agent, which can read its own file; else, where it may not be read
            by who asks, it is as if it were not there.

    Raises:
        ConfigError: one cannot be read.
    """
    own = read(path)
    is_start = managed is None
    if managed is None:
        try:
            managed = managed_path(Document(own, str(path)), environ)
        except ConfigError:
            return Texts(own, path)
    try:
        kept = _kept(managed)
    except PermissionError as error:
        # Where the agent may not even look into the directory its store ends the start, and says
        # what is to be done.
        if mine and not (is_start and not os.access(managed.parent, os.X_OK)):
            raise ConfigError([_unreadable(managed, error)]) from None
        return Texts(own, path, None, managed, hidden=True)
    return Texts(own, path, kept, managed)


def managed_path(own: Document, environ: Mapping[str, str]) -> Path:
    """Where the agent of that file keeps its own webhooks."""
    said = own.table("agent").get("state_dir")
    agent = {"state_dir": said} if isinstance(said, str) else {}
    try:
        config = Config.model_validate({"agent": agent}, context={"base": Path(own.file).parent})
    except ValueError:  # a mistake, which is told with all others
        config = Config()
    return config.state_dir(environ) / MANAGED


def _kept(path: Path) -> str | None:
    """Raises PermissionError: that cannot be told."""
    try:
        path.open("rb").close()
    except PermissionError:  # its own, or of a directory above it
        raise
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it is said below
    return read(path)


def _unreadable(path: Path, error: PermissionError) -> Problem:
    reason = (
        f"cannot be read ({error.strerror}): it belongs to the user the agent runs as, and so does "
        "its directory"
    )
    return Problem(str(path), 1, 1, reason)
