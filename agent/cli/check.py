"""`device-agent check`: every mistake of a configuration file, before an agent sees it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import BAD_CONFIG, config_option, said_to_outsiders
from agent.cli.out import echo_err, lines, printable
from agent.config import check, format_problems
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.errors import Problem


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON.")
def command(file: Path | None, config_path: Path, as_json: bool) -> None:
    """Check FILE (or the --config one): all mistakes as `file:line:col: message`, exit code 2.

    Warnings (no TLS, secrets that others can read, a webhook that is never called …) come after
    them, marked as such, and leave the exit code 0; so does what a reload would do to the webhooks
    of the agent that runs with that file: cancel what waits, or move them to another organisation.
    """
    path = file or config_path
    config, problems, warnings = check(path)
    if config is None:
        problems = said_to_outsiders(ConfigError(problems), path).problems
    else:
        from agent.cli.foresee import foreseen  # noqa: PLC0415 - the client's libraries take 100 ms

        warnings += foreseen(config, path)
    if as_json:
        answer = {
            "ok": not problems,
            "problems": [_row(each, "error") for each in problems],
            "warnings": [_row(each, "warning") for each in warnings],
        }
        click.echo(json.dumps(answer, indent=2))
    else:
        for group, mark, colour in ((problems, "", "red"), (warnings, " (warning)", "yellow")):
            if group:
                _show([replace(each, message=each.message + mark) for each in group], colour)
        if config is not None:
            found = f"{len(config.webhooks)} webhooks, {len(config.devices)} devices"
            click.echo(printable(f"{path}: good: {found}"))
    sys.exit(BAD_CONFIG if problems else 0)


def _row(problem: Problem, severity: str) -> dict[str, Any]:
    return {
        "severity": severity,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
    }


def _show(problems: Sequence[Problem], colour: str) -> None:
    """On a terminal with the line and a caret below each."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: it does not know
        style = partial(click.style, fg=colour, bold=True)
        click.echo(format_problems(problems, _text_of, width, style), err=True)
    else:
        echo_err(lines(format_problems(problems)))


def _text_of(file: str) -> str:
    return Path(file).read_text(encoding="utf-8-sig", errors="replace")
