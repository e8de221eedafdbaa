"""What the API asks of the running agent, and the JSON shapes it answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agent.clock import timestamp

if TYPE_CHECKING:
    from agent.model import Lease

Json = dict[str, Any]


class Agent(Protocol):
    """The running agent, as the API sees it. Methods that change something may raise AgentError."""

    def tcp_token(self) -> str | None:
        """What changes over TCP must bear; None: they are not served. May raise SecretError."""

    def devices(self) -> list[Json]:
        """Rows of `/v1/devices`."""

    def webhooks(self) -> list[Json]:
        """Rows of `/v1/webhooks`; no secrets, no userinfo or query of URLs."""

    async def deliveries(self, query: dict[str, str]) -> list[Json]:
        """Rows of `/v1/deliveries`, newest first; ValueError names a filter that makes no sense."""

    async def delivery(self, message_id: str) -> Json:
        """One stored callback with its body and every attempt; UnknownDeliveryError."""

    async def replay(self, query: dict[str, str]) -> list[str]:
        """Make finished callbacks that match pending again; their ids. ValueError as above."""

    async def test_webhook(self, name: str) -> Json:
        """Send a marked sample to that webhook, once; UnknownWebhookError."""

    def leases(self) -> list[Lease]:
        """The leases in force."""

    async def acquire(self, udid: str, holder: str, purpose: str, ttl: float) -> Lease:
        """Give a lease; UnknownDeviceError names the nearest devices."""

    async def renew(self, lease_id: str) -> Lease:
        """Let a lease last another TTL."""

    async def release(self, lease_id: str) -> Lease:
        """End a lease."""

    async def reload(self) -> Json:
        """Load the configuration anew; ConfigError says all that is wrong with it."""

    def health(self) -> Json:
        """`{"ready": bool, "problems": [...], ...}`: what works and what does not."""


def iso(ms: int) -> str | None:
    """UTC with milliseconds and Z, as in callbacks; None for 0 (never)."""
    return timestamp(ms) if ms else None


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
