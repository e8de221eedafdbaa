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
            policy_of(config),
            tuple(sources_of(config)),
            platforms_of(config),
            networks_of(config),
            remote_bridges(config),
        )


def policy_of(config: Config) -> Policy:
    """The hold and grace times of a configuration."""
    return Policy(
        hold_online=config.hold.online,
        hold_offline=config.hold.offline,
        hold_utilizing=config.hold.utilizing,
        hold_unplugged=config.hold.unplugged,
        arrival=config.hold.arrival,
        source_grace=config.hold.source_grace,
        usage_grace=config.hold.usage_grace,
        flap_transitions=config.flap.transitions,
        flap_window=config.flap.window,
        flap_hold=config.flap.hold,
    )
