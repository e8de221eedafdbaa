"""Where an installation has its files (systemd/, packaging/): commands are not told by systemd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = Path("/etc/device-agent/agent.toml")
SOCKET = Path("/run/device-agent/control.sock")
STATE = Path("/var/lib/device-agent")
"""What the unit's StateDirectory= is."""


def environ_of(path: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that tell where the agent of that configuration file keeps its state."""
    if path.absolute() == CONFIG and not environ.get("STATE_DIRECTORY"):
        return {**environ, "STATE_DIRECTORY": str(STATE)}
    return environ
