"""How log lines look: dotted names with keys, for a terminal, the journal or a machine.

Values come from outside (phones, servers, requests): each is one printable line, of bounded length.
Logging never raises and never waits; see `agent.log_sink` for lines that cannot be written.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from agent.log_sink import Sink
from agent.text import fitting, printable, shortened, text_of, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    _Line = MutableMapping[str, Any]

_SYSLOG = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Priorities of syslog(3), which journald reads as a `<N>` prefix (sd-daemon(3))."""
_VALUE = 4000
"""Characters of one value: all mistakes of a file are one."""
_WHOLE = 32 * 1024
"""Bytes of a line. journald begins a new entry after 48 KiB, with whatever comes next."""
_FRAMES = 200
"""Lines of a traceback."""

_sink: Sink | None = None


def configure(level: str, style: str, stream: TextIO | None, environ: Mapping[str, str]) -> None:
    """Set up logging for the whole process.

    Args:
        level: debug, info, warning or error.
        style: text (for people), journal (priority prefix, no time: journald has its own), json, or
            auto: journal where the stream is journald's, else text.
        stream: where lines go; colours only where it is a terminal. None: it was closed.
        environ: for JOURNAL_STREAM and NO_COLOR.
    """
    global _sink  # noqa: PLW0603 - the process has one log
    if style == "auto":
        style = "journal" if _is_journal(stream, environ) else "text"
    stamp: list[Any] = []
    if style == "journal":
        final: list[Any] = [_journal_line]
    elif style == "json":
        stamp = [structlog.processors.TimeStamper(fmt="iso", utc=True)]
        final = [_json_line]
    else:
        stamp = [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)]
        final = [
            _values_of_text,
            structlog.dev.ConsoleRenderer(
                colors=stream is not None and stream.isatty() and "NO_COLOR" not in environ,
                pad_event_to=24,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    number = getattr(logging, level.upper())
    # An old one is kept by those who were given it; it closes with the last of them.
    sink = _sink = Sink(
        stream, lambda count, why: _own_line(style, "log.dropped", lines=count, why=why)
    )
    structlog.configure(
        processors=[
            _Surely(style, [*stamp, structlog.stdlib.add_log_level, _with_traceback, *final])
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Writer(sink),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library: only what is worth an operator's time.
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_Libraries()], force=True)
    # Third-party loggers name whole URLs or fail loudly on what is handled and said here.
    logging.getLogger("aiohttp.client").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def dropped() -> int:
    """How many lines could not be written since the start."""
    return 0 if _sink is None else _sink.dropped


class _Writer:
    """What structlog calls with a line, whatever its level."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def msg(self, message: str) -> None:
        self._sink.write(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _Libraries(logging.Handler):
    """What libraries say, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a library's mistake in its own message
            text = f"{record.msg} ({type(error).__name__})"
        say = structlog.get_logger(record.name)
        level = max(logging.DEBUG, min(logging.CRITICAL, record.levelno // 10 * 10))
        say.log(level, record.name, message=text, exc_info=record.exc_info)


class _Trace(str):
    """A traceback, which may be longer than other values."""

    __slots__ = ()


class _Surely:
    """The processors, one after the other; what fails among them costs one line its keys."""

    def __init__(self, style: str, processors: list[Any]) -> None:
        self._style = style
        self._processors = processors

    def __call__(self, logger: Any, method: str, line: _Line) -> str:
        name = line.get("event", "")
        try:
            result: Any = line
            for process in self._processors:
                result = process(logger, method, result)
            return fitting(result, _WHOLE)
        except Exception as error:  # noqa: BLE001 - whatever it is: logging never raises
            return _own_line(self._style, "log.failed", line=name, error=type(error).__name__)


# --- lines -----------------------------------------------------------------------------------


def _journal_line(_: Any, __: str, line: _Line) -> str:
    level = str(line.pop("level", "info"))
    trace = line.pop("exception", "")
    name = printable(line.pop("event", ""), _VALUE, escaped=True)
    pairs = " ".join(f"{printable(key)}={_quoted(value)}" for key, value in line.items())
    text = f"{name} {pairs}".rstrip()
    if trace:
        text = f"{text}\n{trace}"
    return _prefixed(level, text)


def _prefixed(level: str, text: str) -> str:
    # Each line of a message is an entry of its own for journald, and needs its own prefix.
    priority = _SYSLOG.get(level, 6)
    return "\n".join(f"<{priority}>{part}" for part in text.split("\n"))


_SPLITTING = frozenset(' "=')
"""Between the values of a line for the journal, so quoted within one."""


def _quoted(value: object) -> str:
    text = text_of(value)
    if not text or not text.isprintable() or not _SPLITTING.isdisjoint(text):
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{printable(text, _VALUE, escaped=True)}"'
    return printable(text, _VALUE, escaped=True)


_QUOTED = frozenset(" \t=\r\n\"'")
"""A text with one of these is written as Python writes it."""


class _Shown:
    """What ConsoleRenderer writes as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _values_of_text(_: Any, __: str, line: _Line) -> _Line:
    for key in [*line]:
        value = line.pop(key)
        if key == "exception" or value is None or isinstance(value, bool | int | float):
            line[printable(key)] = value
            continue
        text = shortened(text_of(value), _VALUE)
        if isinstance(value, list | tuple):  # a list of ours: each text in it has its quotes
            line[printable(key)] = _Shown(printable(text, _VALUE, escaped=True))
            continue
        if key == "event" or _QUOTED.isdisjoint(text):
            line[printable(key)] = printable(text, _VALUE, escaped=True)
        else:
            line[printable(key)] = _Shown(printable(repr(text), 10 * _VALUE, escaped=True))
    return line


def _json_line(_: Any, __: str, line: _Line) -> str:
    # ASCII: what is not printable is escaped. Cut within its values, for a cut line is no JSON.
    trace = line.pop("exception", "")
    if trace:
        line["exception"] = _Trace(trace[-_WHOLE // 2 :])
    for limit in (_VALUE, 500, 50):
        text = json.dumps({_of_json(key, limit): _of_json(line[key], limit) for key in line})
        if len(text) <= _WHOLE:
            return text
        line.pop("exception", None)
    return json.dumps({"event": _of_json(line.get("event"), 50), "cut": True})


def _of_json(value: Any, limit: int) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case list() | tuple() | set() | frozenset():
            return [_of_json(each, limit) for each in value]
        case dict():
            return {str(_of_json(key, limit)): _of_json(value[key], limit) for key in value}
        case _Trace():
            return str(value)
        case _:
            return shortened(whole(text_of(value)), limit)


# --- tracebacks ------------------------------------------------------------------------------


def _with_traceback(_: Any, __: str, line: _Line) -> _Line:
    """`exc_info` as text: an error's own words are one line of it."""
    info = line.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else sys.exc_info()[1] if info is True else info
    if isinstance(error, BaseException):
        lines = [*_told(traceback.TracebackException.from_exception(error), set())]
        if len(lines) > _FRAMES:
            half = _FRAMES // 2
            lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
        line["exception"] = "\n".join(lines)
    return line


def _told(error: traceback.TracebackException, seen: set[int]) -> Iterator[str]:
    """As Python tells it, but that no message breaks its line."""
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _told(cause, seen)
        yield "The above exception led to this one:"
    yield "Traceback (most recent call last):"
    for part in error.stack.format():
        yield from (printable(line, _VALUE, escaped=True) for line in part.rstrip("\n").split("\n"))
    words = "".join(error.format_exception_only()).rstrip("\n")
    yield printable(words, _VALUE, escaped=True)
    for number, each in enumerate(error.exceptions or (), start=1):
        yield f"  +- {number} of its exceptions:"
        yield from (f"  | {line}" for line in _told(each, seen))


# --- where they go ---------------------------------------------------------------------------


def _own_line(style: str, name: str, **pairs: object) -> str:
    """What the log says of itself."""
    if style == "json":
        return _json_line(None, "", {"event": name, "level": "error", **pairs})
    text = " ".join([name, *(f"{key}={_quoted(value)}" for key, value in pairs.items())])
    return _prefixed("error", text) if style == "journal" else text


def _is_journal(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the socket that systemd gave (JOURNAL_STREAM: device:inode)."""
    wanted = environ.get("JOURNAL_STREAM", "")
    if stream is None:
        return False
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return wanted == f"{stat.st_dev}:{stat.st_ino}"


def to_stderr(level: str = "info", style: str = "auto") -> None:
    """Configure for this process's standard error."""
    configure(level, style, sys.stderr, os.environ)
