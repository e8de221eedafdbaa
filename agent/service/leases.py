"""Leases as operators ask for them: by whatever names a device, answered as JSON rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.service.rows import iso

if TYPE_CHECKING:
    from agent.model import Lease
    from agent.service.devices import Devices
    from agent.service.rows import Json
    from agent.usage.leases import Leases


class LeaseDesk:
    """Finds the device meant and hands on. Methods raise LeaseError and its kinds."""

    def __init__(self, leases: Leases, devices: Devices) -> None:
        self._leases = leases
        self._devices = devices

    def rows(self) -> list[Json]:
        """The leases in force, oldest first."""
        return [lease_row(lease) for lease in self._leases.all()]

    async def acquire(self, udid: str, holder: str, purpose: str, ttl: float) -> Json:
        """Give a lease; UnknownDeviceError names the nearest devices."""
        lease = await self._leases.acquire(self._devices.udid(udid), holder, purpose, ttl)
        return lease_row(lease)

    async def renew(self, lease_id: str) -> Json:
        """Let a lease last another TTL."""
        return lease_row(await self._leases.renew(lease_id))

    async def release(self, lease_id: str) -> Json:
        """End a lease."""
        return lease_row(await self._leases.release(lease_id))


def lease_row(lease: Lease) -> Json:
    """One lease as JSON."""
    return {
        "id": lease.id,
        "udid": lease.udid,
        "holder": lease.holder,
        "purpose": lease.purpose,
        "since": iso(lease.acquired_ms),
        "ttl": lease.ttl,
        "expires": iso(lease.expires_ms),
    }
