"""Text on a line: outside text made fit for one, how wide it is, and words that come up often.

Phones name themselves, servers word their errors, anybody who reaches a port chooses a path. What
they say is kept as it is, and made one printable line where it is shown: in the log, in what the
service manager is told, in tables, in labels. JSON escapes it by itself.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def printable(text: object, limit: int | None = LIMIT, *, escaped: bool = False) -> str:
    """The text on one line, in at most `limit` characters of its own.

    What would break the line, move a cursor, turn the direction of writing or hide is shown as `?`.

    Args:
        text: text, or what `str` makes text of.
        limit: what is longer is cut, and ends with an ellipsis; None: none.
        escaped: show what is not printable as Python escapes it instead.
    """
    line = text_of(text)
    if limit is not None and len(line) > limit:
        line = shortened(line, limit)
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


def width(text: str) -> int:
    """Columns of a terminal that printable text takes (Unicode Annex 11)."""
    return len(text) if text.isascii() else sum(map(columns_of, text))


def columns_of(character: str) -> int:
    """Likewise, of one character."""
    if unicodedata.category(character) in {"Mn", "Me"}:  # accents, and selectors of emoji
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def elapsed(seconds: float) -> str:
    """So long, in the largest unit that fits: `12 s`, `5 min`, `3 h`, `9 d`."""
    seconds = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def near(word: str, words: Iterable[str], most: int = 1, likeness: float = 0.6) -> list[str]:
    """Those of the words that somebody who wrote `word` may have meant, the likeliest first."""
    from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it

    return get_close_matches(word, list(words), most, likeness)


def meant_key(key: str, keys: Iterable[str]) -> str:
    """The key that is misspelt like that; "" where none is near."""
    return "".join(near(key.lower().replace("-", "_"), keys))


def meant_names(name: str, names: Sequence[str], if_none: str) -> str:
    """`did you mean 'Board' or 'Bard'?`, with the first ones where none is near."""
    found = near(name, names, 2, 0.4) or list(names[:5])
    return f"did you mean {' or '.join(map(repr, found))}?" if found else if_none
