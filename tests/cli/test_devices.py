"""The device table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import click
import pytest

from agent.cli.device_rows import since, table
from agent.cli.filters import Filters
from agent.cli.watch import Screen
from agent.text import width

if TYPE_CHECKING:
    from agent.service.devices import DeviceRow

NOW = datetime(2026, 1, 6, 12, 0, 0, tzinfo=UTC).timestamp()


def row(**changes: Any) -> DeviceRow:
    made: dict[str, Any] = {
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
        "silence": None,
        "told": "online",
        "host": "rack-1",
        "battery": None,
        **changes,
    }
    return cast("DeviceRow", made)


def test_columns_line_up_under_their_headings() -> None:
    other = row(name="P", udid="x", state="utilizing", reason="", flapping=True)
    lines = [click.unstyle(line) for line in table([row(), other], NOW).splitlines()]
    assert lines == [
        "NAME           UDID                  PLATFORM  STATE       SINCE  PORT  TAGS  WHY",
        "Galaxy Note 8  ce0917198075440c057e  android   online      42 s   1-4   a,b",
        "P              x                     android   utilizing~  42 s   1-4   a,b   (flapping)",
    ]


def test_hosts_are_shown_where_there_are_several() -> None:
    text = click.unstyle(table([row(), row(udid="x", host="rack-2")], NOW))
    lines = text.splitlines()
    assert lines[0].split()[-4:] == ["HOST", "PORT", "TAGS", "WHY"]
    assert lines[2].split()[-3:] == ["rack-2", "1-4", "a,b"]


def battery(**changes: Any) -> dict[str, Any]:
    return {
        "level": 87,
        "temperature": 31.4,
        "charging": True,
        "hot": False,
        "low": False,
    } | changes


def test_batteries_are_shown_where_any_is_known() -> None:
    rows = [
        row(battery=battery()),
        row(udid="b", battery=battery(charging=False, temperature=None)),
        row(udid="c", battery=battery(level=None)),
        row(udid="d"),
    ]
    lines = click.unstyle(table(rows, NOW)).splitlines()
    at = lines[0].index("BATTERY")
    assert [line[at : at + 9].rstrip() for line in lines[1:]] == ["87%+ 31°C", "87%", "- 31°C", ""]
    assert all(line[at - 2 : at] == "  " for line in lines[1:])


@pytest.mark.parametrize("room", [200, 110, 90, 70, 50, 40, 30])
def test_a_table_fits_its_terminal_and_keeps_udid_and_state(room: int) -> None:
    long = row(name="電話機 of the second rack", tags=["rack-1", "samsung"], reason="why " * 30)
    lines = [click.unstyle(line) for line in table([row(), long], NOW, room).splitlines()]
    assert all(width(line) <= room for line in lines)
    assert all("online" in line for line in lines[1:])
    assert ("ce0917198075440c057e" in lines[1]) == (room >= 50)
    assert ("WHY" in lines[0]) == (room >= 70)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "[silenced for 30 min: ?[2Jcables] why"),
        ({"told": "offline"}, "[silenced for 30 min, told: offline: ?[2Jcables] why"),
        ({"told": None}, "[silenced for 30 min, told: nothing: ?[2Jcables] why"),
        ({"told": None, "since": None}, "[silenced for 30 min: ?[2Jcables] why"),
    ],
)
def test_who_is_silenced_is_seen_first(changes: dict[str, Any], why: str) -> None:
    silence = {"id": "1", "reason": "\x1b[2Jcables", "ends": "2026-01-06T12:30:00.000Z"}
    (_, line) = table([row(silence=silence, reason="why", **changes)], NOW).splitlines()
    assert line.endswith(f"  {why}")


def test_a_name_of_a_phone_moves_no_cursor() -> None:
    text = table([row(name="\x1b[2Jgone\r\n", reason="\x07")], NOW)
    assert "?[2Jgone??" in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        (Filters(), True),
        (Filters(named=("GALAXY note 8",)), True),
        (Filters(named=("CE09-17198075440c057e", "other")), True),
        (Filters(named=("ce09",)), False),
        (Filters(states=("offline", "online")), True),
        (Filters(states=("offline",)), False),
        (Filters(platform="ios"), False),
        (Filters(tags=("b", "c")), True),
        (Filters(tags=("c",)), False),
        (Filters(hosts=("rack-2", "rack-1")), True),
        (Filters(hosts=("rack-2",)), False),
        (Filters(named=("Galaxy Note 8",), tags=("c",)), False),
    ],
)
def test_filters(filters: Filters, fits: bool) -> None:
    assert bool(filters.rows([row()])) == fits


def screen(rows: list[DeviceRow], wide: int, high: int) -> list[str]:
    made = Screen(Filters())
    made._rows = {each["udid"]: each for each in rows}
    return [click.unstyle(line) for line in made.lines(wide, high, NOW)]


def test_a_screen_says_how_many_are_in_which_state_and_how_many_do_not_fit() -> None:
    rows = [row(udid=f"phone{n}", state="offline" if n % 2 else "online") for n in range(9)]
    lines = screen(rows, 60, 8)
    assert lines[0].startswith("9 devices: 5 online, 4 offline  ")
    assert len(lines) == 8
    assert lines[-1] == "… and 5 more: --state, --tag, or a higher window"
    assert "  phone8  android   online   42 s   1-4" in screen(rows, 80, 40)[-1]


@pytest.mark.parametrize("wide", [1, 5, 20, 300])
@pytest.mark.parametrize("high", [1, 2, 5, 50])
def test_a_screen_of_any_size_is_kept_to(wide: int, high: int) -> None:
    lines = screen([row(udid=f"phone{n}") for n in range(9)], wide, high)
    assert len(lines) <= high
    if wide > 5:
        assert all(width(line) <= wide for line in lines)


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
