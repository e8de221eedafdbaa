"""A file → its text → a TOML document as it stands, unchecked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomli

from agent.config.journal import whole
from agent.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path


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
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            reason = f"is not UTF-8 text (the first wrong byte is in line {line}): save it as UTF-8"
    raise ConfigError([Problem(str(path), 1, 1, reason)]) from None


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The document. Raises ConfigError at the first mistake of syntax."""
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
    raise ConfigError([problem]) from None


_SYNTAX_HINTS = {
    "Invalid value": 'text stands in quotes, "…"; true and false in lower case; an array in [ ]',
    "Cannot overwrite a value": "a key stands twice in one table",
    "Cannot declare": "a table stands twice; several webhooks or devices are [[webhooks]], "
    "[[devices]]",
    "Expected newline": 'text stands in quotes, a quote inside of it as \\", one key on a line',
    "Illegal character '\\n'": "text ends on its line: its closing quote is missing",
    "Expected '='": "a line is KEY = VALUE or [TABLE]",
}
