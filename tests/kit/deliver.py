"""What the delivery tests share: webhooks, devices and callbacks."""

from __future__ import annotations

import itertools
import math
from typing import Any

from agent.config import Delivery, Webhook
from agent.model import (
    Callback,
    Device,
    DeviceRecord,
    DeviceState,
    Platform,
    Transition,
    Visibility,
)
from tests.kit.settings import section

NOW_MS = 1_700_000_000_123
ALL = ("online", "offline", "utilizing", "unplugged")


def make_webhook(url: str = "http://127.0.0.1:9/", number: int = 1, **more: Any) -> Webhook:
    """A valid webhook with that id."""
    return Webhook.model_validate(
        {"id": number, "name": f"hook {number}", "url": url, "events": ALL, **more}
    )


def settings(**keys: float) -> Delivery:
    """[delivery], with no limit to draining; times in seconds."""
    return section(Delivery, **{"drain_rate": math.inf, **keys})


def make_device(udid: str = "ce0917198075440c057e", **more: Any) -> Device:
    return Device(
        udid=udid,
        **{
            "platform": Platform.ANDROID,
            "name": "Galaxy Note 8",
            "visibility": Visibility.PRIVATE,
            **more,
        },
    )


def make_transition(state: DeviceState = DeviceState.ONLINE, **more: Any) -> Transition:
    return Transition(
        **{
            "udid": "ce0917198075440c057e",
            "previous": None,
            "state": state,
            "reason": "",
            "at_ms": NOW_MS,
            **more,
        }
    )


_numbers = itertools.count(1)


def make_callback(webhook_id: int = 1, udid: str = "phone", **more: Any) -> Callback:
    number = next(_numbers)
    return Callback(
        **{
            "message_id": f"msg_{number}",
            "webhook_id": webhook_id,
            "udid": udid,
            "created_ms": NOW_MS,
            "body": b'{"n":%d}' % number,
            "headers": (("Content-Type", "application/json"),),
            "state": DeviceState.ONLINE,
            **more,
        }
    )


def make_record(udid: str) -> DeviceRecord:
    return DeviceRecord(udid, Platform.ANDROID, DeviceState.ONLINE, NOW_MS)
