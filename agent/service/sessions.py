"""Who may change things from a browser: codes that work once, and the sessions they become.

Both are in this process's memory alone, and of both only a digest: what is found there opens
nothing, and a restart ends all sessions. Time is the monotonic clock's, so that nobody who sets the
wall clock makes a code or a session last. Nothing here awaits: of two who bring one code at the
same time one is first.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from agent.service.rows import Time, iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.clock import Clock

CODE_SECONDS = 60.0
"""That a code may lie about."""
IDLE_SECONDS = 12 * 3600.0
"""Without a request or an open stream, after which a session ends."""
MOST = 25
"""Sessions, and codes, at once: of one too many the one that was idle longest ends."""
PREFIX = "das_"
"""Of session tokens: one of a session that has ended is told from a wrong token."""


class SessionRow(TypedDict):
    """A session; never its token."""

    id: str
    """Of the audit lines."""
    user: str
    """Who asked for the code it was made of; "" where the name is not known."""
    uid: int
    address: str
    """From where the code was brought; "" over the unix socket."""
    created_at: Time | None
    used_at: Time | None
    """The last request."""
    idle_seconds: float
    """Since then; 0 while a stream is open. It ends at 43200."""
    streams: int
    """Open ones (`/v1/events`)."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for a code: whoever is at the other end of the unix socket."""

    uid: int
    user: str = ""


@dataclass(slots=True, eq=False)
class Session:
    """One browser that may change things."""

    id: str
    digest: bytes
    """Of its token."""
    asker: Asker
    address: str
    created_ms: int
    used: float
    """By the monotonic clock."""
    used_ms: int
    streams: int = 0


@dataclass(frozen=True, slots=True)
class _Code:
    asker: Asker
    until: float


class Sessions:
    """All that are in force.

    Args:
        clock: time.
        ended: told whenever one has ended.
    """

    def __init__(self, clock: Clock, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._ended = ended
        self._codes: dict[bytes, _Code] = {}
        """By digest, the oldest first."""
        self._sessions: dict[str, Session] = {}
        """By id."""

    def __len__(self) -> int:
        self._expire()
        return len(self._sessions)

    def code(self, asker: Asker) -> str:
        """A code that becomes a session, once, within CODE_SECONDS."""
        self._expire()
        if len(self._codes) >= MOST:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(24)
        self._codes[digest_of(code)] = _Code(asker, self._clock.monotonic() + CODE_SECONDS)
        return code

    def exchange(self, code: str, address: str) -> tuple[str, Session] | None:
        """The code's session with its token, which nobody can be told again.

        None: there is no such code, or none any more.
        """
        self._expire()
        given = digest_of(code)
        # By all of them, each in the same time: how long it takes says nothing of any.
        found = [each for each in self._codes if hmac.compare_digest(each, given)]
        if not found:
            return None
        asker = self._codes.pop(found[0]).asker
        if len(self._sessions) >= MOST:
            self.end(min(self._sessions.values(), key=self._idle_order).id)
        token = PREFIX + secrets.token_urlsafe(32)
        now_ms = self._clock.wall_ms()
        session = Session(
            id=self._new_id(),
            digest=digest_of(token),
            asker=asker,
            address=address,
            created_ms=now_ms,
            used=self._clock.monotonic(),
            used_ms=now_ms,
        )
        self._sessions[session.id] = session
        return token, session

    def find(self, token: str) -> Session | None:
        """The session of that token, used now; None: none, or it has ended."""
        self._expire()
        given = digest_of(token)
        found = None
        for session in self._sessions.values():
            if hmac.compare_digest(session.digest, given):
                found = session
        if found is not None:
            self._use(found)
        return found

    def is_in_force(self, session: Session) -> bool:
        """Whether it has not ended."""
        self._expire()
        return self._sessions.get(session.id) is session

    @contextmanager
    def streaming(self, session: Session) -> Iterator[None]:
        """While a stream is open, its session is not idle."""
        session.streams += 1
        try:
            yield
        finally:
            session.streams -= 1
            self._use(session)

    def end(self, id_: str) -> bool:
        """End one; False: there is none of that id."""
        self._expire()
        if self._sessions.pop(id_, None) is None:
            return False
        self._ended()
        return True

    def rows(self) -> list[SessionRow]:
        """All that are in force, the newest first."""
        self._expire()
        return [self.row(each) for each in reversed(self._sessions.values())]

    def row(self, session: Session) -> SessionRow:
        """What operators may see of it."""
        return {
            "id": session.id,
            "user": session.asker.user,
            "uid": session.asker.uid,
            "address": session.address,
            "created_at": iso(session.created_ms),
            "used_at": iso(session.used_ms),
            "idle_seconds": round(self._idle(session), 3),
            "streams": session.streams,
        }

    # --- inside ----------------------------------------------------------------------------

    def _use(self, session: Session) -> None:
        session.used, session.used_ms = self._clock.monotonic(), self._clock.wall_ms()

    def _idle(self, session: Session) -> float:
        return 0.0 if session.streams else self._clock.monotonic() - session.used

    def _idle_order(self, session: Session) -> tuple[bool, float]:
        """Smallest first to go: without a stream before those with one, then by its last use."""
        return session.streams > 0, session.used

    def _expire(self) -> None:
        now = self._clock.monotonic()
        for digest in [each for each, code in self._codes.items() if now >= code.until]:
            del self._codes[digest]
        idle = [each for each in self._sessions.values() if self._idle(each) >= IDLE_SECONDS]
        for session in idle:
            del self._sessions[session.id]
        if idle:
            self._ended()

    def _new_id(self) -> str:
        while (id_ := secrets.token_hex(4)) in self._sessions:
            pass
        return id_


def digest_of(token: str) -> bytes:
    """What is kept of a token or a code, and compared: of one length, whatever is sent."""
    # What a client sends need not be characters: half of one is a digest like any other.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
