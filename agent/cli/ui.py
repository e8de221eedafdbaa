"""`device-agent ui`: a link that opens the page, with what lets it change things."""

from __future__ import annotations

import json
import os
import webbrowser
from typing import TYPE_CHECKING

import click

from agent.cli.common import ask, config_option
from agent.cli.out import echo_err, printable
from agent.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.api.sessions import CodeRow


@click.command()
@config_option
@click.option("--no-open", is_flag=True, help="Print the link, and open no browser.")
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
def command(config_path: Path, no_open: bool, as_json: bool) -> None:
    """Open the agent's page in a browser, with the right to change things.

    Prints a link that works once, for a minute; on a desktop a browser opens it. Whoever may use
    the agent's socket may do this. The session that begins ends after 12 hours without use, when
    somebody logs out, and with the agent.
    """
    row: CodeRow = ask(config_path, "POST", "/v1/sessions/code")
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    url = row["url"]
    if url is None:
        raise AgentError(
            "the page is served over TCP, which is off: set [api] listen, as in "
            'listen = "127.0.0.1:9178", then device-agent reload'
        )
    click.echo(printable(url))
    echo_err(f"works once, within {row['expires_in']:.0f} s")
    if row["exposed"]:
        echo_err(
            "without TLS: whoever can read this network can take the session over; set [api] cert "
            "and key, or come through ssh -L"
        )
    if not no_open and _has_desktop():
        webbrowser.open(url)


def _has_desktop() -> bool:
    """Whether a browser can show itself to who asks; never one that runs as root."""
    wanted = any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
    return wanted and os.geteuid() != 0
