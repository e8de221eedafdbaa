"""`device-agent hosts`: the hosts that a hub follows."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option
from agent.cli.out import echo_err, printable
from agent.cli.table import columns
from agent.text import elapsed

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.hosts import HostList, HostRow

_HEADINGS = ("HOST", "STATE", "HEARD", "DEVICES", "LAG", "VERSION", "PROBLEM")
_COLOURS = {"alive": "green", "unheard": "yellow", "lost": "red", "gone": "red"}


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def command(config_path: Path, *, as_json: bool) -> None:
    """Show the hosts that the hub follows, and how it stands with each.

    LAG is how many transitions a host has that the hub has not yet. The exit status is 1 where the
    hub is blind, or this agent is no hub.
    """
    answer: HostList = ask(config_path, "GET", "/v1/hosts")
    hub, rows = answer["hub"], answer["hosts"]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif hub is not None:
        colours = [_COLOURS.get(row["state"]) for row in rows]
        table = columns(_HEADINGS, [_cells(row) for row in rows], 1, colours)
        click.echo(table if rows else "no hosts")
    if hub is None:
        echo_err('this agent is no hub: [fleet] role = "hub" makes one')
    elif hub["blind"]:
        why = printable(hub["reason"] or "the broker gives back none of its heartbeats")
        echo_err(f"the hub is blind, and decides nothing: {why}")
    elif not hub["active"]:
        echo_err("this hub is a standby: another one sends the callbacks")
    sys.exit(1 if hub is None or hub["blind"] else 0)


def _cells(row: HostRow) -> tuple[str, ...]:
    age = row["heartbeat_age"]
    return (
        row["host"],
        row["state"],
        "" if age is None else f"{elapsed(age)} ago",
        str(row["devices"]),
        str(row["lag"]),
        row["version"],
        row["problem"],
    )
