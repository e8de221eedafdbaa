"""The wire between agents and hub, as they see it; `nats_link` is the one that there is.

A link is one connection, used once: where it is lost, nothing of it is mended, and whoever needs
one dials anew. Handlers are called on the event loop's thread, each with its messages in the order
in which they came in; they must not block and must not raise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.config.model import Fleet


class LinkError(AgentError):
    """The broker could not be reached, or did not do it; the message says what to do."""


class NobodyError(LinkError):
    """Nobody listens there: the agent or hub that was asked is not connected."""


class NoAnswerError(LinkError):
    """Somebody may have heard it, and did not answer in time."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message."""

    subject: str
    body: bytes
    sequence: int = 0
    """Its number in the stream that it came from; 0: it came from none."""
    reply: Callable[[bytes], Awaitable[None]] | None = None
    """Answers a request; raises LinkError. None: no answer is wanted."""


class Entry(NamedTuple):
    """A key's value."""

    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of the broker, which keeps what is appended to it for a while."""

    name: str
    subjects: tuple[str, ...]
    max_age: float
    """Seconds."""
    max_bytes: int


Handler = Callable[[Incoming], None]


class Link(Protocol):
    """One connection. Every call is bounded in time and raises LinkError once it is lost."""

    @property
    def where(self) -> str:
        """The server that it goes to, without a password."""

    async def lost(self) -> str:
        """Return once the connection is lost, with the reason in operators' words."""

    async def close(self) -> None:
        """Flush what was published (within a second), and end it; idempotent."""

    async def publish(self, subject: str, body: bytes) -> None:
        """Tell whoever listens now; nobody may."""

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Hear what is published there from now on (`*` stands for one token).

        What this very connection publishes there is heard, too.
        """

    async def request(self, subject: str, body: bytes, limit: float) -> bytes:
        """Ask, and wait for the first answer.

        Raises:
            NobodyError: at once, where nobody listens.
            NoAnswerError: none came within `limit` seconds.
        """

    async def make_stream(self, stream: Stream) -> None:
        """Have a stream; one that is there already is changed to that."""

    async def make_bucket(self, bucket: str) -> None:
        """Have a bucket that keeps each key's last value; likewise."""

    async def append(self, subject: str, body: bytes, message_id: str) -> int:
        """Put a message into the stream of its subject; its number, once the broker has it.

        Calls made one after the other without waiting are put in in their order. A message id that
        the broker remembers is taken once.
        """

    async def follow(self, stream: str, subject: str, after: int, handler: Handler) -> None:
        """Hear what a stream has of a subject, from behind number `after` on (0: from its first).

        In order, without acknowledgements. A message may be missing where the broker lost it or we
        were too slow. Where the broker ends it, it is begun anew behind the last one heard; where
        the stream was made anew, from its first.
        """

    async def last_number(self, stream: str) -> tuple[str, int]:
        """When the stream was made (a text that tells two of one name apart), and its last number.

        Raises:
            LinkError: there is no such stream (any more).
        """

    async def get(self, bucket: str, key: str) -> Entry | None:
        """A key's value; None: it has none."""

    async def put(self, bucket: str, key: str, value: bytes) -> int:
        """Set it, whatever it was; its revision."""

    async def swap(self, bucket: str, key: str, value: bytes, revision: int) -> int | None:
        """Set it where it still has that revision (0: it has none); None: it has another."""

    async def remove(self, bucket: str, key: str) -> bool:
        """Let a key have no value; False: it got another one meanwhile, and keeps that."""

    async def watch(self, bucket: str, handler: Handler) -> None:
        """Hear each key's value now, and each new one; the subject is the key alone."""


class Dial(Protocol):
    """Connects, within its own limit."""

    def __call__(self, fleet: Fleet, last: str = "") -> Awaitable[Link]:
        """Connect to one of the fleet's servers.

        Args:
            fleet: the section.
            last: `where` of a link that was lost: its server may hang, and is tried after all
                others.

        Raises:
            LinkError: it could not, and what to do about it.
        """
