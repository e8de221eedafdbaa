"""What a link needs of a connection, and the raw messages that come over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping


class Raw(NamedTuple):
    """A message as the broker sent it."""

    subject: str
    reply: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def status(self) -> str:
        """Of what the broker itself says: "100", "503", …; "": a message."""
        return self.headers.get("Status", "")


class Wire(Protocol):
    """One connection, without streams. All of it raises LinkError once it is lost."""

    @property
    def where(self) -> str:
        """See `Link`."""

    async def lost(self) -> str:
        """See `Link`."""

    async def close(self) -> None:
        """See `Link`."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it while there is the connection. LinkError ends it silently."""

    def new_inbox(self) -> str:
        """A subject that nobody else hears."""

    async def send(
        self, subject: str, body: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand it to the connection, at once and in order."""

    async def ask(
        self, subject: str, body: bytes, limit: float, headers: Mapping[str, str] | None = None
    ) -> Raw:
        """Send it, and wait for the first answer. Raises NobodyError and NoAnswerError, too."""

    async def hear(self, subject: str, handler: Callable[[Raw], None]) -> Callable[[], None]:
        """Have what is published there from now on; what it returns ends that."""
