"""Files of a configuration, as the tests of `agent.config` change and read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.change import Target
from agent.config.file import ConfigFile

if TYPE_CHECKING:
    from pathlib import Path


def own(path: Path) -> Target:
    """The operator's file; the agent's own is beside it, if there is one."""
    return Target.own(path, {"STATE_DIRECTORY": str(path.parent)})


def files(path: Path) -> ConfigFile:
    """Likewise, to be read."""
    return ConfigFile(path, {"STATE_DIRECTORY": str(path.parent)})
