"""What is read of a file whose change was cut off: the new text, from the journal beside it.

`rewrite` puts both texts there before it changes a file in place. What somebody else wrote later is
no mixture of the two, and the journal says nothing about it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 64 * 1024 * 1024
"""Of a journal: what is longer is none of ours."""
_SOON = 60.0
"""Seconds after its journal within which a file is rewritten: who writes it later is an editor."""


def journal_of(real: Path) -> Path:
    """Where the journal of that file lies; links must have been followed."""
    return real.with_name(f".{real.name}.change")


def is_torn(data: bytes, before: bytes, after: bytes) -> bool:
    """Is that what a cut rewriting of `before` by `after` may have left? Pure.

    Bytes of either at their places, or none yet (zeros, or a shorter file).
    """
    if data in (before, after) or len(data) > max(len(before), len(after)):
        return False
    longest = max(len(before), len(after))
    return all(
        byte in (old, new, 0)
        for byte, old, new in zip(
            data, before.ljust(longest, b"\0"), after.ljust(longest, b"\0"), strict=False
        )
    )


def whole(path: Path, data: bytes) -> bytes:
    """What the file says: `data`, which was read of it, unless a change of it was cut off."""
    torn = torn_by(path.resolve(), data)
    return data if torn is None else torn[1]


def torn_by(real: Path, data: bytes) -> tuple[bytes, bytes] | None:
    """The texts before and after the change that was cut off; None: none was."""
    try:
        with journal_of(real).open("rb") as file:
            head = json.loads(file.readline(200))
            rest = file.read(LONGEST)
            late = real.stat().st_mtime - os.fstat(file.fileno()).st_mtime
        size, length = head["before"], head["after"]
        if len(rest) != size + length or late > _SOON:
            return None
        before, after = rest[:size], rest[size:]
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is none of ours
        return None
    return (before, after) if is_torn(data, before, after) else None
