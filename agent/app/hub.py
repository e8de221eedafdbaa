"""A hub's part of the wiring: the agents in place of sources, and which of several hubs sends."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.fleet.host import host_of
from agent.fleet.hub.active import ActiveHub
from agent.fleet.hub.build import Hub, build
from agent.fleet.hub.directory import Directory
from agent.fleet.hub.pipeline import Ears
from agent.fleet.hub.remote import Remote
from agent.fleet.link import LinkError
from agent.fleet.uplink import dial
from agent.service.fleet_leases import FleetLeaseDesk
from agent.service.fleet_silences import FleetSilenceDesk
from agent.subscribers import Topic
from agent.tasks import kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.app.hub_stored import HubStored
    from agent.clock import Clock
    from agent.config import Config
    from agent.deliver.dispatcher import Dispatcher
    from agent.deliver.outbox import Outbox
    from agent.model import DeviceRecord
    from agent.service.devices import Devices
    from agent.store import Store
    from agent.subscribers import Subscribers

LEAVE_LIMIT = 1.0
"""Seconds in which another hub is told that it may send, when this one stops."""


class HubSide:
    """What of a hub is not as with any other agent. Nothing of it runs before `begin`.

    Args:
        config: the one in force.
        records: the devices as stored.
        stored: what the store has of the fleet.
        store: keeps all of it.
        dispatcher: the one, once it is made; that asks `active`.
        outbox: which callbacks a transition makes.
        clock: of the process.
        subscribers: hear of what changes.
    """

    def __init__(
        self,
        config: Config,
        records: list[DeviceRecord],
        stored: HubStored,
        store: Store,
        dispatcher: Callable[[], Dispatcher],
        outbox: Outbox,
        clock: Clock,
        subscribers: Subscribers,
    ) -> None:
        self.active = ActiveHub(
            host_of(config.fleet),
            stored.epoch,
            store.directory,
            store.elsewhere,
            notify=lambda callbacks: dispatcher().notify(callbacks),
            settled=lambda lanes: dispatcher().settled(lanes),
            opened=lambda: dispatcher().opened(),
        )
        ears = Ears(
            notify=self.active.made,
            stored=lambda: subscribers.publish(Topic.TRANSITION),
            changed=subscribers.publisher(Topic.DEVICE),
            silenced=lambda: subscribers.publish(Topic.SILENCE),
        )
        self.hub: Hub = build(
            config,
            records,
            stored.rows,
            store,
            outbox,
            clock,
            ears,
            dial,
            self.active.may_send,
            self.active.serve,
        )
        self.pipeline = self.hub.pipeline
        self._clock = clock
        self._running: asyncio.Task[None] | None = None

    def desks(self, devices: Devices) -> Desks:
        """Where leases and silences are asked for: at the agents."""
        directory = Directory(self.pipeline)
        remote = Remote(lambda: self.hub.intake.link, directory)
        return Desks(
            FleetLeaseDesk(remote, directory, devices, self.pipeline.views, self._clock),
            FleetSilenceDesk(remote, directory, devices, self._clock),
        )

    def begin(self, tell: Callable[[str], None]) -> None:
        """Follow the fleet; `tell` hears why not, where the mistake is ours."""
        work = kept("fleet", self.hub.intake.run, tell)
        self._running = asyncio.create_task(work, name="fleet")

    async def heard(self) -> None:
        """Return once the hub hears itself."""
        await self.hub.intake.heard.wait()

    async def close(self) -> None:
        """The dispatcher has stopped: another hub may send, and this one leaves the broker."""
        with contextlib.suppress(TimeoutError, LinkError):
            async with asyncio.timeout(LEAVE_LIMIT):
                await self.active.leave(self.hub.intake.link)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=LEAVE_LIMIT)


@dataclass(frozen=True, slots=True)
class Desks:
    """See `agent.service.leases.LeasesServed` and `agent.service.silences.SilencesServed`."""

    leases: FleetLeaseDesk
    silences: FleetSilenceDesk
