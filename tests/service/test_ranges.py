"""A range of time, as operators write it."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from agent.clock import timestamp
from agent.history.days import DAY_MS
from agent.service.ranges import Moment, Range, range_of
from agent.service.rows import Also

NOW = 20_000 * DAY_MS + 12 * 3_600_000  # 2024-10-04T12:00:00Z


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, Range(NOW - 7 * DAY_MS, NOW)),
        ({"since": "1h30m"}, Range(NOW - 5_400_000, NOW)),
        ({"since": "2d", "until": "1d"}, Range(NOW - 2 * DAY_MS, NOW - DAY_MS)),
        ({"until": "1d"}, Range(NOW - 8 * DAY_MS, NOW - DAY_MS)),
        ({"since": "2024-10-04"}, Range(20_000 * DAY_MS, NOW)),
        ({"since": "2024-10-04T02:00:00.250+02:00"}, Range(20_000 * DAY_MS + 250, NOW)),
        ({"since": "1d", "until": "2999-01-01"}, Range(NOW - DAY_MS, NOW)),
        ({"since": "36500d"}, Range(0, NOW)),
        ({"since": "0001-01-01"}, Range(0, NOW)),
    ],
)
def test_ranges(query: dict[str, str], wanted: Range) -> None:
    assert range_of(query, 7 * DAY_MS, NOW) == wanted


@pytest.mark.parametrize(
    "text",
    ["30d", "1h30m", "2d12h", "5m30s", "2024-10-04", "2024-10-04T02:00:00+02:00", timestamp(NOW)],
)
def test_the_schema_has_what_is_taken_and_what_is_answered(text: str) -> None:
    (also,) = (each for each in get_args(Moment) if isinstance(each, Also))
    assert re.search(str(also.keywords["pattern"]), text)
    range_of({"until": text}, DAY_MS, NOW + DAY_MS)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "2999-01-01"}, "'since' is 2999-01-01T00:00:00.000Z, which is not in the past"),
        ({"since": "0s"}, "not in the past"),
        ({"since": "1d", "until": "2d"}, "not before 'until'"),
        ({"since": "yesterday"}, "'since' is 'yesterday': write how long ago"),
        ({"until": "30"}, "'until' is '30': write"),
        ({"since": "\x1b[2J"}, "'since' is '?[2J'"),
        ({"since": ""}, "'since' is ''"),
        ({"since": "9" * 500}, "'since' is '999"),
    ],
)
def test_mistakes_are_said(query: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        range_of(query, 7 * DAY_MS, NOW)
