"""An agent of which there is nothing, for the API to be built over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.clock import LoopClock
from agent.config import Api
from agent.service.attempts import Attempts
from agent.service.page import Page, page_of
from agent.service.sessions import Sessions

if TYPE_CHECKING:
    from agent.clock import Clock


class Rows:
    """A matter of which there is nothing, and that fails with a secret at hand."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        return self.content

    async def preview(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields

    async def acquire(self, udid: str, *_: object, **__: object) -> dict[str, Any]:
        raise RuntimeError(f"a bug, with a secret in it: {udid}")


class Devices:
    """Of which there are none, or some that a test sets."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []

    async def rows(self) -> list[dict[str, Any]]:
        return self.content


class Deliveries:
    async def page(self, query: dict[str, str]) -> dict[str, Any]:
        raise ValueError(f"unknown filter {min(query)!r}")

    async def replay(self, query: dict[str, str]) -> list[str]:
        return list(query)


class Nobody:
    """An agent without devices."""

    is_ready = True
    token: str | None = None
    hosts: tuple[str, ...] = ()

    is_shut = False
    api = Api()

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or LoopClock()
        self.sessions = Sessions(self.clock, self.session_ended)
        self.attempts = Attempts()
        self.devices = Devices()
        self.webhooks = self.leases = Rows()
        self.deliveries = Deliveries()
        self.health = self

    def names(self) -> tuple[str, ...]:
        return self.hosts

    def session_ended(self) -> None:
        """A test may look."""

    def is_closed(self) -> bool:
        return self.is_shut

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def page(self, served: str) -> Page:
        return page_of(self.api, served)

    @property
    def takes_token(self) -> bool:
        return self.token is not None

    def tcp_token(self) -> str | None:
        return self.token

    def row(self) -> dict[str, Any]:
        return {"ready": self.is_ready, "problems": ["adb: down"]}
