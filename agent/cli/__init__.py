"""The one command, `device-agent`. Each subcommand lives in its own module, loaded when called."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from agent import __version__
from agent.cli import out
from agent.cli.group import group_config_option
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from click.shell_completion import CompletionItem

_COMMANDS = {
    "run": ("agent.cli.run", "Run the agent in the foreground (what the systemd unit does)."),
    "check": ("agent.cli.check", "Check a configuration file: every mistake, with its place."),
    "devices": ("agent.cli.devices", "Show the devices and their states."),
    "history": ("agent.cli.history", "Show what one device went through, and when."),
    "report": ("agent.cli.report", "Show how available, used and broken the devices were."),
    "hosts": ("agent.cli.hosts", "Show the hosts that a hub follows."),
    "webhooks": ("agent.cli.webhooks", "List, create, edit, delete and test webhooks."),
    "deliveries": ("agent.cli.deliveries", "List, show and replay stored callbacks."),
    "use": ("agent.cli.use", "Hold a device while a command runs."),
    "lease": ("agent.cli.lease", "Acquire, renew, release and list leases."),
    "silence": ("agent.cli.silence", "Keep callbacks back for a time: add, list and end silences."),
    "doctor": ("agent.cli.doctor", "Check everything around the agent, and say what to do."),
    "ui": ("agent.cli.ui", "Open the page in a browser, with the right to change things."),
    "reload": ("agent.cli.reload", "Let the running agent load its configuration anew."),
    "listen": ("agent.cli.listen", "Receive callbacks here, print and verify them."),
    "demo": ("agent.cli.demo", "Show simulated phones becoming callbacks; needs no phone."),
    "schema": ("agent.cli.schema", "Print the JSON schema of the configuration file."),
}
"""Name → module (with a click command called `command`) and its line in the help."""


class _Lazy(click.Group):
    """Loads a subcommand's module only when it is called: `devices` must not load a web server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = _loaded(_COMMANDS[cmd_name][0]).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names from the table: TAB must not load every command, for three times as long."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only TAB needs it

        names = [
            CompletionItem(name, help=line)
            for name, (_, line) in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


def _loaded(name: str) -> ModuleType:
    """The module. What modules make stays: nobody looks for garbage in it, now or later.

    Looking took a sixth of the agent's start.
    """
    if name not in sys.modules and gc.isenabled():
        gc.disable()
        try:
            return importlib.import_module(name)
        finally:
            gc.freeze()
            gc.enable()
    return importlib.import_module(name)


@click.group(
    cls=_Lazy,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "color": False if os.environ.get("NO_COLOR") else None,  # https://no-color.org
    },
)
@click.version_option(__version__, prog_name="device-agent")
@group_config_option
def command() -> None:
    """Tells other systems when a lab phone goes online, offline, in use or unplugged."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an operator's error is one line (or one per mistake), exit 1."""
    out.prepare()
    try:
        command.main(arguments, prog_name="device-agent", standalone_mode=True)
    except ConfigError as error:
        out.echo_err(out.lines(f"device-agent: {error}"))
        sys.exit(1)
    except AgentError as error:
        out.say(error)
        sys.exit(1)
    except OSError as error:
        # A pipe whose reader left is click's. A full disk is no bug either.
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        out.say(f"cannot write: {error.strerror}")
        sys.exit(1)
