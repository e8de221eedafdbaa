"""What systemd says of the unit."""

from __future__ import annotations

from pathlib import Path

from agent.doctor.facts import UnitFacts
from agent.doctor.gather.limit import output_of

UNIT = "device-agent.service"
LIMIT = 3.0
"""Seconds; it answers in milliseconds unless systemd is in trouble."""
BOOTED = Path("/run/systemd/system")
"""Is there where systemd runs the machine (sd_booted(3))."""
_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "MainPID", "NRestarts",
    "ActiveEnterTimestamp", "WatchdogUSec", "User", "UnitFileState", "NeedDaemonReload",
)  # fmt: skip


async def ask_systemd(command: str = "systemctl", booted: Path = BOOTED) -> UnitFacts:
    """The unit's properties; raises nothing."""
    if not booted.is_dir():
        return UnitFacts(booted=False)
    try:
        code, out = await output_of(
            command, "show", UNIT, f"--property={','.join(_PROPERTIES)}", "--no-pager", limit=LIMIT
        )
    except TimeoutError:
        return UnitFacts(booted=True, error=f"systemctl did not answer within {LIMIT:g} s")
    except OSError as error:
        return UnitFacts(booted=True, error=f"systemctl cannot be run: {error.strerror}")
    if code:
        return UnitFacts(booted=True, error=f"systemctl failed: {out.strip()[:200]}")
    pairs = (line.partition("=") for line in out.splitlines())
    return UnitFacts(booted=True, properties={key: value for key, _, value in pairs})
