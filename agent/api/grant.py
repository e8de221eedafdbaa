"""By what a request is allowed, and whether that still holds."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.errors import AgentError
from agent.service.sessions import digest_of

if TYPE_CHECKING:
    from agent.service.services import Services
    from agent.service.sessions import Session

By = Literal["socket", "token", "session", "nobody"]


@dataclass(frozen=True, slots=True)
class Grant:
    """By what a request is allowed."""

    by: By
    session: Session | None = None
    digest: bytes = b""
    """Of the API token that was shown."""

    def holds(self, services: Services) -> bool:
        """Whether it still lets its bearer read."""
        match self.by:
            case "socket":
                return True
            case "session":
                return self.session is not None and services.sessions.is_in_force(self.session)
            case "token" if services.is_closed():
                return _is_the_token(services, self.digest)
            case _:
                return not services.is_closed()


SOCKET = Grant("socket")
NOBODY = Grant("nobody")


def _is_the_token(services: Services, digest: bytes) -> bool:
    try:
        token = services.tcp_token()
    except AgentError:
        return False
    return token is not None and hmac.compare_digest(digest_of(token), digest)
