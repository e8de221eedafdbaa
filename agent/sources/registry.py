"""The device sources: a row for each, from which everything else about them follows.

A new one is its module, a row here, a section of the configuration and a judge of the doctor's;
its name, and the platform that it is the bridge of, are words of `agent.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent.model import BRIDGE_OF, Platform, SourceName
from agent.sources.adb import AdbSource
from agent.sources.supervisor import SourcePlan
from agent.sources.udev import UdevSource
from agent.sources.usbmux import UsbmuxSource
from agent.wire.peer import is_on_this_host
from agent.wire.usbmux import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from agent.config import Android, Config, Ios, Usb
    from agent.sources.base import DeviceSource
    from agent.sources.supervisor import SourcePlans

Section = TypeVar("Section")
_PLATFORM_OF = {bridge: platform for platform, bridge in BRIDGE_OF.items()}


@dataclass(frozen=True, slots=True)
class Row(Generic[Section]):
    """One kind of source, by the section of the configuration that turns it on."""

    name: SourceName
    section: Callable[[Config], Section]
    """Equal ones need no other source."""
    make: Callable[[Section, Path], DeviceSource]
    """From the section and the state directory; raises AgentError."""
    network: Callable[[Section], bool] = lambda _: False
    """Whether phones on the network are wanted of it."""
    here: Callable[[Section], bool] = lambda _: True
    """Whether what it asks runs on this host, so that its USB phones are udev's too."""
    rests: bool = False
    """What it asks runs only while there are phones for it: its absence is no problem else."""

    @property
    def platform(self) -> Platform | None:
        """Whose bridge it is; None: it sees all of them."""
        return _PLATFORM_OF.get(self.name)


_UDEV: Row[Usb] = Row(SourceName.UDEV, lambda config: config.usb, lambda _usb, _dir: UdevSource())
_ADB: Row[Android] = Row(
    SourceName.ADB,
    lambda config: config.android,
    AdbSource,
    network=lambda android: android.network_devices,
    here=lambda android: is_on_this_host(android.adb_server),
)
_USBMUX: Row[Ios] = Row(
    SourceName.USBMUX,
    lambda config: config.ios,
    lambda ios, state_dir: UsbmuxSource(ios, state_dir / "pairing"),
    network=lambda ios: ios.network_devices,
    # This host's usbmuxd listens at a path. Whatever answers at HOST:PORT is a tunnel's end, or in
    # a container, be it this host's own address.
    here=lambda ios: is_local(ios.usbmuxd),
    rests=True,
)
ROWS: tuple[Row[Any], ...] = (_UDEV, _ADB, _USBMUX)
"""In the order in which they are started."""


def row_of(name: SourceName) -> Row[Any]:
    """That source's."""
    return next(row for row in ROWS if row.name is name)


def sources_of(config: Config) -> list[SourceName]:
    """The sources a configuration turns on."""
    return [row.name for row in _on(config)]


def platforms_of(config: Config) -> frozenset[Platform]:
    """The platforms a configuration turns on."""
    return frozenset(row.platform for row in _on(config) if row.platform is not None)


def networks_of(config: Config) -> frozenset[SourceName]:
    """The sources whose phones on the network are wanted."""
    return frozenset(row.name for row in ROWS if row.network(row.section(config)))


def remote_bridges(config: Config) -> frozenset[SourceName]:
    """The bridges whose servers run on other hosts, where this host's udev cannot see."""
    return frozenset(row.name for row in ROWS if not row.here(row.section(config)))


def plans_of(config: Config, names: Iterable[SourceName], state_dir: Path) -> SourcePlans:
    """The plans of these sources; adb's keys and pair records live in the state directory."""
    plans: SourcePlans = {}
    for row in map(row_of, names):
        section = row.section(config)
        plans[row.name] = SourcePlan(section, partial(row.make, section, state_dir))
    return plans


def _on(config: Config) -> Iterable[Row[Any]]:
    if config.is_hub:
        return ()
    return (row for row in ROWS if row.section(config).enabled)
