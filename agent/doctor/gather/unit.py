"""What systemd says of the unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor.facts import UnitFacts
from agent.doctor.gather.limit import output_of

if TYPE_CHECKING:
    from agent.config import Config

LIMIT = 3.0
"""Seconds; it answers in milliseconds unless systemd is in trouble."""
BOOTED = Path("/run/systemd/system")
"""Is there where systemd runs the machine (sd_booted(3))."""
_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "MainPID", "NRestarts",
    "ActiveEnterTimestamp", "WatchdogUSec", "User", "UnitFileState", "NeedDaemonReload",
)  # fmt: skip


def unit_of(config: Config) -> str:
    """Which one runs what has this configuration."""
    return "device-agent-hub" if config.fleet.role == "hub" else "device-agent"


async def ask_systemd(unit: str, command: str = "systemctl", booted: Path = BOOTED) -> UnitFacts:
    """Its properties; raises nothing."""
    if not booted.is_dir():
        return UnitFacts(booted=False, name=unit)
    try:
        code, out = await output_of(
            command, "show", unit, f"--property={','.join(_PROPERTIES)}", "--no-pager", limit=LIMIT
        )
    except TimeoutError:
        return UnitFacts(
            booted=True, error=f"systemctl did not answer within {LIMIT:g} s", name=unit
        )
    except OSError as error:
        return UnitFacts(booted=True, error=f"systemctl cannot be run: {error.strerror}", name=unit)
    if code:
        return UnitFacts(booted=True, error=f"systemctl failed: {out.strip()[:200]}", name=unit)
    pairs = (line.partition("=") for line in out.splitlines())
    return UnitFacts(booted=True, properties={key: value for key, _, value in pairs}, name=unit)
