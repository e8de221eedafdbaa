"""`device-agent deliveries`: what was sent, what waits, what died, and sending it again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import ask, config_option, quoted
from agent.cli.group import group_config_option
from agent.cli.out import LONG, lines, printable
from agent.cli.table import columns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.service.deliveries import DeliveryDetail, DeliveryRow

_COLOURS = {"delivered": "green", "pending": "yellow", "dead": "red", "cancelled": "bright_black"}
_HEADINGS = ("ID", "CREATED", "WEBHOOK", "DEVICE", "TELLS", "STATE", "TRIES", "LAST ANSWER")


@click.group()
@group_config_option
def command() -> None:
    """List, show and replay stored callbacks."""


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--since", help="Created since: an age (2h) or a time (2026-01-31T12:00:00Z)."
        ),
        click.option("--until", help="Created before: likewise."),
        click.option("--dead", "state", flag_value="dead", help="Short for --state dead."),
        click.option("--state", type=click.Choice(["pending", "delivered", "dead", "cancelled"])),
        click.option("--device", metavar="UDID", help="Only of this device."),
        click.option("--webhook", metavar="NAME|ID", help="Only to this webhook."),
    ):
        function = option(function)
    return function


@command.command("list")
@config_option
@_filters
@click.option("--limit", default=50, show_default=True, help="At most so many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def list_(config_path: Path, limit: int, as_json: bool, **filters: str | None) -> None:
    """List stored callbacks, newest first."""
    query = {key: value for key, value in filters.items() if value is not None}
    answer = ask(config_path, "GET", "/v1/deliveries", query={**query, "limit": str(limit)})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    rows: list[DeliveryRow] = answer["deliveries"]
    if not rows:
        click.echo("no callbacks")
        return
    cells = [
        (
            row["id"],
            row["created"],
            row["webhook_name"] or f"#{row['webhook_id']} (gone)",
            row["udid"],
            row["device_state"] or "",
            row["state"],
            str(row["attempts"]),
            _last(row),
        )
        for row in rows
    ]
    click.echo(columns(_HEADINGS, cells, 5, [_COLOURS[row["state"]] for row in rows]))


@command.command()
@config_option
@click.argument("message_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def show(config_path: Path, message_id: str, as_json: bool) -> None:
    """Show one callback: its body and every attempt."""
    answer = ask(config_path, "GET", f"/v1/deliveries/{quoted(message_id)}")
    row: DeliveryDetail = answer["delivery"]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo(
        f"{printable(row['id'])}  {click.style(row['state'], fg=_COLOURS[row['state']], bold=True)}"
    )
    click.echo(f"to      {printable(row['webhook_name']) or '(gone)'} (id {row['webhook_id']})")
    click.echo(f"created {row['created']}")
    if row["due"]:
        click.echo(f"due     {row['due']}")
    click.echo(f"body    {printable(row['body'], LONG)}")
    for number, attempt in enumerate(row["tries"], start=1):
        what = attempt["error"] or f"answered {attempt['status']}"
        click.echo(f"\n#{number}  {attempt['at']}  {attempt['duration_ms']} ms  {printable(what)}")
        if attempt["answer"]:
            click.echo(lines(attempt["answer"], indent="    | "))


@command.command()
@config_option
@_filters
@click.argument("message_id", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def replay(config_path: Path, message_id: str | None, as_json: bool, **filters: str | None) -> None:
    """Send finished callbacks again: the one with ID, or the dead ones that match.

    Oldest first, all of them. They keep their id and body, so receivers can tell them from new
    ones. One that is older than `max_age` of [delivery] gets one attempt, and is dead again if that
    fails; a younger one is retried until then. What was for a webhook that is gone stays.
    """
    query = {key: value for key, value in filters.items() if value is not None}
    if message_id:
        query["id"] = message_id
    answer = ask(config_path, "POST", "/v1/deliveries/replay", query)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo(f"{len(answer['replayed'])} will be sent again")


def _last(row: DeliveryRow) -> str:
    if row["error"]:
        return row["error"]
    return str(row["status"]) if row["status"] else ""
