"""`device-agent schema`: what editors complete and check the configuration file with."""

from __future__ import annotations

import json

import click

from agent.config import json_schema


@click.command()
def command() -> None:
    """Print the JSON schema of the configuration file."""
    click.echo(json.dumps(json_schema(), indent=2))
