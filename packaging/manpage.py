"""Print device-agent(1) as man(7) source, made from the commands themselves so that it stays true.

usage: python packaging/manpage.py [SECONDS_SINCE_THE_EPOCH]
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime

import click

from agent import __version__
from agent.cli import command as program

_DESCRIPTION = """\
Watches the phones on this host through udev, ADB and usbmux, and tells other systems by webhook
when one goes online, offline, in use (utilizing) or unplugged. What it saw is stored before it is
sent, and delivered at least once, in order per phone, across crashes and restarts.

`device-agent run` is the daemon. The other commands ask the running one over its unix socket, or
work on the configuration file alone. Each takes `--config FILE` and finds the agent by that
file."""

_FILES = (
    ("/etc/device-agent/agent.toml", "The configuration. Readable by the group device-agent."),
    (
        "/usr/share/device-agent/agent.example.toml",
        "Every key of the configuration with its default and why.",
    ),
    (
        "/usr/share/device-agent/agent.schema.json",
        "Its JSON schema, for editors that know TOML schemas.",
    ),
    (
        "/var/lib/device-agent/webhooks.toml",
        "The webhooks made over the API. The agent writes it. Readable by its user alone.",
    ),
    (
        "/etc/device-agent/hub.toml",
        "That of a fleet's hub, device-agent-hub.service; its store: /var/lib/device-agent-hub.",
    ),
    (
        "/usr/share/device-agent/nats.conf",
        "For a fleet's broker, a NATS server; nats-cluster.conf: three.",
    ),
    ("/var/lib/device-agent", "The store (state.db, state.db-wal) and adb's keys."),
    ("/run/device-agent/control.sock", "The API. For root and the group device-agent."),
    ("/opt/device-agent", "The program with its libraries."),
)

_ENVIRONMENT = (
    ("DEVICE_AGENT_CONFIG", "The configuration file where no --config is given."),
    ("DEVICE_AGENT_SECRET", "The secret by which `device-agent listen` verifies signatures."),
    ("DEVICE_AGENT_UDID", "Set by `device-agent use` for its command: the phone it holds."),
    (
        "STATE_DIRECTORY, RUNTIME_DIRECTORY",
        "Where the store and the socket are; systemd sets them.",
    ),
    ("CREDENTIALS_DIRECTORY", "Where secrets given as { credential = … } are; systemd sets it."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC", "Readiness, status and watchdog; systemd sets them."),
    ("HTTP_PROXY, HTTPS_PROXY, NO_PROXY", "Proxies of webhooks that name none."),
    ("HOME", "Where an adb server that the agent starts keeps its keys."),
    ("NO_COLOR", "Set: no colours in the log on a terminal."),
)

_EXITS = (
    ("0", "It was done; `run`: it was stopped."),
    ("1", "It failed; standard error says what, to what, and what to do."),
    ("2", "The configuration or the command line cannot be used; every mistake is listed."),
)

_SIGNALS = (
    ("SIGTERM, SIGINT", "Stop: what is under way is finished or kept for the next start."),
    ("SIGHUP", "Load the configuration anew. A file with mistakes changes nothing."),
)

_EXAMPLES = (
    ("sudo systemctl reload device-agent", "Take a changed file; fails with its mistakes."),
    ("device-agent devices --state offline", "Which phones are offline, and why."),
    ("sudo device-agent doctor", "What does not work here, and what to do."),
    ("device-agent use UDID -- pytest tests/", "Hold a phone while the tests run."),
    ("device-agent deliveries list", "What was sent, what waits, what died, and why."),
)


def page(date: datetime) -> str:
    """The whole page; one paragraph or macro a line."""
    context = click.Context(program, info_name="device-agent", **program.context_settings)
    lines = [
        f'.TH DEVICE\\-AGENT 1 "{date:%Y-%m-%d}" "device\\-agent {__version__}" "User Commands"',
        ".SH NAME",
        f"device\\-agent \\- {_text(_first_sentence(program.help).rstrip('.').lower())}",
        ".SH SYNOPSIS",
        ".B device\\-agent",
        ".RI [ OPTIONS ]",
        ".I COMMAND",
        ".RI [ ARGUMENTS ]",
        ".SH DESCRIPTION",
        *_paragraphs(_DESCRIPTION),
        ".SH OPTIONS",
        *_options(program, context),
        ".SH COMMANDS",
    ]
    for name, command, inner in _commands(program, context):
        pieces = " ".join(command.collect_usage_pieces(inner))
        lines += [
            f'.SS "device\\-agent {_text(name)} {_text(pieces)}"',
            *_paragraphs(command.help or ""),
            *_options(command, inner),
        ]
    for title, rows in (
        ("FILES", _FILES),
        ("ENVIRONMENT", _ENVIRONMENT),
        ("EXIT STATUS", _EXITS),
        ("SIGNALS", _SIGNALS),
        ("EXAMPLES", _EXAMPLES),
    ):
        lines.append(f".SH {title}")
        if title == "EXIT STATUS":
            lines.append(
                _text(
                    "`device-agent use` ends with its command's, `device-agent doctor` with 0 (all "
                    "is well), 1 (warnings) or 2 (failures). All others:"
                )
            )
        if title == "SIGNALS":
            lines.append(_text("Of `device-agent run`:"))
        for term, text in rows:
            lines += _item(term, text)
    lines += [
        ".SH SEE ALSO",
        ".BR systemctl (1),",
        ".BR journalctl (1),",
        ".BR adb (1),",
        ".BR usbmuxd (8),",
        ".BR udev (7)",
    ]
    return "\n".join(lines) + "\n"


def _commands(
    group: click.Group, context: click.Context, prefix: str = ""
) -> list[tuple[str, click.Command, click.Context]]:
    """Every command that does something, groups unfolded, in the order of the help."""
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context, **command.context_settings)
        full = f"{prefix}{name}"
        if isinstance(command, click.Group):
            found += _commands(command, inner, f"{full} ")
        else:
            found.append((full, command, inner))
    return found


def _options(command: click.Command, context: click.Context) -> list[str]:
    """Its parameters that have a help of their own; --help, which all have, only at the top."""
    lines = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if (
            record is not None
            and record[1]
            and (command is program or "--help" not in parameter.opts)
        ):
            lines += _item(*record)
    return lines


def _item(term: str, text: str) -> list[str]:
    return [".TP", f".B {_text(term)}", _text(text)]


def _paragraphs(text: str) -> list[str]:
    """The first without .PP, which a heading already is."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "").strip()):
        lines += [".PP"] if lines else []
        lines += [_text(paragraph)]
    return lines


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n", maxsplit=1)[0].split())


def _text(text: str) -> str:
    """As man(7) source: `code` in bold, every hyphen one that can be copied."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    text = text.replace("…", "...").replace("'", "\\(aq")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    return "\\&" + text if text.startswith(".") else text


def main() -> None:
    """The page on standard output."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    date = datetime.fromtimestamp(seconds, UTC) if seconds else datetime.now(UTC)
    sys.stdout.write(page(date))


if __name__ == "__main__":
    main()
