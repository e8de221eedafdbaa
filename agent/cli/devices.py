"""`device-agent devices`: a table that reads at a glance."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import ask, config_option
from agent.cli.reload import say_refused_reload
from agent.cli.table import columns

if TYPE_CHECKING:
    from pathlib import Path

_COLOURS = {
    "online": "green",
    "utilizing": "blue",
    "offline": "yellow",
    "unplugged": "bright_black",
}
_HEADINGS = ("NAME", "UDID", "PLATFORM", "STATE", "SINCE", "PORT", "TAGS", "WHY")


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@click.option("--state", "states", multiple=True, help="Only devices in this state; repeatable.")
@click.option("--platform", type=click.Choice(["android", "ios"]), help="Only this platform.")
@click.option("--tag", "tags", multiple=True, help="Only devices with this tag; repeatable.")
def command(
    config_path: Path,
    as_json: bool,
    states: tuple[str, ...],
    platform: str | None,
    tags: tuple[str, ...],
) -> None:
    """Show the devices, their states, and why."""
    rows = [
        row
        for row in ask(config_path, "GET", "/v1/devices")["devices"]
        if (not states or row["state"] in states)
        and (platform is None or row["platform"] == platform)
        and (not tags or set(tags) & set(row["tags"]))
    ]
    if as_json:
        click.echo(json.dumps({"devices": rows}, indent=2))
        return
    click.echo(table(rows, time.time()) if rows else "no devices")
    say_refused_reload(config_path)


def table(rows: list[dict[str, Any]], now: float) -> str:
    """The rows under headings, in columns; states coloured."""
    cells = [
        (
            row["name"],
            row["udid"],
            row["platform"] or "",
            row["state"] + ("~" if row["flapping"] else ""),
            since(row["since"], now),
            row["port"],
            ",".join(row["tags"]),
            row["reason"] + (" (flapping)" if row["flapping"] else ""),
        )
        for row in rows
    ]
    return columns(_HEADINGS, cells, 3, [_COLOURS.get(row["state"]) for row in rows])


def since(moment: str | None, now: float) -> str:
    """How long ago, in the largest unit that fits: `12 s`, `5 min`, `3 h`, `9 d`; "" for never."""
    if not moment:
        return ""
    seconds = max(0, int(now - datetime.fromisoformat(moment).timestamp()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
