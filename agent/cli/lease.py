"""`device-agent lease`: leases for scripts that hold a device over several commands."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import (
    AgentClient,
    ask,
    config_option,
    quoted,
    socket_of,
)
from agent.cli.device_rows import since
from agent.cli.group import group_config_option
from agent.cli.holding import Seconds, patiently, request_body, wish_options
from agent.cli.out import LONG, echo_err, printable
from agent.cli.table import columns

if TYPE_CHECKING:
    from pathlib import Path

    from agent.api.leases import LeaseRequest
    from agent.service.leases import LeaseRow

_HEADINGS = ("ID", "UDID", "HOST", "HOLDER", "PURPOSE", "SINCE", "EXPIRES", "TAKEN FROM")


@click.group()
@group_config_option
def command() -> None:
    """Acquire, renew, release and list leases: who has which device.

    A lease that nobody renews ends after its --ttl. `device-agent use` is simpler where one command
    does it all.
    """


@command.command()
@config_option
@wish_options
@click.option("--purpose", default="", help="What for.")
@click.option("--ttl", type=Seconds(), default="60s", show_default=True, help="Ends it unrenewed.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole lease.")
@click.argument("udid", required=False)
def acquire(
    config_path: Path, udid: str | None, purpose: str, ttl: float, *, as_json: bool, **wish: Any
) -> None:
    """Take the device UDID, or any that fits; prints the lease's id.

    It is refused while somebody else holds the device, whose name is told.
    """
    if (udid is None) != wish["any_"]:
        raise click.UsageError("name either a UDID or --any")
    body = request_body(udid, **wish)
    body["purpose"], body["ttl"] = purpose, ttl
    lease = asyncio.run(_acquire(socket_of(config_path), body))
    if as_json:
        click.echo(json.dumps(lease, indent=2))
        return
    click.echo(printable(lease["id"]))
    held = f"{lease['udid']} is held by {lease['holder']} for {lease['ttl']:g} s unless renewed"
    echo_err(printable(held, LONG))


async def _acquire(path: Path, body: LeaseRequest) -> LeaseRow:
    async with AgentClient(path) as client:

        async def take(body: LeaseRequest, patience: float) -> LeaseRow:
            lease: LeaseRow = await client.ask("POST", "/v1/leases", body, patience=patience)
            return lease

        return await patiently(client, body, take)


@command.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole lease.")
@click.argument("lease_id", metavar="ID")
def renew(config_path: Path, lease_id: str, *, as_json: bool) -> None:
    """Let a lease last another TTL from now."""
    lease: LeaseRow = ask(config_path, "POST", f"/v1/leases/{quoted(lease_id)}/renew")
    click.echo(json.dumps(lease, indent=2) if as_json else f"lasts until {lease['expires']}")


@command.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole lease.")
@click.argument("lease_id", metavar="ID")
def release(config_path: Path, lease_id: str, *, as_json: bool) -> None:
    """End a lease."""
    lease: LeaseRow = ask(config_path, "DELETE", f"/v1/leases/{quoted(lease_id)}")
    click.echo(
        json.dumps(lease, indent=2) if as_json else printable(f"{lease['udid']} is released")
    )


@command.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def list_(config_path: Path, *, as_json: bool) -> None:
    """List the leases in force."""
    answer = ask(config_path, "GET", "/v1/leases")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    rows: list[LeaseRow] = answer["leases"]
    if not rows:
        click.echo("no leases")
        return
    now = time.time()
    several = len({row["host"] for row in rows}) > 1
    cells = [
        (
            row["id"],
            row["udid"],
            *((row["host"],) if several else ()),
            row["holder"],
            row["purpose"],
            since(row["since"], now),
            row["expires"],
            row["taken_from"],
        )
        for row in rows
    ]
    headings = [each for each in _HEADINGS if several or each != "HOST"]
    click.echo(columns(headings, cells, 0, [None] * len(cells)))
