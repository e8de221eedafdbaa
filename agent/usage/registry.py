"""Which usage sources a configuration asks for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.usage import plugins
from agent.usage.appium import AppiumSource
from agent.usage.grid import GridSource
from agent.usage.poller import Plan, Plans
from agent.usage.uiautomator2 import Uiautomator2Source
from agent.usage.wda import WdaSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Config


def plans_of(config: Config, find: Callable[[str], str | None]) -> Plans:
    """The sources that are turned on. One whose settings are the same is not made anew.

    Args:
        config: which, and what each needs.
        find: the UDID of the device that some tool calls so; None: none of ours, or more than one.
    """
    usage, android, ios = config.usage, config.android, config.ios
    plans: Plans = {}
    if usage.appium:
        plans["appium"] = Plan(usage.appium, partial(AppiumSource, usage.appium))
    if usage.grid:
        plans["grid"] = Plan(usage.grid, partial(GridSource, usage.grid))
    if usage.wda and ios.enabled:
        plans["wda"] = Plan(
            (ios.usbmuxd, usage.wda_ports), partial(WdaSource, ios.usbmuxd, usage.wda_ports)
        )
    if usage.uiautomator2 and android.enabled:
        plans["uiautomator2"] = Plan(
            android.adb_server, partial(Uiautomator2Source, android.adb_server, find)
        )
    for name, options in usage.plugins:
        plans[name] = Plan(dict(options), partial(plugins.make, name, options))
    return plans
