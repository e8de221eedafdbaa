"""Where each key of a TOML document stands: key path → line and column.

TOML readers hand out values without places; an operator wants `agent.toml:41:1`. This scanner
finds places and nothing else: the document must already have been accepted by `tomli`.
TOML 1.0 and 1.1 (https://toml.io/en/v1.1.0): line breaks inside inline tables are fine.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple, TypeAlias

import tomli

KeyPath: TypeAlias = tuple[str | int, ...]
"""As one would index the parsed document: `("webhooks", 0, "name")`."""
Place: TypeAlias = tuple[int, int]
"""Line and column, both from 1; a column counts characters, as editors and tomli do."""


class Origin(NamedTuple):
    """Where a webhook stands."""

    file: str
    line: int
    managed: bool
    """In the agent's own file, not in the operator's."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED_KEY = re.compile(r'"(?:\\.|[^"\\])*"' + r"|'[^']*'")
_STRING = re.compile(
    # Up to two quotes may stand right before the closing three and belong to the text.
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' + r"|'''.*?'''(?:'{0,2})" + "|" + _QUOTED_KEY.pattern,
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")  # numbers, booleans, dates: none holds one of these


def scan(text: str) -> dict[KeyPath, Place]:
    """The place of every table, key and array element of a valid document.

    A key's place is its own text; an element's, the start of its value; a table's, its name in its
    header (in the first header that implies it, where it has none of its own). In the order of the
    text, but for tables whose own header comes late.
    """
    # tomli does the same, and a column never counts the line's end.
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    starts = [0, *(match.end() for match in re.finditer("\n", scanner.text))]

    def place(position: int) -> Place:
        line = bisect_right(starts, position)
        return line, position - starts[line - 1] + 1

    return {path: place(position) for path, position in scanner.found.items()}


def headers(text: str) -> list[tuple[KeyPath, int]]:
    """Every `[table]` and `[[table]]` header of a valid document, in order: its path and line."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return [(path, scanner.text.count("\n", 0, at) + 1) for path, at in scanner.headers]


def nearest(places: dict[KeyPath, Place], path: KeyPath) -> Place:
    """The path's place; for a key that is missing, that of the table it is missing from."""
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            return places[path[:length]]
    return 1, 1


class _Scanner:
    """One pass over one document; `found` holds offsets into `text`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.found: dict[KeyPath, int] = {}
        self.headers: list[tuple[KeyPath, int]] = []
        self._lengths: dict[KeyPath, int] = {}  # of arrays of tables so far

    def document(self) -> None:
        """All statements: headers, and pairs under the last header."""
        table: KeyPath = ()
        while self._skip(_GAP) < len(self.text):
            if self.text.startswith("[[", self.position):
                table = self._header(2)
            elif self.text.startswith("[", self.position):
                table = self._header(1)
            else:
                self._values(self._key(table))

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.position)
        assert match, "the document was not valid TOML"
        self.position = match.end()
        return self.position

    def _header(self, brackets: int) -> KeyPath:
        self.position += brackets
        parts = self._parts()
        self.position += brackets
        *parents, (name, position) = parts
        path = (*self._descend((), parents), name)
        if brackets == 1:
            self.found[path] = position
            self.headers.append((path, position))
            return path
        self.found.setdefault(path, position)
        index = self._lengths.get(path, 0)
        self._lengths[path] = index + 1
        self.found[*path, index] = position
        self.headers.append(((*path, index), position))
        return (*path, index)

    def _key(self, table: KeyPath) -> KeyPath:
        """Past `a.b =`, to the start of the value."""
        path = self._descend(table, self._parts())
        self.position += 1
        self._skip(_BLANK)
        return path

    def _parts(self) -> list[tuple[str, int]]:
        """The parts of a key, with their offsets; past the blanks behind it."""
        parts = []
        while True:
            start = self._skip(_BLANK)
            quoted = self.text[start] in "\"'"
            end = self._skip(_QUOTED_KEY if quoted else _BARE_KEY)
            key = self.text[start:end]
            parts.append((tomli.loads(f"key={key}")["key"] if quoted else key, start))
            if not self.text.startswith(".", self._skip(_BLANK)):
                return parts
            self.position += 1

    def _descend(self, path: KeyPath, parts: list[tuple[str, int]]) -> KeyPath:
        """Down the parts; through an array of tables it goes by its newest element."""
        for name, position in parts:
            path = (*path, name)
            self.found.setdefault(path, position)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _values(self, path: KeyPath) -> None:
        """Past the value of `path` and all that is inside it. No recursion: nesting may be deep."""
        opened: list[tuple[KeyPath, str]] = []
        lengths: list[int] = []
        while True:
            first = self.text[self.position]
            if first in "[{":
                self.position += 1
                opened.append((path, first))
                lengths.append(0)
            else:
                self._skip(_STRING if first in "\"'" else _SCALAR)
            while opened:
                self._skip(_GAP)
                mark = self.text[self.position]
                if mark in ",]}":
                    self.position += 1
                    if mark != ",":
                        opened.pop()
                        lengths.pop()
                    continue
                inside, bracket = opened[-1]
                if bracket == "{":
                    path = self._key(inside)
                else:
                    path = (*inside, lengths[-1])
                    lengths[-1] += 1
                    self.found[path] = self.position
                break
            if not opened:
                return
