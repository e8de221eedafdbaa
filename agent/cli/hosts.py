"""`device-agent hosts`: the hosts that a hub follows."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option, default_config, quoted
from agent.cli.group import group_config_option
from agent.cli.out import echo_err, printable
from agent.cli.table import columns
from agent.text import elapsed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.service.hosts import HostList, HostRow, HubRow

_HEADINGS = ("HOST", "STATE", "HEARD", "DEVICES", "LAG", "VERSION", "PROBLEM")
_COLOURS = {"alive": "green", "unheard": "yellow", "lost": "red", "gone": "red"}


@click.group(invoke_without_command=True)
@group_config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """Show the hosts that the hub follows, and how it stands with each.

    LAG is how many transitions a host has that the hub has not yet. The exit status is 1 where the
    hub is blind, or this agent is no hub.
    """
    if context.invoked_subcommand is None:
        _show(default_config(), as_json=as_json)


@command.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the host as it was.")
@click.argument("name", metavar="HOST")
def forget(config_path: Path, name: str, *, as_json: bool) -> None:
    """Forget a host that was taken down for good.

    It must be silent for [fleet] host_grace: stop its agent first. Its phones are shown no more,
    but for those that another host has; they call nobody back. An agent that comes back under that
    name is a new host. With two hubs tell each of them.
    """
    row: HostRow = ask(config_path, "DELETE", f"/v1/hosts/{quoted(name)}")
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    count = row["devices"]
    its = f"; its {count} phone{' is' if count == 1 else 's are'} shown no more" if count else ""
    click.echo(printable(f"{row['host']} is forgotten{its}"))
    click.echo("another hub, where there is one, has it still: forget it there, too")


def _show(config_path: Path, *, as_json: bool) -> None:
    answer: HostList = ask(config_path, "GET", "/v1/hosts")
    hub = answer["hub"]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif hub is not None:
        click.echo(table(answer["hosts"]))
    said = complaint(hub)
    if said:
        echo_err(said)
    sys.exit(1 if hub is None or hub["blind"] else 0)


def table(rows: Sequence[HostRow]) -> str:
    """A line for each."""
    if not rows:
        return "no hosts"
    colours = [_COLOURS[row["state"]] for row in rows]
    return columns(_HEADINGS, [_cells(row) for row in rows], 1, colours)


def complaint(hub: HubRow | None) -> str:
    """What is to be said of the hub; "": nothing."""
    if hub is None:
        return 'this agent is no hub: [fleet] role = "hub" makes one'
    if hub["blind"]:
        why = printable(hub["reason"] or "the broker gives back none of its heartbeats")
        return f"the hub is blind, and decides nothing: {why}"
    return "" if hub["active"] else "this hub is a standby: another one sends the callbacks"


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
