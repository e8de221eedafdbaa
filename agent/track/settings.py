"""What a configuration says of tracking: times, what is on, what runs on another host."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.model import Platform, SourceName
from agent.track.derive import Policy

if TYPE_CHECKING:
    from agent.config import Config


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


def sources_of(config: Config) -> list[SourceName]:
    """The sources a configuration turns on."""
    return [
        name
        for name, on in (
            (SourceName.UDEV, config.usb.enabled),
            (SourceName.ADB, config.android.enabled),
            (SourceName.USBMUX, config.ios.enabled),
        )
        if on
    ]


def platforms_of(config: Config) -> frozenset[Platform]:
    """The platforms a configuration turns on."""
    on = {Platform.ANDROID: config.android.enabled, Platform.IOS: config.ios.enabled}
    return frozenset(platform for platform, enabled in on.items() if enabled)


def networks_of(config: Config) -> frozenset[SourceName]:
    """The sources whose phones on the network are wanted."""
    wanted = {
        SourceName.ADB: config.android.network_devices,
        SourceName.USBMUX: config.ios.network_devices,
    }
    return frozenset(source for source, on in wanted.items() if on)


def remote_bridges(config: Config) -> frozenset[SourceName]:
    """The bridges whose servers run on other hosts, where this host's udev cannot see.

    This host's usbmuxd listens at a path. Whatever answers at HOST:PORT is a tunnel's end, or in a
    container, be it this host's own address.
    """
    local = {
        SourceName.ADB: adb_is_local(config),
        SourceName.USBMUX: "/" in config.ios.usbmuxd or ":" not in config.ios.usbmuxd,
    }
    return frozenset(source for source, here in local.items() if not here)


def adb_is_local(config: Config) -> bool:
    """Whether the adb server runs on this host, so that its USB phones are udev's too."""
    return _is_here(config.android.adb_server)


def _is_here(server: str) -> bool:
    """Whether `HOST:PORT`, or the path of a socket, is on this host.

    A forwarded port looks as if it was: what answers there is believed all the same, see
    `Identities`.
    """
    host, colon, _ = server.rpartition(":")
    if "/" in server or not colon:
        return True
    host = host.strip("[]").casefold()
    if host in {"", "localhost", "ip6-localhost", socket.gethostname().casefold()}:
        return True
    return host.endswith((".localhost", ".localdomain")) or _is_own_address(host)


def _is_own_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False  # a name: nobody is asked for its address
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # only an address of this host's own can be bound
    except OSError:
        return False
    return True
