"""What the delivery tests share: webhooks, devices, callbacks and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_MS = 1_700_000_000_123
ALL = ("online", "offline", "utilizing", "unplugged")


def make_webhook(url: str = "http://127.0.0.1:9/", number: int = 1, **more: Any) -> Webhook:
    """A valid webhook with that id."""
    return Webhook.model_validate(
        {"id": number, "name": f"hook {number}", "url": url, "events": ALL, **more}
    )


def settings(**keys: float) -> Delivery:
    """[delivery], with no limit to draining; times in seconds."""
    return Delivery().model_copy(update={"drain_rate": math.inf, **keys})


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


class _Timer:
    def __init__(self, due: float, call: Callable[[], object]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self) -> None:
        if not self.cancelled:
            self.call()


class Clock:
    """Wall clock and timers that move only when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._heap: list[tuple[float, int, _Timer]] = []
        self._count = itertools.count()

    def now_ms(self) -> int:
        return NOW_MS + round(self.seconds * 1000)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> _Timer:
        timer = _Timer(self.seconds + delay, lambda: callback(*args))
        if delay <= 0:
            asyncio.get_running_loop().call_soon(timer.fire)
            return timer
        heapq.heappush(self._heap, (timer.due, next(self._count), timer))
        return timer

    @property
    def armed(self) -> list[float]:
        """Seconds from now until each timer that is still set."""
        return sorted(t.due - self.seconds for _, _, t in self._heap if not t.cancelled)

    def advance(self, seconds: float) -> None:
        """Move, and fire what is due."""
        end = self.seconds + seconds
        while self._heap and self._heap[0][0] <= end:
            due, _, timer = heapq.heappop(self._heap)
            self.seconds = due
            timer.fire()
        self.seconds = end
