"""`device-agent silence`: callbacks kept back for a time."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import PLATFORM, ask, config_option, quoted
from agent.cli.device_rows import since
from agent.cli.group import group_config_option
from agent.cli.holding import Seconds
from agent.cli.out import LONG, echo_err, printable
from agent.cli.table import columns
from agent.text import elapsed
from agent.wire.control import typed

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.silences import SilenceRow

_HEADINGS = ("ID", "WHAT", "DEVICES", "SINCE", "LEFT", "ENDS", "BY", "REASON")


@click.group()
@group_config_option
def command() -> None:
    """Silence devices for a time: they call nobody back.

    They are followed, stored and shown as ever. At the end of the silence each device whose state
    is another one than before calls back once, with that change.
    """


class Moment(click.ParamType[datetime]):
    """A time of day, or a date and a time; this host's time where it names no zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """With its zone; a time of day is the next one."""
        if isinstance(value, datetime):
            return value
        now = datetime.now().astimezone()
        try:
            of_day = datetime.strptime(value, "%H:%M").time()  # noqa: DTZ007 - the host's zone
        except ValueError:
            pass
        else:
            moment = datetime.combine(now.date(), of_day)
            if moment.astimezone() <= now:
                moment += timedelta(days=1)
            return moment.astimezone()
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither like 18:00 nor like 2026-01-31T18:00", param, ctx)


@command.command()
@config_option
@click.option("--device", metavar="UDID", help="One device.")
@click.option("--tag", help="The devices that bear a tag.")
@click.option("--platform", type=PLATFORM, help="The devices of a platform.")
@click.option(
    "--hub",
    metavar="PORT",
    help="What hangs on a hub or port: 1-4.2, usb1; of a fleet, HOST/1-4.2.",
)
@click.option("--all", "all_", is_flag=True, help="Every device.")
@click.option("--for", "lasts", type=Seconds(), help="How long: 30m, 8h, 2d.")
@click.option("--until", type=Moment(), help="Its end: 18:00, 2026-01-31T18:00.")
@click.option("--reason", required=True, help="For those who miss a callback.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole silence.")
def add(
    config_path: Path,
    *,
    device: str | None,
    tag: str | None,
    platform: str | None,
    hub: str | None,
    all_: bool,
    lasts: float | None,
    until: datetime | None,
    reason: str,
    as_json: bool,
) -> None:
    """Silence devices; prints the silence's id.

    What is plugged in meanwhile is silenced, too, where it fits. Of several silences of a device
    the last one ends it.
    """
    named = {"device": device, "tag": tag, "platform": platform, "hub": hub, "all": all_ or None}
    given = {key: value for key, value in named.items() if value is not None}
    if len(given) != 1:
        raise click.UsageError("name one of --device, --tag, --platform, --hub and --all")
    if (lasts is None) == (until is None):
        raise click.UsageError("say how long: either --for or --until")
    body: dict[str, Any] = {
        key: typed(value) if isinstance(value, str) else value for key, value in given.items()
    }
    body["reason"] = typed(reason)
    if until is not None:
        body["ends"] = until.isoformat()
    else:
        body["seconds"] = lasts
    row: SilenceRow = ask(config_path, "POST", "/v1/silences", body)
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    click.echo(printable(row["id"]))
    echo_err(printable(f"{_covers(row)} silenced until {row['ends']}: {row['reason']}", LONG))


@command.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole silence.")
@click.argument("silence_id", metavar="ID")
def end(config_path: Path, silence_id: str, *, as_json: bool) -> None:
    """End a silence before its time: what it kept back is called back now."""
    row: SilenceRow = ask(config_path, "DELETE", f"/v1/silences/{quoted(silence_id)}")
    click.echo(json.dumps(row, indent=2) if as_json else printable(f"{row['id']} has ended"))


@command.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def list_(config_path: Path, *, as_json: bool) -> None:
    """List the silences in force."""
    answer = ask(config_path, "GET", "/v1/silences")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    rows: list[SilenceRow] = answer["silences"]
    if not rows:
        click.echo("no silences")
        return
    now = time.time()
    cells = [
        (
            row["id"],
            " ".join(filter(None, (row["kind"], row["value"]))),
            str(row["devices"]),
            since(row["since"], now),
            elapsed(datetime.fromisoformat(row["ends"]).timestamp() - now),
            row["ends"],
            row["by"],
            row["reason"],
        )
        for row in rows
    ]
    click.echo(columns(_HEADINGS, cells, 0, [None] * len(cells)))


def _covers(row: SilenceRow) -> str:
    count = row["devices"]
    return f"{count} device{' is' if count == 1 else 's are'}"
