"""The support bundle: what somebody else needs to see, without a secret, in one file."""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
import time
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.doctor.gather.limit import output_of
from agent.doctor.gather.unit import unit_of
from agent.doctor.judges.usb import topology
from agent.doctor.redact import private_texts, shown, without
from agent.doctor.report import as_json, header, page
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.config import Config
    from agent.doctor.facts import Facts
    from agent.doctor.finding import Finding

JOURNAL_LINES = 1000
JOURNAL_LIMIT = 5.0
"""Seconds to read them."""
_PACKAGES = (
    "adbutils", "aiohttp", "click", "nats-py", "prometheus-client", "pydantic", "pymobiledevice3",
    "pyudev", "standardwebhooks", "structlog",
)  # fmt: skip


async def journal(config: Config) -> str:
    """Its unit's last lines; why not, where they cannot be read."""
    try:
        _, out = await output_of(
            "journalctl",
            f"--unit={unit_of(config)}",
            f"--lines={JOURNAL_LINES}",
            "--no-pager",
            "--output=short-iso",
            limit=JOURNAL_LIMIT,
        )
    except TimeoutError:
        return f"journalctl did not end within {JOURNAL_LIMIT:g} s\n"
    except OSError as error:
        return f"journalctl cannot be run: {error.strerror}\n"
    return out


def write(
    path: Path,
    facts: Facts,
    findings: Sequence[Finding],
    config: Config | None,
    log: str,
    environ: Mapping[str, str],
) -> None:
    """Write the bundle, readable to its owner alone. Blocking.

    Raises:
        AgentError: the file exists already, or cannot be written; nothing is left of it.
    """
    private = private_texts(config, environ) if config is not None else []
    texts = {
        name: without(text, private) for name, text in _texts(facts, findings, config, log).items()
    }
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise AgentError(f"{path} exists already: give another name, or remove it") from None
    except OSError as error:
        raise AgentError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            _pack(file, facts.host.name, texts)
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise AgentError(f"{path} cannot be written: {error.strerror}") from None
        raise


def _pack(file: Any, host: str, texts: Mapping[str, str]) -> None:
    now = int(time.time())
    folder = f"device-agent-{host}-{time.strftime('%Y%m%d-%H%M%S')}"
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in texts.items():
            data = text.encode(errors="backslashreplace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), now, 0o600
            archive.addfile(entry, io.BytesIO(data))


def _texts(
    facts: Facts, findings: Sequence[Finding], config: Config | None, log: str
) -> dict[str, str]:
    agent = facts.agent
    texts = {
        "doctor.txt": page(header(facts), findings) + "\n",
        "doctor.json": _json(as_json(findings, agent_runs=agent.runs)),
        "system.txt": _system(facts),
        "usb.txt": topology(facts.usb.devices or ()),
        "adb.json": rows_of(facts.adb.raw),
        "usbmuxd.json": rows_of(facts.usbmux.raw),
        "udev.txt": "\n".join(each.dump for each in facts.usb.devices or () if each.kind),
        "journal.txt": log,
    }
    if config is not None:
        texts["config.json"] = _json(shown(config))
    if agent.runs:
        texts |= {
            "status.json": _json(agent.status),
            "devices.json": _json(agent.devices),
            "webhooks.json": _json(agent.webhooks),
            "deliveries.json": _json(agent.deliveries),
            "metrics.txt": agent.metrics,
        }
    return texts


def _json(value: object) -> str:
    # As it is: a secret that JSON would escape is looked for in both forms, but read in one.
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def rows_of(raw: object) -> str:
    """What a bridge's server said, as it came: what the tests' fakes of that server replay."""
    return _json(_plain(raw))


def _plain(value: Any) -> Any:
    """A property list's value as JSON has them; bytes as hex digits, times as text."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _system(facts: Facts) -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    except OSError:
        name = "?"
    packages = []
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            packages.append(f"{package} {metadata.version(package)}")
    lines = {
        "agent": f"{__version__} (running: {facts.agent.status.get('version', 'none')})",
        "host": facts.host.name,
        "system": name,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "SQLite": facts.store.sqlite,
        "packages": ", ".join(packages),
        "adb": f"{facts.adb.client_release or '?'} ({facts.adb.client or 'none'})",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "agent's user": facts.user.name,
        "unit": " ".join(f"{key}={value}" for key, value in facts.unit.properties.items()),
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())
