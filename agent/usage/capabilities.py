"""Which device a WebDriver session is on, by its capabilities (W3C WebDriver, vendor prefixes)."""

from __future__ import annotations

from typing import Any

KEYS = ("udid", "appium:udid", "deviceUDID", "appium:deviceUDID")
"""In this order; Appium's drivers set the first ones, some clouds and wrappers the last."""
_NESTED = ("appium:options", "desired", "capabilities", "alwaysMatch")
"""Where some clients and servers put all of them."""


def device_of(capabilities: Any) -> str:
    """The id of the device, "" if they name none."""
    if not isinstance(capabilities, dict):
        return ""
    for key in KEYS:
        value = capabilities.get(key)
        if isinstance(value, str) and value:
            return value
    for key in _NESTED:
        if found := device_of(capabilities.get(key)):
            return found
    return ""


def short(session_id: object) -> str:
    """As much of a session's id as tells it from others."""
    return str(session_id)[:8]
