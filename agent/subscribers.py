"""Who hears that something has changed: one list for the whole agent, and nobody inside a call.

Who changes something publishes only *what* may be different now: a topic, and the device that it is
about. Who hears of it looks up how things stand where they are kept. So nothing that is told can be
out of date, and what waits to be told is bounded by what there is, not by how often it changes.

- News are delivered in the loop's next turn, never within `publish`; what a subscriber publishes
  comes in the turn after. A delivery of more than `SLICE` goes on in the next turn.
- They come in the order of publishing, of all topics. What is published again before it was
  delivered is delivered once, in its first place.
- Subscribers of a topic hear of it in the order in which they subscribed. One that raises is
  logged, and keeps no other from hearing of it.

What may not wait for a turn is no news but a call: a reading and the store's record of what comes
of it (the store has the order of what was seen), and another name for a device (between two turns
somebody would be given a device by a name that nothing has any more).
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    Subscriber = Callable[[str], None]
    """Called with the device's UDID, "" where the news is of none."""

log = structlog.get_logger(__name__)

SLICE = 0.02
"""Seconds of delivering in one turn of the loop: an Appium server that goes down is news of each
phone of a rack."""


class Topic(StrEnum):
    """What may be different now."""

    LEASE = "lease"
    """Who holds a device: `Leases.reading`."""
    USAGE = "usage"
    """Who uses it, by all that is known: `CurrentUsage.reading`."""
    DEVICE = "device"
    """What operators see of it, its end included: `Pipeline.view`."""
    BATTERY = "battery"
    """Nothing of it but its battery."""
    TRANSITION = "transition"
    """Transitions are stored that were not, or under another UDID."""
    SILENCE = "silence"
    """Which silences there are: `Silences.all`; of no device."""
    STORE = "store"
    """How the store does: `Store.health`."""
    FLEET = "fleet"
    """What is wrong with this agent's place in its fleet: `Uplink.status`."""
    SESSION = "session"
    """Which browsers may change things: `Sessions`."""
    TASK = "task"
    """Which background work fails: `Tasks.problems`."""


class Subscribers:
    """The list. All methods run on the event loop's thread."""

    def __init__(self) -> None:
        self._subscribers: dict[Topic, list[Subscriber]] = {topic: [] for topic in Topic}
        self._pending: dict[tuple[Topic, str], None] = {}
        """In the order of publishing."""
        self._delivery: asyncio.Handle | None = None

    def subscribe(self, topic: Topic, *subscribers: Subscriber) -> None:
        """Tell these of that topic from now on."""
        self._subscribers[topic].extend(subscribers)

    def publish(self, topic: Topic, udid: str = "") -> None:
        """Something of that topic may have changed; told in the loop's next turn."""
        if not self._subscribers[topic]:
            return
        self._pending.setdefault((topic, udid))
        if self._delivery is None:
            self._delivery = asyncio.get_running_loop().call_soon(self._deliver)

    def publisher(self, topic: Topic) -> Subscriber:
        """`publish` for who knows of one topic alone."""
        return partial(self.publish, topic)

    def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + SLICE
        pending, self._pending = self._pending, {}
        try:
            while pending:
                topic, udid = news = next(iter(pending))
                del pending[news]
                for subscriber in self._subscribers[topic]:
                    self._tell(subscriber, topic, udid)
                if loop.time() >= end:
                    break
        finally:
            # What came meanwhile comes behind what is left.
            self._pending = pending | self._pending
            self._delivery = loop.call_soon(self._deliver) if self._pending else None

    def _tell(self, subscriber: Subscriber, topic: Topic, udid: str) -> None:
        try:
            subscriber(udid)
        except Exception:
            with contextlib.suppress(Exception):  # a log that cannot be written
                log.exception(
                    "subscriber.failed", topic=str(topic), udid=udid, subscriber=repr(subscriber)
                )
