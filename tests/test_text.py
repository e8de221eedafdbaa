"""Outside text as one printable line."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.text import (
    CUT,
    elapsed,
    fitting,
    is_printable,
    meant_key,
    meant_names,
    near,
    printable,
    whole,
    width,
)

ANYTHING = st.text(st.characters(), max_size=50)
"""Surrogates too."""


@pytest.mark.parametrize(
    ("text", "plain", "escaped"),
    [
        ("Galaxy Note 8", "Galaxy Note 8", "Galaxy Note 8"),
        ("電話機 é ✓ ❤️", "電話機 é ✓ ❤️", "電話機 é ✓ ❤️"),
        ("a\nb\r\nc\td", "a?b??c?d", r"a\nb\r\nc\td"),
        ("\x1b[2J\x07\x00\x7f", "?[2J???", r"\x1b[2J\x07\x00\x7f"),
        ("\x85\u2028\u2029\x9b31m", "????31m", r"\x85\u2028\u2029\x9b31m"),
        ("\u202emoc\u2066x\u2069\u200e", "?moc?x??", r"\u202emoc\u2066x\u2069\u200e"),
        ("a\u200bb\ufeffc\u2060d\u3164\u034f", "a?b?c?d??", r"a\u200bb\ufeffc\u2060d\u3164\u034f"),
        ("\ud800x\udcff", "?x?", r"\ud800x\udcff"),
        ("\U000e0041\U000f0000\uffff", "???", r"\U000e0041\U000f0000\uffff"),
        ("a\xa0b\u3000c", "a b c", "a b c"),
    ],
)
def test_what_is_not_printable_is_shown(text: str, plain: str, escaped: str) -> None:
    assert printable(text) == plain
    assert printable(text, escaped=True) == escaped


def test_no_character_at_all_gets_through_that_is_a_control_a_line_or_a_direction() -> None:
    bad = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if unicodedata.category(character) in bad:
            assert printable(character) == "?", hex(number)
            assert printable(character, escaped=True).isascii()


@given(ANYTHING, st.integers(1, 60))
def test_any_text_is_one_bounded_line(text: str, limit: int) -> None:
    line = printable(text, limit)
    assert all(map(is_printable, line))
    assert len(line) <= limit
    assert printable(line, limit) == line, "once is enough"
    assert line.encode().decode().splitlines() in ([line], [])
    assert all(map(is_printable, printable(text, limit, escaped=True)))


@given(ANYTHING, st.integers(3, 60))
def test_bytes_are_bounded_too(text: str, size: int) -> None:
    assert len(fitting(text, size).encode()) <= size


def test_what_is_too_long_is_cut_where_one_sees_it() -> None:
    assert printable("x" * 5000) == "x" * 999 + CUT
    assert printable("x" * 1000) == "x" * 1000
    assert fitting("é" * 10, 20) == "é" * 10
    assert fitting("é" * 11, 20) == "é" * 8 + CUT


def test_half_a_character_is_replaced_and_nothing_else() -> None:
    assert whole("a\ud800\n\u2028✓") == "a\ufffd\n\u2028✓"


def test_what_is_no_text_is_shown_as_text() -> None:
    assert printable(ValueError("a\nb")) == "a?b"


def test_without_a_limit_nothing_is_cut() -> None:
    assert printable("x" * 5000 + "\x07", None) == "x" * 5000 + "?"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"),
     (86_399, "23 h"), (86_400, "1 d"), (90 * 86_400, "90 d")],
)  # fmt: skip
def test_how_long(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_columns() -> None:
    assert (width("abc"), width("電話"), width("e\u0301"), width("")) == (3, 4, 1, 0)


def test_what_may_have_been_meant() -> None:
    assert near("online", ["offline", "onlin", "x"], 2) == ["onlin", "offline"]
    assert meant_key("Org-Id", ["org_id", "id"]) == "org_id"
    assert meant_key("zzz", ["org_id", "id"]) == ""
    assert meant_names("Bord", ["Card", "Board", "x"], "none") == "did you mean 'Board' or 'Card'?"
    many = [f"name {number}" for number in range(9)]
    assert meant_names("?", many, "none").count("name") == 5
    assert meant_names("?", [], "none is configured") == "none is configured"
