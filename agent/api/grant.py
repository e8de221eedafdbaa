"""By what a request is allowed, and whether that still holds."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.errors import AgentError

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


def digest_of(token: str) -> bytes:
    """What is kept of a token, and compared."""
    # What is no UTF-8 came as half characters (PEP 383).
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
