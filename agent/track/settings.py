"""What a configuration says of tracking: times, what is on, what runs on another host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.sources.registry import networks_of, platforms_of, remote_bridges, sources_of
from agent.track.derive import Policy

if TYPE_CHECKING:
    from agent.config import Config
    from agent.model import Platform, SourceName


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it, for one configuration."""

    policy: Policy
    sources: tuple[SourceName, ...]
    """Those that are on."""
    platforms: frozenset[Platform]
    """Those that are on."""
    network: frozenset[SourceName]
    """The sources whose phones on the network are wanted."""
    remote: frozenset[SourceName]
    """The bridges whose servers run on other hosts, where this host's udev cannot see."""

    @classmethod
    def of(cls, config: Config) -> Settings:
        """What that configuration says."""
        return cls(
            Policy(config.hold, config.flap),
            tuple(sources_of(config)),
            platforms_of(config),
            networks_of(config),
            remote_bridges(config),
        )
