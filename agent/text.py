"""Outside text on a line: one place that every line-based output goes through.

Phones name themselves, servers word their errors, anybody who reaches a port chooses a path. What
they say is kept as it is, and made one printable line where it is shown: in the log, in what the
service manager is told, in tables, in labels. JSON escapes it by itself.
"""

from __future__ import annotations

import unicodedata

LIMIT = 1000
"""Characters of one text, unless said otherwise."""
CUT = "…"
_UNSEEN = frozenset(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0)
) | frozenset(range(0xE0100, 0xE01F0))
"""What Python calls printable, and nobody sees: fillers, and selectors that no emoji needs."""
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


def is_printable(character: str) -> bool:
    """Whether it shows, and moves nothing: no control, line or direction, no half a character."""
    return character.isprintable() and ord(character) not in _UNSEEN


def printable(text: object, limit: int = LIMIT, *, escaped: bool = False) -> str:
    """The text on one line, in at most `limit` characters of its own.

    What would break the line, move a cursor, turn the direction of writing or hide is shown as `?`.

    Args:
        text: text, or what `str` makes text of.
        limit: what is longer is cut, and ends with an ellipsis.
        escaped: show what is not printable as Python escapes it instead.
    """
    line = shortened(text_of(text), limit)
    if line.isascii() and line.isprintable():
        return line
    return "".join([c if is_printable(c) else _stand_in(c, escaped) for c in line])


def shortened(text: str, limit: int) -> str:
    """At most so many characters of it, with an ellipsis where some are missing."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + CUT


def text_of(value: object) -> str:
    """What `str` says of it; its kind where that fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - anything can be wrong with an object of somebody else's
        return f"<{type(value).__name__}>"


def _stand_in(character: str, escaped: bool) -> str:
    if unicodedata.category(character) == "Zs":
        return " "  # a blank that is wider, or keeps its line together
    return character.encode("unicode_escape").decode() if escaped else "?"


def whole(text: str) -> str:
    """The text with U+FFFD for halves of characters, which neither UTF-8 nor JSON may hold."""
    return text if text.isascii() else text.translate(_SURROGATES)


def fitting(text: str, size: int) -> str:
    """As much of the text as fits into `size` bytes of UTF-8."""
    data = whole(text).encode()
    if len(data) <= size:
        return whole(text)
    return data[: size - len(CUT.encode())].decode(errors="ignore") + CUT
