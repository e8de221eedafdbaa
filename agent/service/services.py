"""All matters together: what the API is built over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.service.deliveries import Deliveries
    from agent.service.device_page import DevicePage
    from agent.service.devices import Devices
    from agent.service.doctor import Doctor
    from agent.service.events import Events
    from agent.service.health import Health
    from agent.service.leases import LeaseDesk
    from agent.service.live import Live
    from agent.service.ports import Ports
    from agent.service.reload import Reloaded
    from agent.service.scrape import Scraper
    from agent.service.webhook_editor import WebhookEditor
    from agent.service.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """One running agent."""

    live: Live
    devices: Devices
    page: DevicePage
    ports: Ports
    events: Events
    webhooks: Webhooks
    editor: WebhookEditor
    deliveries: Deliveries
    leases: LeaseDesk
    health: Health
    doctor: Doctor
    scraper: Scraper
    reload: Callable[[], Awaitable[Reloaded]]
    """Load the configuration anew; ConfigError says all that is wrong with it."""

    def names(self) -> Sequence[str]:
        """Under which it may be asked, besides literal addresses and localhost."""
        return self.live.config.api.hosts

    def tcp_token(self) -> str | None:
        """What changes over TCP must bear; None: they are not served. May raise SecretError."""
        token = self.live.config.api.token
        return None if token is None else token.read(self.live.environ)
