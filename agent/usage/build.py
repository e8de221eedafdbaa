"""Which usage sources a configuration asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.usage import plugins
from agent.usage.appium import AppiumSource
from agent.usage.grid import GridSource
from agent.usage.poller import Plan, Plans
from agent.usage.uiautomator2 import Uiautomator2Source
from agent.usage.wda import WdaSource

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from agent.config import Config


@dataclass(frozen=True, slots=True)
class Bridges:
    """What usage sources need of adb and usbmux, made by whoever knows these."""

    connect_iphone: Callable[
        [str, str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    ]
    """(usbmuxd's address, DeviceID, port): see `wda.WdaSource`."""
    adb_forwards: Callable[[str], Awaitable[Iterable[tuple[str, str, str]]]]
    """(adb server's address): see `uiautomator2.Uiautomator2Source`."""
    adb_host: Callable[[str], str]
    """(adb server's address): the host that it runs on."""
    find: Callable[[str], str | None] = str
    """The UDID of the device that some tool calls so; None: none of ours, or more than one."""


def plans_of(config: Config, bridges: Bridges) -> Plans:
    """The sources that are turned on. One whose settings are the same is not made anew."""
    usage, android, ios = config.usage, config.android, config.ios
    plans: Plans = {}
    if usage.appium:
        plans["appium"] = Plan(usage.appium, partial(AppiumSource, usage.appium))
    if usage.grid:
        plans["grid"] = Plan(usage.grid, partial(GridSource, usage.grid))
    if usage.wda and ios.enabled:
        connect = partial(bridges.connect_iphone, ios.usbmuxd)
        plans["wda"] = Plan(
            (ios.usbmuxd, usage.wda_ports), partial(WdaSource, connect, usage.wda_ports)
        )
    if usage.uiautomator2 and android.enabled:
        server = android.adb_server
        plans["uiautomator2"] = Plan(
            server,
            lambda: Uiautomator2Source(
                partial(bridges.adb_forwards, server), bridges.adb_host(server), bridges.find
            ),
        )
    for name, options in usage.plugins:
        plans[name] = Plan(dict(options), partial(plugins.make, name, options))
    return plans
