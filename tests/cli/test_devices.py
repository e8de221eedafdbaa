"""The device table."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from agent.cli.devices import since, table

NOW = datetime(2026, 1, 6, 12, 0, 0, tzinfo=UTC).timestamp()


def row(**changes: object) -> dict[str, object]:
    return {
        "udid": "ce0917198075440c057e",
        "name": "Galaxy Note 8",
        "platform": "android",
        "state": "online",
        "reason": "",
        "since": "2026-01-06T11:59:18.000Z",
        "holder": "",
        "port": "1-4",
        "tags": ["a", "b"],
        "visibility": "private",
        "flapping": False,
        **changes,
    }


def test_columns_line_up_under_their_headings() -> None:
    other = row(name="P", udid="x", state="utilizing", reason="", flapping=True)
    lines = [click.unstyle(line) for line in table([row(), other], NOW).splitlines()]
    assert lines == [
        "NAME           UDID                  PLATFORM  STATE       SINCE  PORT  TAGS  WHY",
        "Galaxy Note 8  ce0917198075440c057e  android   online      42 s   1-4   a,b",
        "P              x                     android   utilizing~  42 s   1-4   a,b    (flapping)",
    ]


def test_states_are_coloured() -> None:
    assert "\x1b[32monline" in table([row()], NOW)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, ""),
        ("2026-01-06T12:00:00.500Z", "0 s"),
        ("2026-01-06T11:59:01.000Z", "59 s"),
        ("2026-01-06T11:59:00.000Z", "1 min"),
        ("2026-01-06T09:00:00.000Z", "3 h"),
        ("2025-12-28T09:00:00.000Z", "9 d"),
    ],
)
def test_since_is_in_the_largest_unit_that_fits(moment: str | None, text: str) -> None:
    assert since(moment, NOW) == text
