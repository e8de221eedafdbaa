"""`history` and `report` as a terminal and a spreadsheet show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from agent.cli.history import shown as history_shown
from agent.cli.report import shown as report_shown
from agent.cli.spreadsheet import safe
from agent.history.suspects import SuspectKind
from agent.model import DeviceState
from agent.service.report import By
from agent.text import width

if TYPE_CHECKING:
    from agent.service.history import DeviceHistory, SpanRow
    from agent.service.report import FiguresRow, Report


def span(begin: str, end: str, state: DeviceState, reason: str = "", **more: str) -> SpanRow:
    return {
        "from": f"2024-11-01T{begin}:00.000Z",
        "to": f"2024-11-01T{end}:00.000Z",
        "began": more.get("began", f"2024-11-01T{begin}:00.000Z"),
        "state": state,
        "seen": "unseen" not in more,
        "reason": reason,
        "reason_code": "",
        "cause_id": "",
        "holder": more.get("holder", ""),
        "port": "1-4.2",
        "host": "rack-1",
    }


HISTORY: DeviceHistory = {
    "udid": "ce0917198075440c057e",
    "name": "Galaxy Note 8",
    "since": "2024-11-01T00:00:00.000Z",
    "until": "2024-11-01T12:00:00.000Z",
    "spans": [
        span("00:00", "04:00", DeviceState.ONLINE, began="2024-10-01T00:00:00.000Z"),
        span("04:00", "04:30", DeviceState.UTILIZING, holder="alice\x1b[2J"),
        span(
            "04:30", "05:00", DeviceState.OFFLINE, "unauthorized: " + "confirm it " * 20, unseen="y"
        ),
        span("05:00", "12:00", DeviceState.ONLINE),
    ],
    "unseen": [
        {
            "from": "2024-11-01T04:30:00.000Z",
            "to": "2024-11-01T05:00:00.000Z",
            "why": "adb could not see",
        }
    ],
    "truncated": False,
}


def figures(key: str, name: str, availability: float | None = 0.9999) -> FiguresRow:
    return {
        "key": key,
        "name": name,
        "devices": 1,
        "seen_ms": 10,
        "unseen_ms": 3_600_000,
        "online_ms": 5,
        "utilizing_ms": 5,
        "offline_ms": 0,
        "unplugged_ms": 0,
        "availability": availability,
        "utilization": None,
        "offline_count": 3,
        "unplugged_count": 12,
        "flaps": 0,
        "repair_ms_mean": 95_000,
        "reasons": [{"code": "not_seen_by_adb", "count": 3, "ms": 0}],
    }


def report(*rows: FiguresRow, by: By = By.DEVICE, whole_days: bool = False) -> Report:
    return {
        "since": "2024-11-01T00:00:00.000Z",
        "until": "2024-12-01T00:00:00.000Z",
        "whole_days": whole_days,
        "by": by,
        "rows": list(rows),
        "total": figures("", "", None),
        "suspects": [
            {
                "kind": SuspectKind.PORT,
                "host": "rack",
                "udid": "",
                "name": "",
                "port": "1-4.2",
                "times": 9,
                "days": 3,
                "expected": 0.2,
                "hours": 70.0,
                "others": 2,
                "who": "port 1-4.2",
                "evidence": "9 interruptions\n on 3 days",
                "advice": "change the cable",
            }
        ],
    }


def test_a_history_reads_newest_first_and_says_what_nobody_saw() -> None:
    lines = click.unstyle(history_shown(HISTORY, 80)).splitlines()
    assert all(width(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines[:2]] == ["FROM", "2024-11-01"]
    assert "7 h" in lines[1]
    assert "[not seen] unauthorized" in lines[2]
    assert "by alice?[2J" in lines[3]
    assert lines[4].startswith("before 2024-11-01 00:00:00")
    assert lines[-1] == "2024-11-01 04:30:00  for 30 min: adb could not see"
    assert "stored no more" in history_shown({**HISTORY, "truncated": True})
    assert "was not known yet" in history_shown({**HISTORY, "spans": []})
    gone = history_shown({**HISTORY, "spans": [], "truncated": True})
    assert "is stored no more" in gone
    assert "not known" not in gone


@pytest.mark.parametrize("by", list(By))
def test_a_report_fits_a_terminal(by: By) -> None:
    row = figures("ce0917198075440c057e", "A phone whose name is long, and goes on and on")
    shown = report_shown(report(row, figures("", "x\x1b[2J"), by=by), 80)
    assert "\x1b[2J" not in shown
    lines = click.unstyle(shown).splitlines()
    assert all(width(line) <= 80 for line in lines)
    assert lines[0] == "2024-11-01T00:00:00.000Z to 2024-12-01T00:00:00.000Z"
    assert "99.9 %" in lines[2]  # and not 100.0
    assert "1 min" in lines[2]
    expected = "rack, port 1-4.2: 9 interruptions? on 3 days. To do: change the cable"
    assert " ".join(lines[lines.index("Suspects:") + 1 :]) == expected
    wide = report_shown(report(row, by=by))
    assert "not_seen_by_adb (3)" in wide


def test_a_report_says_where_it_is_of_whole_days_and_where_of_nothing() -> None:
    row = figures("a", "b")
    assert "whole days" in report_shown(report(row, whole_days=True))
    assert report_shown(report()).endswith("no device was known yet")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49", "'+49"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\t=1", "?=1"),
        ("Galaxy", "Galaxy"),
        ("two\nlines", "two?lines"),
        ("a;=1+1;b", "a;'=1+1;b"),
        ("a; @SUM(A1)", "a;' @SUM(A1)"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a=1; b", "a=1; b"),
        ("x" * 5_000, "x" * 5_000),
        (-5, "-5"),
        (0.5, "0.5"),
        (None, ""),
        (True, "true"),
    ],
)
def test_no_cell_is_a_formula(value: object, cell: str) -> None:
    assert safe(value) == cell
