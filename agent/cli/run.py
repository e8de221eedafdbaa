"""`device-agent run`: the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import click
import structlog

from agent import log
from agent.app import App
from agent.cli.common import config_option, load_or_exit
from agent.config import check, load

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config

SWITCH_INTERVAL = 0.0005
"""Seconds."""

logger = structlog.get_logger(__name__)


@click.command()
@config_option
def command(config_path: Path) -> None:
    """Run the agent in the foreground until SIGTERM or Ctrl-C.

    SIGHUP (or `device-agent reload`) loads the configuration anew. Exit codes: 0 stopped, 1 could
    not start, 2 the configuration cannot be used.
    """
    config_path = config_path.absolute()
    config = load_or_exit(config_path)
    log.configure(config.agent.log_level, config.agent.log_format, sys.stderr, os.environ)
    warn(config_path)

    def reload() -> Config:
        new = load(config_path)
        warn(config_path)
        return new

    # The writer's thread needs the interpreter for an instant after each fsync; at the default of
    # 5 ms a busy loop makes it wait ten times as long as the disk (measured in benchmarks/).
    sys.setswitchinterval(SWITCH_INTERVAL)

    async def work() -> None:
        await App(reload, config).run()

    asyncio.run(work())


def warn(path: Path) -> None:
    """Say in the log what `check` warns of: no TLS, no verification, loose permissions."""
    for warning in check(path)[2]:
        logger.warning("config.warning", place=str(warning), hint="see `device-agent check`")
