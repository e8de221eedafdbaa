"""Which webhooks a device's new state concerns. Pure.

Whether a transition calls back at all is `derive`'s table; this asks what one webhook wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import CALLING
from agent.udid import fits

if TYPE_CHECKING:
    from agent.config import Webhook
    from agent.model import Device, DeviceState


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
    return any(fits(glob, name) for glob in webhook.devices for name in names)
