"""`device-agent listen`: see callbacks arrive, without writing a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

import click

from agent.cli.out import LONG, echo_err, printable
from agent.cli.receiver import Received, Receiver


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify signatures with the secret in this file (or in $DEVICE_AGENT_SECRET).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def command(host: str, port: int, secret_file: Path | None, as_json: bool) -> None:
    """Receive callbacks, print and verify them, until Ctrl-C."""
    secret = os.environ.get("DEVICE_AGENT_SECRET", "")
    if secret_file is not None:
        secret = secret_file.read_text(encoding="utf-8").strip()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_listen(host, port, secret, as_json))


async def _listen(host: str, port: int, secret: str, as_json: bool) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(got: Received) -> None:
        try:
            click.echo(as_line(got) if as_json else as_text(got))
        except OSError as error:  # nobody reads on
            if not ended.done():
                ended.set_exception(error)

    receiver = Receiver(take, secret)
    url = await receiver.start(host, port)
    try:
        echo_err(f"listening at {url} (Ctrl-C ends)")
        await ended
    finally:
        await receiver.stop()


def as_line(got: Received) -> str:
    """One callback as one line of JSON."""
    return json.dumps(
        {
            "message_id": got.headers.get("webhook-id", ""),
            "timestamp": got.headers.get("webhook-timestamp", ""),
            "verified": got.verified,
            "body": got.content,
        }
    )


def as_text(got: Received) -> str:
    """One callback for people: a headline, then its body."""
    content = got.content
    if got.verified is None:
        seal = ""
    elif got.verified:
        seal = click.style("  signature good", fg="green")
    else:
        seal = click.style(f"  signature BAD: {printable(got.why_not)}", fg="red")
    headline = "POST " + got.path
    if isinstance(content, dict) and "deviceName" in content:
        headline = f"{content.get('eventDescription')}  {content['deviceName']}"
    body = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    message_id = got.headers.get("webhook-id", "")
    headline = click.style(printable(headline), bold=True)
    return f"{headline}{seal}\n  {printable(message_id)}\n  {printable(body, LONG)}"
