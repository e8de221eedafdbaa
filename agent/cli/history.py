"""`device-agent history`: what one device went through."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option, quoted
from agent.cli.device_rows import COLOURS
from agent.cli.out import printable
from agent.cli.spreadsheet import safe
from agent.cli.table import columns, terminal
from agent.text import elapsed
from agent.wire.control import typed

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.history import DeviceHistory, SpanRow, UnseenRow

_HEADINGS = ("FROM (UTC)", "LASTED", "STATE", "PORT", "WHY")
_CSV = (
    *("from", "to", "ms", "state", "seen", "reason", "reason_code", "cause_id", "holder", "port"),
    "host",
)
_SHRINK = ((4, 30), (4, 12), (3, 0), (4, 0))


@click.command()
@config_option
@click.option("--since", default="7d", show_default=True, help="How long ago, or an ISO time.")
@click.option("--until", default="", help="Likewise; left out: now.")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print a line for each stay, for a spreadsheet."
)
@click.argument("device", metavar="DEVICE")
def command(
    config_path: Path, since: str, until: str, device: str, *, as_json: bool, as_csv: bool
) -> None:
    """Show what DEVICE went through, newest first: its states, how long each lasted, and why.

    Times in which nobody could see it, because no agent ran or a source was down, are told below:
    its state in them is what was known last.
    """
    query = {"since": since, **({"until": until} if until else {})}
    path = f"/v1/devices/{quoted(typed(device))}/history"
    answer: DeviceHistory = ask(config_path, "GET", path, None, query)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif as_csv:
        _write_csv(answer["spans"])
    else:
        size = terminal()
        click.echo(shown(answer, size.columns if size else None))


def shown(answer: DeviceHistory, room: int | None = None) -> str:
    """All of it, as a terminal shows it. `room`: its width."""
    spans, unseen = answer["spans"], answer["unseen"]
    if not spans and answer["truncated"]:
        return printable(
            f"what {answer['udid']} went through until {answer['until']} is stored no more"
        )
    if not spans:
        return printable(f"{answer['udid']} was not known yet by {answer['until']}")
    rows = [
        (
            ("" if each["from"] == each["began"] else "before ") + _time(each["from"]),
            lasted(each),
            each["state"],
            each["port"],
            _why(each),
        )
        for each in reversed(spans)
    ]
    colours = [COLOURS.get(each["state"]) for each in reversed(spans)]
    parts = [columns(_HEADINGS, rows, 2, colours, room=room, shrink=_SHRINK)]
    if answer["truncated"]:
        parts.append("\nWhat came before is stored no more, or was too much for one answer.")
    if unseen:
        parts.append("\nNot seen, and in no figure of a report:")
        parts += [_unseen(each) for each in reversed(unseen)]
    return "\n".join(parts)


def lasted(row: SpanRow | UnseenRow) -> str:
    """How long, in words."""
    return elapsed((_ms(row["to"]) - _ms(row["from"])) / 1000)


def _unseen(row: UnseenRow) -> str:
    return printable(f"{_time(row['from'])}  for {lasted(row)}: {row['why']}")


def _time(text: str) -> str:
    return text[:19].replace("T", " ")


def _why(row: SpanRow) -> str:
    by = f"by {row['holder']}" if row["holder"] else ""
    blind = "" if row["seen"] else "[not seen]"
    return " ".join(filter(None, (blind, row["reason"], by)))


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _write_csv(spans: list[SpanRow]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_CSV)
    for each in spans:
        cells = {**each, "ms": _ms(each["to"]) - _ms(each["from"])}
        writer.writerow([safe(cells[name]) for name in _CSV])
