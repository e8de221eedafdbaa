"""The world that an agent is started in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.config.file import ConfigFile
    from agent.model import SourceName
    from agent.sources.supervisor import SourcePlans


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where configurations come from, and what the agent was started with."""

    load: Callable[[], Config]
    """Reads the configuration anew; called in a thread; raises ConfigError."""
    file: ConfigFile | None
    """What it reads, where that is a file."""
    plans: Callable[[Config, Iterable[SourceName], Path], SourcePlans]
    """How to make the sources of a configuration."""
    environ: Mapping[str, str]
    started_with: Config

    @property
    def state_dir(self) -> Path:
        """Of the configuration that it was started with."""
        return self.started_with.state_dir(self.environ)
