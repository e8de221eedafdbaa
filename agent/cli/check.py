"""`device-agent check`: every mistake of a configuration file, before an agent sees it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from agent.cli.common import BAD_CONFIG, config_option
from agent.config import check, format_problems


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON.")
def command(file: Path | None, config_path: Path, as_json: bool) -> None:
    """Check FILE (or the --config one): all mistakes as `file:line:col: message`, exit code 2."""
    path = file or config_path
    config, problems, warnings = check(path)
    if as_json:
        rows = [
            {
                "severity": severity,
                "file": p.file,
                "line": p.line,
                "column": p.column,
                "message": p.message,
            }
            for severity, group in (("error", problems), ("warning", warnings))
            for p in group
        ]
        click.echo(json.dumps({"ok": not problems, "problems": rows}, indent=2))
    else:
        if problems:
            # On a terminal with the line and a caret below each.
            text_of = _text_of if sys.stderr.isatty() else None
            click.echo(format_problems(problems, text_of), err=True)
        for warning in warnings:
            click.echo(f"{warning} (warning)", err=True)
        if config is not None:
            click.echo(
                f"{path}: good: {len(config.webhooks)} webhooks, {len(config.devices)} devices"
            )
    sys.exit(BAD_CONFIG if problems else 0)


def _text_of(file: str) -> str:
    return Path(file).read_text(encoding="utf-8", errors="replace")
