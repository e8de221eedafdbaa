"""What streams and buckets need of a connection, and the raw messages that come over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol


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
    """One connection, below streams. All of it raises LinkError."""

    def new_inbox(self) -> str:
        """A subject that nobody else hears."""

    async def send(
        self, subject: str, body: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand it to the connection, at once and in order."""

    def send_later(self, subject: str) -> None:
        """Send an empty message; from within a handler."""

    async def ask(
        self, subject: str, body: bytes, limit: float, headers: Mapping[str, str] | None = None
    ) -> Raw:
        """Send it, and wait for the first answer; NobodyError and NoAnswerError."""

    async def hear(self, subject: str, handler: Callable[[Raw], None]) -> Callable[[], None]:
        """Have what is published there from now on; what it returns ends that."""
