"""No value, key, message or traceback makes a log line of its own, in any style."""

from __future__ import annotations

import io
import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent import log
from agent.text import is_printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STYLES = ("text", "journal", "json")
FORGED = "\nFORGED\r\x85FORGED\u2028FORGED\x0bFORGED\x1b[2J\u202e\u200b\x00\ud800\u3164"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def lines(style: str, say: Callable[[Any], None]) -> list[str]:
    """What is written, by line feeds alone; each of them printable."""
    stream = io.StringIO()
    log.configure("debug", style, stream, {})
    say(structlog.get_logger())
    text = stream.getvalue()
    assert text.endswith("\n")
    result = text[:-1].split("\n")
    for line in result:
        assert all(map(is_printable, line)), ascii(line)
        assert not line.lstrip("<0123456789> ").startswith("FORGED")
        assert style != "journal" or line[:3] in {"<3>", "<4>", "<6>", "<7>"}
        assert style != "json" or json.loads(line)["event"]
    return result


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "value",
    [
        FORGED,
        [FORGED],
        {FORGED: FORGED},
        (1, FORGED),
        ValueError(FORGED),
        FORGED.encode(errors="replace"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_a_part_of_its_line(style: str, value: object) -> None:
    assert len(lines(style, lambda logger: logger.info("a.line", value=value))) == 1


@pytest.mark.parametrize("style", STYLES)
def test_so_are_keys_names_and_what_libraries_say(style: str) -> None:
    assert len(lines(style, lambda logger: logger.info("a.line", **{"k" + FORGED: 1}))) == 1
    assert len(lines(style, lambda logger: logger.info(FORGED))) == 1
    said = lines(style, lambda _: logging.getLogger("aiohttp.server").error("it: %s", FORGED))
    assert len(said) == 1
    assert "aiohttp.server" in said[0]


def fail(logger: Any) -> None:
    """A chain of errors, and a group of them, each with words of others in it."""
    try:
        try:
            try:
                dict[str, int]()[FORGED]
            except KeyError as error:
                error.add_note(FORGED)
                raise OSError(5, FORGED) from error
        except OSError as error:
            raise ExceptionGroup("group" + FORGED, [error, ValueError(FORGED)]) from None
    except ExceptionGroup:
        logger.exception("a.failure", value=1)


@pytest.mark.parametrize("style", STYLES)
def test_an_errors_own_words_are_one_line_of_its_traceback(style: str) -> None:
    shown = lines(style, fail)
    if style == "json":
        shown = json.loads(shown[0])["exception"].split("\n")
    text = "\n".join(shown)
    for kind in ("KeyError", "OSError", "ExceptionGroup", "ValueError"):
        assert sum(kind in line and "raise" not in line for line in shown) == 1, text
    assert text.count("Traceback (most recent call last)") >= 3
    assert "raise OSError(5, FORGED) from error" in text, "its lines of code are there"
    assert not any(line.lstrip("<3>| ").startswith("FORGED") for line in shown)


def say(logger: Any, **values: str) -> None:
    logger.info("a.line", **values)


@pytest.mark.parametrize("style", STYLES)
def test_a_line_is_bounded_and_json_stays_whole(style: str) -> None:
    """Behind 48 KiB journald begins an entry of its own, with whatever comes next."""
    for text in ("x" * 100_000, "\u2028" * 100_000, "\U0001f4f1" * 100_000, '"\\' * 50_000):
        many = {f"key{number}": text for number in range(9)}
        (line,) = lines(style, partial(say, **many))
        assert len(line.encode()) <= 48 * 1024
        assert "a.line" in line


@pytest.mark.parametrize("style", STYLES)
def test_a_long_traceback_is_cut_in_its_middle(style: str) -> None:
    def deep(count: int) -> None:
        if count:
            deeper(count - 1)
        raise ValueError("the end")

    def deeper(count: int) -> None:
        deep(count)

    def say(logger: Any) -> None:
        try:
            deep(400)
        except ValueError:
            logger.exception("a.failure")

    text = "\n".join(lines(style, say))
    assert len(text.encode()) <= 48 * 1024
    assert "ValueError: the end" in text


@given(value=st.one_of(st.text(st.characters()), st.binary(), st.floats(), st.lists(st.text())))
@pytest.mark.parametrize("style", STYLES)
def test_any_value_at_all(style: str, value: object) -> None:
    assert len(lines(style, lambda logger: logger.warning("a.line", value=value))) == 1


def test_json_keeps_the_true_text() -> None:
    (line,) = lines("json", lambda logger: logger.info("a.line", name="Bob\u2028\n\x1b"))
    assert json.loads(line)["name"] == "Bob\u2028\n\x1b"
    assert line.isascii()


def test_quotes_of_the_journal_are_closed_where_they_seem_to_be() -> None:
    (line,) = lines("journal", lambda logger: logger.info("a", x='\\" y=1', z="\\"))
    assert line == r'<6>a x="\\\" y=1" z=' + "\\"
