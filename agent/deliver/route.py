"""Which webhooks a device's new state concerns. Pure.

Whether a transition calls back at all is `derive`'s table; this asks what one webhook wants.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from agent.model import Visibility

if TYPE_CHECKING:
    from agent.config import Webhook
    from agent.model import Device, DeviceState

CALLING: Final = frozenset({Visibility.PRIVATE, Visibility.LOCAL})
"""Devices that call back; `public` ones are only tracked and shown."""

_BRACKETS: Final = re.compile(r"(\[[^]]+\])")
_BLANKS: Final = re.compile(r"\s+|[^\w\s#+\-.:=@*?!\[\]]")


def wants(webhook: Webhook, device: Device, state: DeviceState) -> bool:
    """Whether the webhook is on, listens for this state, and has the device in its scope.

    Scope: `devices` (globs of UDIDs, case- and dash-insensitive), `tags` (any of them),
    `platforms`; every kind that is given must match. A device goes by its serial and its address
    on the network, too: the serial of twins means both.
    """
    return (
        webhook.enabled
        and state in webhook.events
        and device.visibility in CALLING
        and (not webhook.platforms or device.platform in webhook.platforms)
        and (not webhook.tags or not set(webhook.tags).isdisjoint(device.tags))
        and (not webhook.devices or _is_named(webhook, device))
    )


def _is_named(webhook: Webhook, device: Device) -> bool:
    names = (device.udid, *device.aliases)
    return any(matches(glob, name) for glob in webhook.devices for name in names)


def matches(glob: str, udid: str) -> bool:
    """Whether a UDID fits a glob (`*`, `?`, `[…]`), whatever the case and the dashes.

    Dashes count behind an `@`: there stands the port path of two phones with one serial.
    """
    glob, udid = glob.lower(), udid.lower()
    spelled = _BLANKS.sub("_", glob.strip())  # as udev spells a serial with blanks, `(`, `/` …
    return (
        fnmatchcase(udid, glob)
        or fnmatchcase(_dashless(udid), _dashless_glob(glob))
        or (spelled != glob and fnmatchcase(udid, spelled))
    )


def _dashless(udid: str) -> str:
    serial, at, port = udid.partition("@")
    return serial.replace("-", "") + at + port


def _dashless_glob(glob: str) -> str:
    serial, at, port = glob.partition("@")
    # Inside brackets a dash is a range.
    parts = _BRACKETS.split(serial)
    return "".join(p if p.startswith("[") else p.replace("-", "") for p in parts) + at + port
