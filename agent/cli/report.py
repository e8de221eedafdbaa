"""`device-agent report`: how available, used and broken the devices were."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option
from agent.cli.out import printable
from agent.cli.spreadsheet import safe
from agent.cli.table import columns, terminal
from agent.text import elapsed

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.report import FiguresRow, Report

BY = click.Choice(["device", "hub", "tag", "model", "platform"])
_HEADINGS = ("AVAIL", "USED", "OFF", "UNPLUG", "FLAPS", "REPAIR", "UNSEEN", "TOP REASON")
_SHRINK = ((0, 20), (9, 24), (1, 20), (9, 10), (0, 12), (6, 0), (8, 0), (9, 0), (1, 12), (7, 0))
_CSV = (
    *("key", "name", "devices", "seen_ms", "unseen_ms", "online_ms", "utilizing_ms"),
    *("offline_ms", "unplugged_ms", "availability", "utilization", "offline_count"),
    *("unplugged_count", "flaps", "repair_ms_mean", "reasons"),
)


@click.command()
@config_option
@click.option("--since", default="30d", show_default=True, help="How long ago, or an ISO time.")
@click.option("--until", default="", help="Likewise; left out: now.")
@click.option("--by", type=BY, default="device", show_default=True, help="What a line is of.")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a spreadsheet's lines.")
def command(
    config_path: Path, since: str, until: str, by: str, *, as_json: bool, as_csv: bool
) -> None:
    """Show how available, used and broken the devices were.

    AVAIL: the part of the seen time in which they could be used, or were. USED: the part of that in
    which they were. OFF, UNPLUG: how often they went offline or were unplugged. FLAPS: outages of
    less than a minute. REPAIR: how long an outage took, on average. UNSEEN: time in which nobody
    could see them, because no agent ran or a source was down; it is in no other figure.
    """
    query = {"since": since, "by": by, **({"until": until} if until else {})}
    answer: Report = ask(config_path, "GET", "/v1/report", None, query)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif as_csv:
        _write_csv(answer)
    else:
        size = terminal()
        click.echo(shown(answer, size.columns if size else None))


def shown(answer: Report, room: int | None = None) -> str:
    """All of it, as a terminal shows it. `room`: its width."""
    head = f"{answer['since']} to {answer['until']}"
    if answer["whole_days"]:
        head += " (whole days: that is all that is left of them)"
    if not answer["rows"]:
        return f"{head}\nno device was known yet"
    by = answer["by"]
    of_devices = by == "device"
    first = ("DEVICE", "UDID") if of_devices else (by.upper(), "DEVICES")
    named = [(row["key"] or f"(no {by})", row) for row in answer["rows"]]
    named.append(("all", answer["total"]))
    rows = [
        ((row["name"], key) if of_devices else (key, str(row["devices"]))) + _figures(row)
        for key, row in named
    ]
    colours = [_colour(row) for _, row in named]
    table = columns((*first, *_HEADINGS), rows, 2, colours, room=room, shrink=_SHRINK)
    suspects = [
        printable(f"{each['host']}, {each['who']}: {each['evidence']}. To do: {each['advice']}")
        for each in answer["suspects"]
    ]
    return "\n".join([head, table, *(["", "Suspects:", *suspects] if suspects else [])])


def _figures(row: FiguresRow) -> tuple[str, ...]:
    repair, reasons = row["repair_ms_mean"], row["reasons"]
    return (
        _percent(row["availability"]),
        _percent(row["utilization"]),
        str(row["offline_count"]),
        str(row["unplugged_count"]),
        str(row["flaps"]),
        "" if repair is None else elapsed(repair / 1000),
        elapsed(row["unseen_ms"] / 1000) if row["unseen_ms"] else "",
        f"{reasons[0]['code'] or 'not told'} ({reasons[0]['count']})" if reasons else "",
    )


def _percent(part: float | None) -> str:
    """Never rounded up to all of it."""
    if part is None:
        return "-"
    return f"{int(part * 1000) / 10:.1f} %"


def _colour(row: FiguresRow) -> str | None:
    part = row["availability"]
    if part is None:
        return None
    return "green" if part >= 0.99 else "yellow" if part >= 0.9 else "red"  # noqa: PLR2004 - colours


def _write_csv(answer: Report) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_CSV)
    for row in answer["rows"]:
        reasons = "; ".join(
            f"{each['code'] or 'not told'} {each['count']} {each['ms']}" for each in row["reasons"]
        )
        writer.writerow([safe({**row, "reasons": reasons}[name]) for name in _CSV])
