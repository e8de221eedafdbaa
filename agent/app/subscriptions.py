"""Who hears of what: all of it here. What is a call instead, and why, stands in `subscribers`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.errors import StoreError
from agent.subscribers import Topic

if TYPE_CHECKING:
    from agent.app.lifecycle import Lifecycle
    from agent.app.parts import Parts

log = structlog.get_logger(__name__)


class Subscriptions:
    """The hands between the parts, each of which does one thing when it hears of another.

    Args:
        parts: of the agent.
        lifecycle: tells systemd.
    """

    def __init__(self, parts: Parts, lifecycle: Lifecycle) -> None:
        self._parts = parts
        self._lifecycle = lifecycle
        self._restored = 0
        """How often the store had been made anew when it was last given what memory knows."""

    def subscribe(self) -> None:
        """Hear of everything from now on."""
        parts = self._parts
        subscribe, publish = parts.subscribers.subscribe, parts.subscribers.publish
        events = parts.services.events
        subscribe(Topic.LEASE, parts.usage.lease_changed, parts.poller.nudge)
        subscribe(Topic.USAGE, parts.use)
        subscribe(Topic.DEVICE, events.changed, self._device)
        subscribe(Topic.BATTERY, events.changed)
        subscribe(Topic.TRANSITION, lambda _: events.stored())
        subscribe(Topic.SILENCE, lambda _: self._silences())
        subscribe(Topic.STORE, self._store)
        subscribe(Topic.SESSION, lambda _: parts.api.end_unlawful())
        subscribe(Topic.TASK, lambda _: self._lifecycle.status_soon())
        if (uplink := parts.uplink) is not None:
            subscribe(Topic.TRANSITION, lambda _: uplink.transition_stored())
            # Of a phone that comes and goes it hears once a turn, and tells once a second.
            for topic in (Topic.DEVICE, Topic.LEASE, Topic.SILENCE):
                subscribe(topic, lambda _: uplink.devices_changed())
            subscribe(Topic.BATTERY, lambda _: uplink.batteries_changed())
        subscribe(Topic.FLEET, lambda _: self._lifecycle.status_soon())
        publish(Topic.STORE)  # it may have been made anew since it was opened

    def _device(self, udid: str) -> None:
        self._lifecycle.status_soon()
        if self._parts.pipeline.roster.is_away(udid):
            self._parts.usage.away(udid)
        self._parts.poller.phones_changed()
        self._parts.leases.serve(udid)

    def _silences(self) -> None:
        self._parts.pipeline.silences_changed()
        self._parts.services.events.silences_changed()
        self._lifecycle.status_soon()

    def _store(self, _udid: str) -> None:
        made_anew = self._parts.store.made_anew
        if made_anew != self._restored:
            self._restored = made_anew
            self._parts.tasks.finish("restoring what memory knows", self._store_again)
        self._lifecycle.status_soon()

    async def _store_again(self) -> None:
        """Give a store that was made anew what memory knows; salvage may have missed some of it."""
        store = self._parts.store
        wanted = self._parts.ids.in_force()
        # All of it is queued here and now: a lease that is released while this waits must not be
        # put behind its deletion, and come back at the next start.
        self._parts.pipeline.store_again()
        self._parts.silences.store_again()
        leases = [store.leases.put(lease) for lease in self._parts.leases.all()]
        try:
            await asyncio.gather(store.webhooks.ids(wanted), *leases)
        except StoreError as error:
            log.error("store.not_restored", error=str(error))  # noqa: TRY400 - says it all
