"""`device-agent webhooks`: what is configured, whether it works, and changing it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option, quoted
from agent.cli.group import group_config_option
from agent.cli.out import LONG, lines, printable
from agent.cli.table import columns
from agent.cli.webhook_edit import create, delete, disable, edit, enable
from agent.cli.webhook_rows import detail, rows
from agent.config import format_duration
from agent.wire.control import typed

if TYPE_CHECKING:
    from agent.service.webhooks import KnownWebhook, SampleRow

_HEADINGS = ("ID", "NAME", "ENABLED", "EVENTS", "URL", "STATUS", "IN")


@click.group()
@group_config_option
def command() -> None:
    """List, show, create, edit, delete and test webhooks."""


for each in (create, edit, delete, enable, disable):
    command.add_command(each)


@command.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def list_(config_path: Path, as_json: bool) -> None:
    """List the running agent's webhooks; those of the file where no agent runs."""
    found = rows(config_path)
    if as_json:
        click.echo(json.dumps({"webhooks": found}, indent=2))
        return
    if not found:
        click.echo("no webhooks")
        return
    cells = [
        (
            "" if row["id"] is None else str(row["id"]),
            row["name"],
            "yes" if row["enabled"] else "no",
            _events(row),
            row["url"],
            row["status"],
            _place(row),
        )
        for row in found
    ]
    colours = ["green" if row["status"] == "good" else "yellow" for row in found]
    click.echo(columns(_HEADINGS, cells, 5, colours))


def _events(row: KnownWebhook) -> str:
    after = f" after {format_duration(row['after'])}" if row["after"] else ""
    return ",".join(row["events"]) + after


def _place(row: KnownWebhook) -> str:
    """Where it is changed."""
    if row["managed"]:
        return "managed"
    return f"{Path(row['file']).name}:{row['line']}" if row["file"] else ""


@command.command()
@config_option
@click.argument("name", metavar="NAME|ID")
@click.option("--json", "_as_json", is_flag=True, help="What it prints anyhow.")
def show(config_path: Path, name: str, _as_json: bool) -> None:
    """Show one webhook as JSON: the running agent's; that of the file where no agent runs."""
    click.echo(json.dumps(detail(config_path, typed(name)), indent=2))


@command.command()
@config_option
@click.argument("name", metavar="NAME|ID")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def test(config_path: Path, name: str, as_json: bool) -> None:
    """Send a marked sample through the webhook's own settings; exit 1 unless answered 2xx.

    Its device is `device-agent-test`. It is sent once, whether the webhook is enabled or not, and
    not stored.
    """
    answer: SampleRow = ask(config_path, "POST", f"/v1/webhooks/{quoted(name)}/test")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(printable(f"sent {answer['id']} to {answer['url']}"))
        click.echo(f"  {printable(answer['body'], LONG)}")
        if answer["ok"]:
            verdict = click.style(f"answered {answer['status']}", fg="green")
        else:
            verdict = click.style(printable(answer["error"]), fg="red")
        click.echo(f"{verdict} in {answer['duration_ms']} ms")
        if answer["answer"]:
            click.echo(lines(answer["answer"], indent="  | "))
    sys.exit(0 if answer["ok"] else 1)
