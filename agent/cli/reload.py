"""`device-agent reload`: synchronous, and fails with what is wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import BAD_CONFIG, AgentClient, config_option, exit_bad_config
from agent.cli.common import socket_of as _socket_of
from agent.config import load
from agent.errors import ApiError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_option
def command(config_path: Path) -> None:
    """Let the running agent load its configuration anew.

    Returns when the new configuration is in force. A file that cannot be used changes nothing:
    every mistake is printed, exit code 2.
    """
    try:
        load(config_path)
    except ConfigError as error:
        exit_bad_config(error)

    async def work() -> object:
        async with AgentClient(_socket_of(config_path)) as client:
            return await client.ask("POST", "/v1/reload")

    try:
        result = asyncio.run(work())
    except ApiError as error:
        if error.code == "bad_config":
            click.echo(str(error), err=True)
            sys.exit(BAD_CONFIG)
        raise
    assert isinstance(result, dict)
    changed = ", ".join(result["changed"]) or "nothing"
    click.echo(f"reloaded: {changed} changed")
    for key in result["needs_restart"]:
        click.echo(f"{key} takes effect at the next start", err=True)
