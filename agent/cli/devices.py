"""`device-agent devices`: a table that reads at a glance."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from agent.cli.common import PLATFORM, ask, config_option, quoted
from agent.cli.device_rows import history, table, waits
from agent.cli.filters import Filters
from agent.cli.reload import say_refused_reload
from agent.cli.table import terminal
from agent.wire.control import typed

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_option
@click.option("--watch", "-w", is_flag=True, help="Stay, and show what happens as it happens.")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@click.option("--state", "states", multiple=True, help="Only devices in this state; repeatable.")
@click.option("--platform", type=PLATFORM, help="Only this platform.")
@click.option("--tag", "tags", multiple=True, help="Only devices with this tag; repeatable.")
@click.option("--host", "hosts", multiple=True, help="At a hub: only this host's; repeatable.")
@click.argument("named", metavar="[DEVICE]...", nargs=-1)
def command(
    config_path: Path,
    watch: bool,
    as_json: bool,
    states: tuple[str, ...],
    platform: str | None,
    tags: tuple[str, ...],
    hosts: tuple[str, ...],
    named: tuple[str, ...],
) -> None:
    """Show the devices, their states, and why; DEVICE is a UDID or a name.

    Of a single DEVICE, what it went through is shown too. With --watch, a terminal shows the table
    as it changes, until Ctrl-C; elsewhere each transition is a line, or with --json each message a
    JSON object. An agent that restarts is waited for, and what was missed meanwhile is told.
    """
    named = tuple(map(typed, named))
    filters = Filters(named, states, platform, tuple(map(typed, tags)), tuple(map(typed, hosts)))
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
        detail = ask(config_path, "GET", f"/v1/devices/{udid}")
        if told := waits(detail["waits"], detail["state"], time.time()):
            click.echo(told)
        click.echo(history(detail["transitions"]))
    say_refused_reload(config_path)
