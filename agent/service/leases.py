"""Leases as operators ask for them: by whatever names a device, answered as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypedDict

from agent.clock import timestamp
from agent.model import DeviceState, Platform
from agent.service.rows import Time
from agent.track.battery import is_tired
from agent.usage.lease_queue import Candidate, Wish

if TYPE_CHECKING:
    from agent.model import Lease
    from agent.service.devices import Devices
    from agent.track.tracker import Tracker
    from agent.track.views import DeviceView
    from agent.usage.leases import Leases


class LeaseRow(TypedDict):
    """One lease."""

    id: str
    udid: str
    platform: Platform | None
    holder: str
    purpose: str
    since: Time
    ttl: float
    """Seconds after the last renewal."""
    expires: Time
    taken_from: str
    """Whose it was, and why it was taken; empty: it was free."""
    host: str
    """Of the agent that gave it."""


class LeasesServed(Protocol):
    """Leases as the API asks for them: `LeaseDesk`, or a hub's `FleetLeaseDesk`."""

    def rows(self) -> list[LeaseRow]:
        """The leases in force, oldest first."""

    def of(self, udid: str) -> LeaseRow | None:
        """The lease in force on that device, by its exact UDID."""

    async def acquire(
        self,
        device: str | None,
        holder: str,
        purpose: str,
        ttl: float,
        *,
        platform: Platform | None = None,
        tags: tuple[str, ...] = (),
        wait: float = 0.0,
        steal: str = "",
        caller: str = "",
    ) -> LeaseRow:
        """Give a lease on a device, by whatever names it; None: on whichever fits."""

    async def renew(self, lease_id: str) -> LeaseRow:
        """Let a lease last another TTL."""

    async def release(self, lease_id: str, why: str = ..., caller: str = ...) -> LeaseRow:
        """End a lease."""

    def tie(self, lease_id: str) -> LeaseRow:
        """Let it last until `untie`."""

    async def untie(self, lease_id: str, *, stopping: bool) -> None:
        """End it, unless it ended already, or it is the agent that stops."""

    async def ended(self, lease_id: str, limit: float) -> str | None:
        """Why it ended, within `limit` seconds; None: it is still in force."""


class LeaseDesk:
    """Finds the device meant and hands on. Methods raise LeaseError and its kinds."""

    def __init__(self, leases: Leases, devices: Devices) -> None:
        self._leases = leases
        self._devices = devices

    def rows(self) -> list[LeaseRow]:
        """The leases in force, oldest first."""
        return [self._row(lease) for lease in self._leases.all()]

    def of(self, udid: str) -> LeaseRow | None:
        """The lease in force on that device, by its exact UDID."""
        lease = self._leases.of(udid)
        return None if lease is None else self._row(lease)

    async def acquire(
        self,
        device: str | None,
        holder: str,
        purpose: str,
        ttl: float,
        *,
        platform: Platform | None = None,
        tags: tuple[str, ...] = (),
        wait: float = 0.0,
        steal: str = "",
        caller: str = "",
    ) -> LeaseRow:
        """Give a lease on a device, by whatever names it.

        None: on whichever is of that platform and bears those tags, is online and was used longest
        ago. See `Leases.acquire` for the rest, and for what else is raised.

        Raises:
            UnknownDeviceError: no device is meant; the message names the nearest.
        """
        if device is None:
            wish = Wish(platform=platform, tags=tags)
        else:
            wish = Wish(self._devices.udid(device))
        lease = await self._leases.acquire(
            wish, holder, purpose, ttl, wait=wait, steal=steal, caller=caller
        )
        return self._row(lease)

    async def renew(self, lease_id: str) -> LeaseRow:
        """Let a lease last another TTL."""
        return self._row(await self._leases.renew(lease_id))

    async def release(
        self, lease_id: str, why: str = "it was released", caller: str = ""
    ) -> LeaseRow:
        """End a lease."""
        return self._row(await self._leases.release(lease_id, why, caller))

    def tie(self, lease_id: str) -> LeaseRow:
        """Let it last until `untie`."""
        return self._row(self._leases.tie(lease_id))

    async def untie(self, lease_id: str, *, stopping: bool) -> None:
        """End it, unless it ended already, or it is the agent that stops."""
        await self._leases.untie(lease_id, stopping=stopping)

    def _row(self, lease: Lease) -> LeaseRow:
        return {
            "id": lease.id,
            "udid": lease.udid,
            "platform": self._devices.platform(lease.udid),
            "holder": lease.holder,
            "purpose": lease.purpose,
            "since": timestamp(lease.acquired_ms),
            "ttl": lease.ttl,
            "expires": timestamp(lease.expires_ms),
            "taken_from": lease.taken,
            "host": self._devices.host,
        }

    async def ended(self, lease_id: str, limit: float) -> str | None:
        """Why it ended, within `limit` seconds; None: it is still in force."""
        return await self._leases.ended(lease_id, limit)


def candidates(pipeline: Tracker) -> list[Candidate]:
    """All devices, as leases choose among them."""
    return [_candidate(view) for view in pipeline.views.all()]


def candidate(pipeline: Tracker, udid: str) -> Candidate | None:
    """One of them; None: there is no such device, or it is not shown."""
    view = pipeline.views.one(udid)
    return None if view is None else _candidate(view)


def _candidate(view: DeviceView) -> Candidate:
    # One that comes and goes is no phone to begin a test on.
    online = view.state is DeviceState.ONLINE and not view.flapping
    return Candidate(
        view.udid, view.platform, view.tags, online=online, tired=is_tired(view.battery)
    )
