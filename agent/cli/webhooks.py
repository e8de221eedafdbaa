"""`device-agent webhooks`: what is configured, and whether it works."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from agent.cli.common import ask, config_option, group_config_option
from agent.cli.table import columns

if TYPE_CHECKING:
    from pathlib import Path

_HEADINGS = ("ID", "NAME", "ENABLED", "EVENTS", "URL", "STATUS")


@click.group()
@group_config_option
def command() -> None:
    """List, show and test webhooks."""


@command.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def list_(config_path: Path, as_json: bool) -> None:
    """List the running agent's webhooks."""
    answer = ask(config_path, "GET", "/v1/webhooks")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    rows = answer["webhooks"]
    if not rows:
        click.echo("no webhooks")
        return
    cells = [
        (
            str(row["id"]),
            row["name"],
            "yes" if row["enabled"] else "no",
            ",".join(row["events"]),
            row["url"],
            row["status"],
        )
        for row in rows
    ]
    colours = ["green" if row["status"] == "good" else "yellow" for row in rows]
    click.echo(columns(_HEADINGS, cells, 5, colours))


@command.command()
@config_option
@click.argument("name", metavar="NAME|ID")
def show(config_path: Path, name: str) -> None:
    """Show one webhook as JSON."""
    rows = ask(config_path, "GET", "/v1/webhooks")["webhooks"]
    row = next((row for row in rows if name in {row["name"], str(row["id"])}), None)
    if row is None:
        click.echo(f"device-agent: no webhook {name!r}", err=True)
        sys.exit(1)
    click.echo(json.dumps(row, indent=2))


@command.command()
@config_option
@click.argument("name", metavar="NAME|ID")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def test(config_path: Path, name: str, as_json: bool) -> None:
    """Send a marked sample through the webhook's own settings; exit 1 unless answered 2xx.

    Its device is `device-agent-test`. It is sent once, whether the webhook is enabled or not, and
    not stored.
    """
    answer = ask(config_path, "POST", f"/v1/webhooks/{quote(name, safe='')}/test")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"sent {answer['id']} to {answer['url']}\n  {answer['body']}")
        if answer["ok"]:
            verdict = click.style(f"answered {answer['status']}", fg="green")
        else:
            verdict = click.style(answer["error"], fg="red")
        click.echo(f"{verdict} in {answer['duration_ms']} ms")
        if answer["answer"]:
            click.echo("  " + answer["answer"].replace("\n", "\n  "))
    sys.exit(0 if answer["ok"] else 1)
