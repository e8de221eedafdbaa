"""All matters together: what the API is built over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.service.page import Page, page_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.clock import Clock
    from agent.service.attempts import Attempts
    from agent.service.causes import Causes
    from agent.service.deliveries import Deliveries
    from agent.service.device_page import DevicePage
    from agent.service.devices import Devices
    from agent.service.doctor import Doctor
    from agent.service.events import Events
    from agent.service.health import Health
    from agent.service.history import History
    from agent.service.hosts import Hosts
    from agent.service.leases import LeasesServed
    from agent.service.live import Live
    from agent.service.ports import Ports
    from agent.service.reload import Reloaded
    from agent.service.report import Reports
    from agent.service.scrape import Scraper
    from agent.service.sessions import Sessions
    from agent.service.silences import SilencesServed
    from agent.service.webhook_editor import WebhookEditor
    from agent.service.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """One running agent."""

    live: Live
    devices: Devices
    device_page: DevicePage
    history: History
    reports: Reports
    ports: Ports
    causes: Causes
    hosts: Hosts
    events: Events
    webhooks: Webhooks
    editor: WebhookEditor
    deliveries: Deliveries
    leases: LeasesServed
    silences: SilencesServed
    health: Health
    doctor: Doctor
    scraper: Scraper
    sessions: Sessions
    attempts: Attempts
    clock: Clock
    reload: Callable[[], Awaitable[Reloaded]]
    """Load the configuration anew; ConfigError says all that is wrong with it."""

    def names(self) -> Sequence[str]:
        """Under which it may be asked, besides literal addresses and localhost."""
        return self.live.config.api.hosts

    def is_closed(self) -> bool:
        """Whether reading over TCP is for bearers of the token or a session alone."""
        return self.live.config.api.read == "token"

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.clock.monotonic()

    def page(self, served: str) -> Page:
        """Where the page is, of what is served at that HOST:PORT."""
        return page_of(self.live.config.api, served)

    @property
    def takes_token(self) -> bool:
        """Whether there is one that changes over TCP may bear."""
        return self.live.config.api.token is not None

    def tcp_token(self) -> str | None:
        """What changes over TCP must bear; None: they are not served. May raise SecretError."""
        token = self.live.config.api.token
        return None if token is None else token.read(self.live.environ)
