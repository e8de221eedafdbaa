"""What a group of commands takes; nothing of the agent is loaded for it, nor for its help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_Command = TypeVar("_Command", bound="Callable[..., Any]")

META = "agent.cli.config"
"""Where click's context keeps it."""


def group_config_option(function: _Command) -> _Command:
    """`--config FILE` before the command's name: it counts for the command behind it."""

    def keep(context: click.Context, _: click.Parameter, value: Path | None) -> None:
        if value is not None:
            context.meta[META] = value

    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=keep,
        help="The configuration file.",
    )(function)
