"""`device-agent run`: the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

import click
import structlog

from agent import log
from agent.app import App
from agent.cli.common import config_option, exit_bad_config
from agent.config.file import ConfigFile
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config
    from agent.errors import Problem
    from agent.service.doctor import FindingRow

logger = structlog.get_logger(__name__)


@click.command()
@config_option
def command(config_path: Path) -> None:
    """Run the agent in the foreground until SIGTERM or Ctrl-C.

    SIGHUP (or `device-agent reload`) loads the configuration anew. Exit codes: 0 stopped, 1 could
    not start, 2 the configuration cannot be used.
    """
    file = ConfigFile(config_path.absolute(), os.environ)
    try:
        config, warnings = file.load()
    except ConfigError as error:
        exit_bad_config(error)
    log.configure(config.agent.log_level, config.agent.log_format, sys.stderr, os.environ)
    logging.captureWarnings(
        capture=True
    )  # else they are written to stderr, and wait for its reader
    _say(warnings)

    def reload() -> Config:
        new, warnings = file.load()
        _say(warnings)
        return new

    def examine(in_force: Config) -> list[FindingRow]:
        # Few agents are ever asked for it, and each part of the doctor costs memory.
        from agent.doctor.examine import examine as look  # noqa: PLC0415

        return look(file.path, os.environ, in_force)

    async def work() -> None:
        await App(reload, config, file=file, examine=examine).run()

    asyncio.run(work())


def _say(warnings: tuple[Problem, ...]) -> None:
    """No TLS, no verification, loose permissions: at every start and reload."""
    for warning in warnings:
        logger.warning("config.warning", place=str(warning), hint="see `device-agent check`")
