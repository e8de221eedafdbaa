"""`device-agent doctor`: one page of what is well and what is not, and what to do."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import config_option, socket_for, whereabouts
from agent.cli.out import echo_err, say
from agent.config import Config, check
from agent.config.document import read
from agent.doctor import bundle as support
from agent.doctor.finding import EXIT_CODES, Verdict, worst
from agent.doctor.gather.everything import gather
from agent.doctor.judge import judge
from agent.doctor.report import as_json, header, page
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from agent.doctor.facts import Facts

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
WIDEST = 120
"""Columns: longer lines are hard to read."""


@click.command()
@config_option
@click.option("--json", "is_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a support bundle (.tar.gz) without secrets.",
)
def command(config_path: Path, is_json: bool, bundle: Path | None) -> None:
    """Check everything around the agent, and say what to do.

    Asks the running agent; where none runs, looks from outside. Sends no callback and changes
    nothing. Exit codes: 0 all is well, 1 warnings, 2 failures. Takes 10 s at most.

    The bundle holds the page, versions, the configuration without secrets, devices, webhooks, the
    last callbacks, metrics and the unit's journal.
    """
    checked = check(config_path)
    config = checked[0]
    socket = socket_for(config or _whereabouts(config_path), config_path)

    async def work() -> tuple[Facts, str]:
        log = support.journal(config or Config()) if bundle is not None else asyncio.sleep(0, "")
        return await asyncio.gather(gather(config_path, checked, socket), log)

    facts, log = asyncio.run(work())
    findings = judge(facts)
    if is_json:
        click.echo(json.dumps(as_json(findings, agent_runs=facts.agent.runs), indent=2))
    else:
        width = min(WIDEST, shutil.get_terminal_size((100, 24)).columns)
        click.echo(page(header(facts), findings, width, _paint))
    if bundle is not None:
        try:
            support.write(bundle, facts, findings, config, log, os.environ)
        except AgentError as error:
            say(error)
            sys.exit(EXIT_CODES[Verdict.FAIL])
        echo_err(f"support bundle: {bundle}: look through it before you hand it on")
    sys.exit(EXIT_CODES[worst(findings)])


def _whereabouts(path: Path) -> Config:
    """Of a file with mistakes what says where the agent is: it may run with an older one."""
    try:
        return whereabouts(read(path), path.parent)
    except ConfigError:
        return Config()


def _paint(verdict: Verdict | None, text: str) -> str:
    if verdict is None:
        return click.style(text, bold=True)
    return click.style(text, fg=_COLOURS[verdict], bold=verdict is not Verdict.OK or None)
