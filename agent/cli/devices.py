"""`device-agent devices`: a table that reads at a glance."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option, quoted
from agent.cli.filters import Filters
from agent.cli.out import printable
from agent.cli.reload import say_refused_reload
from agent.cli.table import columns, terminal
from agent.text import elapsed
from agent.wire.control import typed

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.devices import DeviceRow, TransitionRow

_COLOURS = {
    "online": "green",
    "utilizing": "blue",
    "offline": "yellow",
    "unplugged": "bright_black",
}
_HEADINGS = ("NAME", "UDID", "PLATFORM", "STATE", "SINCE", "PORT", "TAGS", "WHY")
_SHRINK = (
    *((0, 24), (7, 32), (6, 16), (0, 16), (7, 24), (6, 8)),
    *((2, 0), (6, 0), (7, 12), (5, 0), (0, 8), (7, 0), (1, 13), (4, 0), (0, 0), (1, 1), (3, 1)),
)
"""Which column gives up how much room, in turn; a UDID, which is copied, and the state last."""
_SHOWN = 10
"""Transitions below the table of one device."""


@click.command()
@config_option
@click.option("--watch", "-w", is_flag=True, help="Stay, and show what happens as it happens.")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@click.option("--state", "states", multiple=True, help="Only devices in this state; repeatable.")
@click.option("--platform", type=click.Choice(["android", "ios"]), help="Only this platform.")
@click.option("--tag", "tags", multiple=True, help="Only devices with this tag; repeatable.")
@click.argument("named", metavar="[DEVICE]...", nargs=-1)
def command(
    config_path: Path,
    watch: bool,
    as_json: bool,
    states: tuple[str, ...],
    platform: str | None,
    tags: tuple[str, ...],
    named: tuple[str, ...],
) -> None:
    """Show the devices, their states, and why; DEVICE is a UDID or a name.

    Of a single DEVICE, what it went through is shown too. With --watch, a terminal shows the table
    as it changes, until Ctrl-C; elsewhere each transition is a line, or with --json each message a
    JSON object. An agent that restarts is waited for, and what was missed meanwhile is told.
    """
    named = tuple(map(typed, named))
    filters = Filters(named, states, platform, tuple(map(typed, tags)))
    if watch:
        from agent.cli.watch import watch as stay  # noqa: PLC0415 - most calls do not stay

        sys.exit(stay(config_path, filters, as_json=as_json))
    rows = filters.rows(ask(config_path, "GET", "/v1/devices")["devices"])
    if named and not rows:
        # It exists, and the other options leave it out; or the agent says which are near.
        for text in named:
            ask(config_path, "GET", f"/v1/devices/{quoted(text)}")
    if as_json:
        click.echo(json.dumps({"devices": rows}, indent=2))
        return
    size = terminal()
    room = size.columns if size else None
    click.echo(table(rows, time.time(), room) if rows else "no devices")
    if len(named) == 1 and len(rows) == 1:
        udid = quoted(rows[0]["udid"])
        click.echo(_history(ask(config_path, "GET", f"/v1/devices/{udid}")["transitions"]))
    say_refused_reload(config_path)


def table(rows: list[DeviceRow], now: float, room: int | None = None) -> str:
    """The rows under headings, in columns; states coloured. `room`: of the terminal."""
    cells = [
        (
            row["name"],
            row["udid"],
            row["platform"] or "",
            row["state"] + ("~" if row["flapping"] else ""),
            since(row["since"], now),
            row["port"],
            ",".join(row["tags"]),
            " ".join(filter(None, (row["reason"], "(flapping)" if row["flapping"] else ""))),
        )
        for row in rows
    ]
    colours = [_COLOURS.get(row["state"]) for row in rows]
    return columns(_HEADINGS, cells, 3, colours, room=room, shrink=_SHRINK)


def transition_line(row: TransitionRow) -> str:
    """One transition: when, which device, from what to what, and why."""
    return f"{row['at']}  {printable(row['name'])}  {printable(row['udid'])}  {_move(row)}".rstrip()


def _history(transitions: list[TransitionRow]) -> str:
    lines = [f"{row['at']}  {_move(row)}".rstrip() for row in transitions[:_SHOWN]]
    return "\n" + ("\n".join(lines) or "no transition is stored")


def _move(row: TransitionRow) -> str:
    to = click.style(row["to"], fg=_COLOURS.get(row["to"]))
    return f"{row['from'] or 'new'} -> {to}  {printable(row['reason'])}"


def tally(rows: list[DeviceRow]) -> str:
    """`4 devices: 3 online, 1 offline`."""
    counts: Counter[str] = Counter(row["state"] for row in rows)
    parts = ", ".join(f"{counts[state]} {state}" for state in _COLOURS if counts[state])
    return f"{len(rows)} device{'' if len(rows) == 1 else 's'}" + (f": {parts}" if parts else "")


def since(moment: str | None, now: float) -> str:
    """How long ago; "" for never."""
    if not moment:
        return ""
    return elapsed(now - datetime.fromisoformat(moment).timestamp())
