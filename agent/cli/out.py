"""What commands write: lines that any terminal, pipe or file takes, whatever a phone is called.

Outside text goes through `printable` before it is styled or put in columns; `say` and `tell` do so
themselves. A reader that goes away (`| head`) ends a command; nobody at stderr ends none.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from agent import text as outside

if TYPE_CHECKING:
    from typing import TextIO

LONG = 4000
"""Characters of a message or a body; a cell of a table has fewer."""


def prepare() -> None:
    """Make of the standard streams, before anything is written, what this module says of them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Closed by who started us: the next file we open would be taken for it.
            setattr(sys, name, _nowhere(number))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream of a test's
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # see above


def _nowhere(number: int) -> TextIO:
    made = os.open(os.devnull, os.O_RDWR)
    if made != number:
        os.dup2(made, number)
        os.close(made)
    os.set_inheritable(number, True)
    return open(number, "w" if number else "r", encoding="utf-8", closefd=False)


def printable(text: object, limit: int | None = outside.LIMIT) -> str:
    """The text on one line, of what stdout's encoding has; `?` for the rest."""
    line = outside.printable(text, limit)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if line.isascii() or encoding.lower() in {"utf-8", "utf8"}:
        return line
    return "".join(c if _has(encoding, c) else "?" for c in line)


def can_write(character: str) -> bool:
    """Whether stdout's encoding has it."""
    return _has(getattr(sys.stdout, "encoding", None) or "utf-8", character)


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def lines(text: str, indent: str = "") -> str:
    """Text that may have several lines, each of them printable; its own breaks stay."""
    return "\n".join(indent + printable(line, LONG) for line in text.split("\n"))


def say(text: object) -> None:
    """A message on stderr, on one line; what happens there ends no command."""
    echo_err(f"device-agent: {outside.printable(text, LONG)}")


def echo_err(text: str) -> None:
    """Text as it is, on stderr; likewise."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
