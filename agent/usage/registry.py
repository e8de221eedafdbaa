"""The kinds of usage sources, a row each, and those that a configuration asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.usage import plugins
from agent.usage.appium import AppiumSource
from agent.usage.grid import GridSource
from agent.usage.polled_source import UsagePlan
from agent.usage.uiautomator2 import Uiautomator2Source
from agent.usage.wda import WdaSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.config import Config, UsageSection, UsageServer
    from agent.usage.base import UsageSource
    from agent.usage.poller import UsagePlans

    Find = Callable[[str], str | None]
    """The UDID of the device that some tool calls so; None: none of ours, or more than one."""
    Servers = tuple[UsageServer, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source that is the agent's own."""

    name: str
    """Of the source, and of its key in `[usage]`."""
    plan: Callable[[Config, Find, Clock], UsagePlan | None]
    """How to make it by a configuration; None: that turns it off."""


def _asks_servers(
    name: str,
    make: Callable[[Servers, Clock], UsageSource],
    servers_of: Callable[[UsageSection], Servers],
) -> Kind:
    """One that asks the servers of its key; with none there it is off."""

    def plan(config: Config, _find: Find, clock: Clock) -> UsagePlan | None:
        servers = servers_of(config.usage)
        return UsagePlan(servers, partial(make, servers, clock)) if servers else None

    return Kind(name, plan)


def _wda(config: Config, _find: Find, _clock: Clock) -> UsagePlan | None:
    if not (config.usage.wda and config.ios.enabled):
        return None
    usbmuxd, ports = config.ios.usbmuxd, config.usage.wda_ports
    return UsagePlan((usbmuxd, ports), partial(WdaSource, usbmuxd, ports))


def _uiautomator2(config: Config, find: Find, _clock: Clock) -> UsagePlan | None:
    if not (config.usage.uiautomator2 and config.android.enabled):
        return None
    server = config.android.adb_server
    return UsagePlan(server, partial(Uiautomator2Source, server, find))


KINDS = (
    _asks_servers("appium", lambda servers, _: AppiumSource(servers), lambda usage: usage.appium),
    _asks_servers("grid", GridSource, lambda usage: usage.grid),
    Kind("wda", _wda),
    Kind("uiautomator2", _uiautomator2),
)
"""Strongest first: how exactly each knows who uses a phone."""
STRENGTH = ("lease", *(kind.name for kind in KINDS))
"""All that is the agent's own; a lease is stronger than any."""


def plans_of(config: Config, find: Find, clock: Clock) -> UsagePlans:
    """The sources that are turned on. One whose settings are the same is not made anew."""
    plans: UsagePlans = {}
    if config.is_hub:  # its agents say who uses their phones
        return plans
    for kind in KINDS:
        plan = kind.plan(config, find, clock)
        if plan is not None:
            plans[kind.name] = plan
    for name, options in config.usage.plugins:
        plans[name] = UsagePlan(dict(options), partial(plugins.make, name, options, STRENGTH))
    return plans
