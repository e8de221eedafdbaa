"""`device-agent reload`: synchronous, and fails with what is wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import BAD_CONFIG, ask, config_option
from agent.cli.out import echo_err, lines, printable
from agent.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.reload import Reloaded, ReloadRow


@click.command()
@config_option
def command(config_path: Path) -> None:
    """Let the running agent load its configuration anew.

    Returns when the new configuration is in force. A file that cannot be used changes nothing:
    every mistake is printed, exit code 2.
    """
    try:
        result: Reloaded = ask(config_path, "POST", "/v1/reload")
    except ApiError as error:
        if error.code == "bad_config":
            echo_err(lines(str(error)))
            sys.exit(BAD_CONFIG)
        raise
    changed = ", ".join(result["changed"]) or "nothing"
    click.echo(printable(f"reloaded: {changed} changed"))
    for key in result["needs_restart"]:
        echo_err(printable(f"{key} takes effect at the next start"))


def say_refused_reload(config_path: Path) -> None:
    """On stderr, where the running agent refused the file when it was last to load it."""
    last: ReloadRow = ask(config_path, "GET", "/v1/status")["reload"]
    if last["ok"]:
        return
    echo_err(
        click.style(f"the last reload was refused at {last['at']}", fg="red")
        + " and what was in force stays:"
    )
    echo_err(lines(last["error"]))
