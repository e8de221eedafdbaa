"""What an answer means for a callback: delivered, tried again (when?), dead, or paused. Pure.

Every delay is the schedule's with up to ±10 % of jitter. `Retry-After` can only lengthen it, to
10 h at most. No retry is due later than the callback's max_age after its creation: the one at
that moment is the last.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from itertools import accumulate
from typing import Final, NamedTuple

from agent.model import CallbackState

SCHEDULE: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 18000.0, 36000.0)
"""Seconds from the 1st, 2nd, … failed attempt to the next; then the last one for ever."""
LONGEST: Final = SCHEDULE[-1]
"""Seconds: the clamp of `Retry-After`, and the time between probes of a paused webhook."""
JITTER: Final = 0.1
PROBES: Final = ((600.0, 14.0), (3600.0, 55.0))
"""An endpoint that has failed for less than … seconds is tried every … seconds: a moment more often
than each 15 seconds and each minute, for the attempt's own sake."""
_DUE: Final = tuple(due * (1 - JITTER) for due in accumulate(SCHEDULE))
"""Seconds after its first attempt from which on a callback's 2nd, 3rd, … attempt may be due."""
EXCERPT: Final = 1024
"""Characters kept of an answer's text, and of any message."""


class ErrorKind(StrEnum):
    """Why no status came."""

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"  # a destination this agent does not talk to
    TLS = "tls"
    RESET = "reset"
    TIMEOUT = "timeout"  # no connection within the limit
    TOO_SLOW = "too slow"  # connected, but no answer within the limit
    BAD_HTTP = "bad http"
    PROXY = "proxy"
    SECRET = "secret"  # noqa: S105 - the kind's name: a secret could not be read
    CONFIG = "config"  # a URL, header or certificate that cannot be used
    INTERNAL = "internal"


class Answer(NamedTuple):
    """What came of one attempt; free of secrets, userinfo and query strings."""

    status: int | None = None
    """The HTTP status; None when no answer came, and then `kind` and `detail` say why."""
    kind: ErrorKind | None = None
    detail: str = ""
    retry_after: str = ""
    """The header as it came."""
    target: str = ""
    """Where a redirect points."""
    excerpt: str = ""
    started_ms: int = 0
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Delivered:
    """Answered 2xx."""

    why: str = ""
    due_ms: int = 0
    state: CallbackState = CallbackState.DELIVERED


@dataclass(frozen=True, slots=True)
class Retry:
    """To be sent again at `due_ms`."""

    why: str
    due_ms: int
    asked: bool = False
    """The endpoint itself asked for this delay (`Retry-After`)."""
    state: CallbackState = CallbackState.PENDING


@dataclass(frozen=True, slots=True)
class Paused:
    """410 Gone: nothing more to this webhook until it is edited; one probe at `due_ms`."""

    why: str
    due_ms: int
    state: CallbackState = CallbackState.PENDING


@dataclass(frozen=True, slots=True)
class Dead:
    """Failed, and older than max_age: kept and replayable, never sent again by itself."""

    why: str
    due_ms: int = 0
    state: CallbackState = CallbackState.DEAD


Decision = Delivered | Retry | Paused | Dead
DELIVERED: Final = Delivered()


def decide(
    answer: Answer,
    attempts_made: int,
    created_ms: int,
    now_ms: int,
    jitter: float,
    max_age: float,
    step: int | None = None,
) -> Decision:
    """What to do after an attempt.

    `attempts_made` counts this attempt (1: the first one failed); `jitter` is in [0, 1);
    `max_age` in seconds; `step` is its place in the schedule, where that is not `attempts_made`.
    A callback is dead only after an attempt past its max_age, so that each gets at least one
    however long the agent or the endpoint was away.
    """
    if answer.status is not None and HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return DELIVERED
    why = describe(answer)
    last_ms = created_ms + round(max_age * 1000)
    if now_ms >= last_ms:
        return Dead(
            f"{why}; given up: older than {_words(max_age)}, after {attempts_made} attempts"
        )
    scheduled = delay(attempts_made if step is None else step) * (1 + JITTER * (2 * jitter - 1))
    if answer.status == HTTPStatus.GONE:
        return Paused(
            f"{why}: the endpoint says it is gone for good; paused until the webhook is edited,"
            f" probed every {_words(LONGEST)}",
            min(now_ms + round(LONGEST * 1000), last_ms),
        )
    asked = min(retry_after_seconds(answer.retry_after, now_ms), LONGEST)
    due_ms = now_ms + round(max(scheduled, asked) * 1000)
    return Retry(why, min(due_ms, last_ms), asked > scheduled)


def delay(attempts_made: int) -> float:
    """The schedule's seconds after that many attempts; 0 before the first."""
    if attempts_made <= 0:
        return 0.0
    return SCHEDULE[min(attempts_made, len(SCHEDULE)) - 1]


def step_of(attempts_made: int, age: float) -> int:
    """A callback's place in the schedule: its attempts, but never beyond what its age allows.

    Probes are attempts, too. They must not carry the callbacks of an endpoint that was away for an
    hour to the steps of ten hours. `age` in seconds; below zero it says nothing (a clock set back).
    """
    if age < 0:
        return attempts_made
    return min(attempts_made, 1 + bisect_right(_DUE, age))


def probe_every(failing: float) -> float | None:
    """Seconds between attempts at an endpoint that has failed for so many; None: no more probes."""
    return next((every for until, every in PROBES if failing < until), None)


def due_in(due_ms: int, attempts: int, now_ms: int) -> float:
    """Seconds until a stored callback is due, at most the schedule's own after that many attempts.

    The clamp is for a wall clock that was set back: it must not hold a callback up. It also
    shortens, after a restart only, a longer delay that the endpoint had asked for.
    """
    return min(max(0.0, (due_ms - now_ms) / 1000), delay(attempts) * (1 + JITTER))


def retry_after_seconds(header: str, now_ms: int) -> float:
    """Seconds a `Retry-After` asks for; 0.0 if it is absent, past or unreadable.

    RFC 9110, section 10.2.3: a number of seconds or an HTTP date. Discord's may have a fraction.
    """
    header = header.strip()
    whole, _, fraction = header.partition(".")
    if header.isascii() and whole.isdigit() and (fraction or "0").isdigit():
        # Longer numbers than this are no number of seconds anybody means; int() has a limit too.
        return float(f"{whole[:12]}.{fraction[:6] or 0}")
    try:
        at = parsedate_to_datetime(header)
        if at.tzinfo is None:  # "-0000": UTC of unknown origin
            at = at.replace(tzinfo=UTC)
        return max(0.0, at.timestamp() - now_ms / 1000)
    except (ValueError, OverflowError, OSError):
        return 0.0


def describe(answer: Answer) -> str:
    """An unsuccessful answer in the operator's words; "" of a 2xx."""
    if answer.status is None:
        return f"{answer.kind}: {answer.detail}"[:EXCERPT]
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return ""
    try:
        text = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = f"HTTP {status}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        where = f" to {answer.target}" if answer.target else ""
        return f"{text}{where}: redirects are not followed; set the webhook's url to its target"
    return text


def failure_kind(answer: Answer) -> str:
    """The class of an unsuccessful answer, one of few: `5xx`, or the error's kind."""
    if answer.status is None:
        return str(answer.kind or ErrorKind.INTERNAL)
    return f"{answer.status // 100}xx"


def _words(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:g} h" if hours >= 1 else f"{seconds:g} s"
