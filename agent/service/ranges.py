"""A range of time as operators ask for it: `30d`, `12h`, or ISO times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypedDict

from agent.clock import timestamp
from agent.config import parse_duration
from agent.service.rows import Also
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN: Final = 40
_FORMS: Final = 'write how long ago ("30d", "12h") or a time ("2026-11-30", "2026-11-30T08:00:00Z")'
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


Moment = Annotated[
    str,
    Also(
        pattern="^([1-9][0-9]{0,3}(d([0-9]{1,2}h)?|h([0-9]{1,2}m)?|m([0-9]{1,2}s)?|s)"
        "|[0-9]{4}-[0-9]{2}-[0-9]{2}"
        "(T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2}))?)$"
    ),
]


class RangeFilters(TypedDict, total=False):
    """Which time is asked for."""

    since: Moment
    """How long ago, `30d` or `1h30m`, or an ISO time; without a zone UTC."""
    until: Moment
    """Likewise; at most, and if not given: now."""


class Range(NamedTuple):
    """Half-open, in milliseconds of the wall clock."""

    since: int
    until: int


def range_of(query: Mapping[str, str], default: int, now: int) -> Range:
    """The range that is asked for, up to now at most; ValueError says what is wrong with it.

    `default`: how long it is, where it is not said when it begins.
    """
    until = min(_moment("until", query["until"], now), now) if "until" in query else now
    if "since" not in query:
        return Range(max(0, until - default), until)
    since = _moment("since", query["since"], now)
    if since >= now:
        raise ValueError(f"'since' is {timestamp(since)}, which is not in the past")
    if since >= until:
        raise ValueError(
            f"'since' is {timestamp(since)}, which is not before 'until', {timestamp(until)}"
        )
    return Range(since, until)


def _moment(name: str, text: str, now: int) -> int:
    """In milliseconds; what lies before 1970 is 1970."""
    if (ago := _ago(text)) is not None:
        return max(0, now - ago)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{name!r} is {printable(text, _SHOWN)!r}: {_FORMS}") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0, (at - _EPOCH) // timedelta(milliseconds=1))


def _ago(text: str) -> int | None:
    try:
        return round(parse_duration(text) * 1000)
    except ValueError:
        return None
