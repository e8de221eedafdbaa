"""How log lines look: dotted names with keys, for a terminal, the journal or a machine."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_SYSLOG = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Priorities of syslog(3), which journald reads as a `<N>` prefix (sd-daemon(3))."""


def configure(level: str, style: str, stream: TextIO, environ: Mapping[str, str]) -> None:
    """Set up logging for the whole process.

    Args:
        level: debug, info, warning or error.
        style: text (for people), journal (priority prefix, no time: journald has its own), json, or
            auto: journal where the stream is journald's, else text.
        stream: where lines go; colours only where it is a terminal.
        environ: for JOURNAL_STREAM and NO_COLOR.
    """
    if style == "auto":
        style = "journal" if _is_journal(stream, environ) else "text"
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info if style != "text" else _keep,
    ]
    if style == "journal":
        final: list[Any] = [*shared, _journal_line]
    elif style == "json":
        final = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shared,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        final = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            *shared,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty() and "NO_COLOR" not in environ,
                pad_event_to=24,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=final,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library: only what is worth an operator's time.
    logging.basicConfig(
        level=max(number, logging.WARNING),
        format="<4>%(name)s: %(message)s" if style == "journal" else "%(name)s: %(message)s",
        stream=stream,
        force=True,
    )
    # Third-party loggers name whole URLs or fail loudly on what is handled and said here.
    logging.getLogger("aiohttp.client").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _keep(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return line


def _journal_line(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
    priority = _SYSLOG.get(str(line.pop("level", "info")), 6)
    trace = line.pop("exception", "")
    name = line.pop("event", "")
    pairs = " ".join(f"{key}={_quoted(value)}" for key, value in line.items())
    text = f"{name} {pairs}".rstrip()
    if trace:
        text = f"{text}\n{trace}"
    # Each line of a message is an entry of its own for journald, and needs its own prefix.
    return "\n".join(f"<{priority}>{part}" for part in text.splitlines())


def _quoted(value: object) -> str:
    text = str(value)
    if not text or any(c.isspace() or c in '"=' for c in text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return text


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the socket that systemd gave (JOURNAL_STREAM: device:inode)."""
    wanted = environ.get("JOURNAL_STREAM", "")
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return wanted == f"{stat.st_dev}:{stat.st_ino}"


def to_stderr(level: str = "info", style: str = "auto") -> None:
    """Configure for this process's standard error."""
    configure(level, style, sys.stderr, os.environ)
