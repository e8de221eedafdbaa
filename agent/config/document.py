"""A file → its text → a TOML document as it stands, unchecked: parsed once for all who need it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import tomli

from agent.config.journal import whole
from agent.config.places import scan
from agent.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from agent.config.places import KeyPath, Place


class Document:
    """One text of a file, and what it says; never changes.

    Args:
        text: of the file.
        file: stands in messages; relative paths start from its directory.

    Raises:
        ConfigError: it is no TOML; the first mistake of syntax.
    """

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.data = _parsed(text, file)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of a file on the disk; ConfigError says likewise how to make it readable."""
        return cls(read(path), str(path))

    @cached_property
    def places(self) -> dict[KeyPath, Place]:
        """Where each key stands; see `scan`."""
        return scan(self.text)

    def table(self, key: str) -> dict[str, Any]:
        """What stands under that header; nothing where it is missing, or no table."""
        found = self.data.get(key)
        return found if isinstance(found, dict) else {}


def read(path: Path) -> str:
    """The text of a file. Raises ConfigError, which says how to make it readable."""
    try:
        data = whole(path, path.read_bytes())
    except FileNotFoundError:
        reason = (
            "no such file: create it (agent.example.toml shows every key), or give another path"
        )
    except IsADirectoryError:
        reason = "is a directory: give the path of the file in it"
    except OSError as error:
        reason = (
            f"cannot be read ({error.strerror}): make it readable to the user the agent runs as"
        )
    else:
        return decoded(data, path)
    raise ConfigError([Problem(str(path), 1, 1, reason)]) from None


def decoded(data: bytes, path: Path) -> str:
    """What a file holds, as text, with its line ends as they are. Raises ConfigError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"is not UTF-8 text (the first wrong byte is in line {line}): save it as UTF-8"
    raise ConfigError([Problem(str(path), 1, 1, reason)])


def _parsed(text: str, file: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = f"not valid TOML: {error.msg[:1].lower()}{error.msg[1:]}"
        for start, hint in _SYNTAX_HINTS.items():
            if error.msg.startswith(start):
                message += f" ({hint})"
        problem = Problem(file, error.lineno, error.colno, message)
    except (RecursionError, ValueError):
        message = "not usable TOML: a value is nested too deeply, or a number has too many digits"
        problem = Problem(file, 1, 1, message)
    raise ConfigError([problem])


_SYNTAX_HINTS = {
    "Invalid value": 'text stands in quotes, "…"; true and false in lower case; an array in [ ]',
    "Cannot overwrite a value": "a key stands twice in one table",
    "Cannot declare": "a table stands twice; several webhooks or devices are [[webhooks]], "
    "[[devices]]",
    "Expected newline": 'text stands in quotes, a quote inside of it as \\", one key on a line',
    "Illegal character '\\n'": "text ends on its line: its closing quote is missing",
    "Expected '='": "a line is KEY = VALUE or [TABLE]",
}
