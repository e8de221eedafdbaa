"""The agent's way to its fleet: one connection after the other.

The fleet never holds up the agent: whatever the broker does, states are derived and webhooks are
called here. What the hub does not have waits in the store, and only its acknowledgement ends that.
While [fleet] names no servers, or this is the hub, nothing of it is loaded.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from agent.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.model import Fleet
    from agent.fleet.connections import Connections
    from agent.fleet.link import Dial, Link
    from agent.fleet.own import Own
    from agent.fleet.standing import FleetStatus, Standing


def is_on(fleet: Fleet) -> bool:
    """Whether this is an agent of a fleet."""
    return bool(fleet.servers) and fleet.role == "agent"


async def dial(fleet: Fleet, last: str = "") -> Link:
    """See `Dial`. Over NATS; what that needs is loaded with the first call."""
    nats = await asyncio.to_thread(import_module, "agent.fleet.nats_link")
    link: Link = await nats.dial(fleet, last)
    return link


class Uplink:
    """Keeps an agent connected to its fleet. All methods run on the event loop's thread.

    Args:
        fleet: the section in force.
        own: what to tell, and whom commands go to.
        changed: called when `status` says of another problem than before.
        dial: connects.
    """

    def __init__(
        self, fleet: Fleet, own: Own, changed: Callable[[], None], dial: Dial = dial
    ) -> None:
        self._fleet = fleet
        self._own = own
        self._changed = changed
        self._dial = dial
        self._instance = secrets.token_hex(8)
        self._reconfigured = asyncio.Event()
        self._connections: Connections | None = None
        """None: there are none, or not yet."""
        self._standing = self._begin()

    @property
    def status(self) -> FleetStatus | None:
        """How it stands; None: this agent is in no fleet."""
        return None if self._standing is None else self._standing.status

    def reconfigure(self, fleet: Fleet) -> None:
        """These are in force now; where they mean another connection, that is begun."""
        keys = ("servers", "host", "credentials", "tls", "role")
        before, self._fleet = self._fleet, fleet
        if any(getattr(before, key) != getattr(fleet, key) for key in keys):
            self._standing = self._begin()
            self._reconfigured.set()
            self._changed()
        self.devices_changed()  # their names and tags stand in the same file

    def transition_stored(self) -> None:
        """The log has grown."""
        if self._connections is not None:
            self._connections.log_grew()

    def devices_changed(self) -> None:
        """Devices, leases or silences may be others than the last snapshot says."""
        if self._connections is not None:
            self._connections.devices_changed()

    def batteries_changed(self) -> None:
        """Likewise, by nothing but their batteries: that can wait a while."""
        if self._connections is not None:
            self._connections.batteries_changed()

    async def run(self) -> None:
        """Stay connected; for `Tasks.keep`. Cancelled, it sends what is under way, within a second.

        Whatever comes of it, what the hub does not have is in the store.
        """
        while True:
            self._reconfigured.clear()
            standing = self._standing
            if standing is None:
                await self._leave()
                await self._reconfigured.wait()
                continue
            await asyncio.to_thread(import_module, "agent.fleet.connections")
            from agent.fleet.connections import Connections  # noqa: PLC0415 - loaded just now

            if self._reconfigured.is_set():
                continue
            self._connections = Connections(
                self._fleet, self._own, standing, self._instance, self._dial
            )
            follow = asyncio.ensure_future(self._connections.run())
            again = asyncio.ensure_future(self._reconfigured.wait())
            try:
                await asyncio.wait({follow, again}, return_when=asyncio.FIRST_COMPLETED)
                if follow.done():
                    follow.result()
            finally:
                again.cancel()
                follow.cancel()
                await asyncio.wait({follow})  # each of its steps is bounded
                self._connections = None

    # --- inside ----------------------------------------------------------------------------

    def _begin(self) -> Standing | None:
        """Of a fleet that this agent was in before nothing is shown any more."""
        if not is_on(self._fleet):
            return None
        from agent.fleet.host import host_of  # noqa: PLC0415 - a host without a fleet loads neither
        from agent.fleet.standing import Standing  # noqa: PLC0415 - as above

        return Standing(host_of(self._fleet), self._own.clock, self._changed)

    async def _leave(self) -> None:
        with suppress(StoreError):  # rows are kept a little longer
            if (await self._own.log.state()).acked is not None:
                await self._own.log.leave()
