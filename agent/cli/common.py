"""What several commands share: which file, which agent, how to ask it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

import click
import tomli

from agent.cli.group import META
from agent.cli.out import echo_err, lines, printable
from agent.config import Config, load, load_both
from agent.config.document import read
from agent.config.installed import CONFIG, SOCKET
from agent.errors import ConfigError, Problem
from agent.model import Platform
from agent.users import group_name
from agent.wire.control import ControlSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.documents import Documents

_Command = TypeVar("_Command", bound="Callable[..., Any]")

CHECKOUT = Path("config/agent.toml")
GROUP = "device-agent"
"""Who may read the installed file, and use the socket."""
REQUEST_LIMIT = 30.0
PLATFORM = click.Choice([each.value for each in Platform])
"""Seconds to wait for the running agent's answer."""
BAD_CONFIG = 2
"""Exit code of a configuration that cannot be used."""


def default_config() -> Path:
    """What a group before the command was given, else $DEVICE_AGENT_CONFIG, else a known place."""
    context = click.get_current_context(silent=True)
    if context is not None and META in context.meta:
        return Path(context.meta[META])
    if named := os.environ.get("DEVICE_AGENT_CONFIG"):
        return Path(named)
    return CONFIG if _is_there(CONFIG) else CHECKOUT


def _is_there(path: Path) -> bool:
    """Also where we may not look: who is in no group that may read it is told so by the loader."""
    try:
        return path.exists()
    except PermissionError:
        return True


def config_option(function: _Command) -> _Command:
    """`--config FILE`, as every command has it."""
    return click.option(
        "--config",
        "-c",
        "config_path",
        type=click.Path(path_type=Path),
        default=default_config,
        show_default="$DEVICE_AGENT_CONFIG, /etc/device-agent/agent.toml or config/agent.toml",
        help="The configuration file.",
    )(function)


def load_or_exit(path: Path) -> tuple[Documents, Config]:
    """What the files say; every mistake on stderr and exit 2 when they cannot be used."""
    try:
        return load_both(path)
    except ConfigError as error:
        exit_bad_config(said_to_outsiders(error, path))


def said_to_outsiders(error: ConfigError, path: Path) -> ConfigError:
    """The error; where this user may not read the file, with what to do about that."""
    try:
        path.open("rb").close()
    except PermissionError as denied:
        reason = f"cannot be read ({denied.strerror}): {join_group(path)}"
        return ConfigError([Problem(str(path), 1, 1, reason)])
    except OSError:
        pass
    return error


def join_group(path: Path) -> str:
    """What somebody has to do who may not use that file or socket of the agent's."""
    for each in (path, *path.parents):
        try:
            gid = each.stat().st_gid
        except OSError:  # in a directory that is not ours to look into
            continue
        break
    else:
        gid = 0
    group = (group_name(gid) if gid else "") or GROUP
    return (
        f"use sudo, or join the group {group} "
        f"(sudo usermod --append --groups {group} USER, then log in anew)"
    )


def exit_bad_config(error: ConfigError) -> NoReturn:
    """Every mistake, a line each, and exit 2."""
    echo_err(lines(str(error)))
    sys.exit(BAD_CONFIG)


def socket_of(config_path: Path) -> Path:
    """Where the agent of that configuration listens.

    The daemon may have been given $RUNTIME_DIRECTORY by systemd, which this process was not: the
    installed socket is looked for too, and first of all for the installed file.
    """
    return socket_for(_load_leniently(config_path), config_path)


def socket_for(config: Config, config_path: Path) -> Path:
    """See `socket_of`."""
    path = config.socket_path(os.environ)
    if config.api.socket is not None or not _is_there(SOCKET):
        return path
    # A relative one is in the directory that this command happens to be called in.
    is_ours = config_path.absolute() != CONFIG and os.access(path, os.F_OK)
    return path if is_ours else SOCKET


def _load_leniently(path: Path) -> Config:
    """The configuration; of one that cannot be used what says where its agent is.

    An agent that refused the file runs with what it had, and must be reachable now of all times.
    Every mistake and exit 2 where none runs.
    """
    try:
        return load(path)
    except ConfigError as error:
        try:
            config = whereabouts(read(path), path.parent)
        except ConfigError:  # missing, or not ours to read
            exit_bad_config(said_to_outsiders(error, path))
        if not _is_there(socket_for(config, path)):
            exit_bad_config(error)
        count = len(error.problems)
        mistakes = "a mistake" if count == 1 else f"{count} mistakes"
        echo_err(printable(f"{path} has {mistakes}: see 'device-agent check'"))
        return config


def whereabouts(text: str, base: Path) -> Config:
    """[agent] state_dir and [api] socket, where they can be read; defaults for all else."""
    lines = text.splitlines()
    document: dict[str, Any] = {}
    while lines:
        try:
            document = tomli.loads("\n".join(lines))
            break
        except tomli.TOMLDecodeError as error:
            lines = lines[: min(error.lineno, len(lines)) - 1]  # what stands above the mistake
        except (RecursionError, ValueError):
            break
    said = {}
    for table, key in (("agent", "state_dir"), ("api", "socket")):
        section = document.get(table)
        value = section.get(key) if isinstance(section, dict) else None
        if isinstance(value, str):
            said[table] = {key: value}
    try:
        return Config.model_validate(said, context={"base": base})
    except ValueError:
        return Config()


def may_ask(config_path: Path) -> bool:
    """Whether this user may use the agent's socket, or there is none."""
    path = socket_of(config_path)
    return not _is_there(path) or os.access(path, os.W_OK)


def quoted(text: str) -> str:
    """A part of a path. What the command line gave that is no text goes as the bytes it was."""
    return quote(text, safe="", errors="surrogateescape")


class AgentClient(ControlSocket):
    """Asks the running agent, and says what to do where none answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, REQUEST_LIMIT, _unreachable)


def _unreachable(path: Path, error: Exception | None) -> str:
    if error is None:
        return f"the agent at {path} ended the connection"
    if isinstance(error, PermissionError) or "ermission" in str(error):
        return f"not allowed to use the agent's socket {path}: {join_group(path)}"
    if not _is_there(path):
        return (
            f"no agent runs with this configuration (no socket {path}): start it with "
            "'device-agent run' or 'systemctl start device-agent'"
        )
    return f"the agent at {path} does not answer ({error or type(error).__name__})"


def ask(
    config_path: Path,
    method: str,
    path: str,
    body: Any = None,
    query: dict[str, str] | None = None,
    *,
    patience: float = 0.0,
) -> Any:
    """One question to the running agent of that configuration; see `ControlSocket.ask`."""

    async def work() -> Any:
        async with AgentClient(socket_of(config_path)) as client:
            return await client.ask(method, path, body, query, patience=patience)

    return asyncio.run(work())
