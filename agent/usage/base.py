"""The one protocol that every polled usage source speaks, third parties' included.

A source says what there is to ask (`targets`: a server, a port of a phone) and asks one of them
(`read`). It keeps no schedule, remembers nothing of what it read and decides nothing: the `poller`
asks, each target on its own, and `fusion` makes one reading per device of all that was said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.model import Platform

READ_LIMIT = 5.0
"""Seconds: the poller gives up on `targets` or `read` after so long; the target is then unknown."""


class Phone(NamedTuple):
    """A phone that is not unplugged, as the usage sources see it."""

    udid: str
    platform: Platform
    address: str
    """What its bridge calls it: the adb serial, the usbmux DeviceID. "" while its bridge cannot
    reach it."""

    @property
    def ready(self) -> bool:
        """Its bridge can reach it now."""
        return bool(self.address)


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be asked, on its own: what it says or withholds touches no other."""

    key: str
    """Unique within the source, stable while it is the same thing, and shown to operators: a
    server's URL without userinfo and query, `port 8100 of 0000…`."""
    udid: str = ""
    """The one device it can speak of; "": of any."""
    address: str = field(default="", compare=False)
    """Whatever the source needs to ask it; never shown."""


class UsageUnknownError(AgentError):
    """A target cannot say who uses what: down, too slow, refused, or not understood.

    The message is for the operator: what was asked, what came, what to do. It holds no secrets.
    """


class Incomplete(dict[str, str]):
    """What `read` returns when a target can speak of a part of its devices only.

    Those that are listed are in use. One that it had in use and leaves out now is not idle but
    unknown, for that reason.

    Args:
        in_use: as `read` returns it.
        reason: the operator's, as that of UsageUnknownError.
    """

    def __init__(self, in_use: Mapping[str, str], reason: str) -> None:
        super().__init__(in_use)
        self.reason = reason


class UsageSource(Protocol):
    """Knows one way to learn that a session uses a phone."""

    @property
    def name(self) -> str:
        """Short and lower case, as it is configured and shown: `appium`."""

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """What there is to ask now; none where nothing is configured or attached.

        Asked again every interval and whenever phones come or go, so it must be cheap.

        Raises:
            UsageUnknownError: it cannot tell; the targets known before are unknown until it can.
        """

    async def read(self, target: Target) -> Mapping[str, str]:
        """The devices in use by what that target says: id → who uses it (`session 4f2a1c09`).

        An id is a UDID or the address of a phone, as the target knows it: letter case and dashes do
        not matter. A device that is left out is idle as far as this target knows; where it cannot
        say so of all of them, the answer is `Incomplete`.

        Raises:
            UsageUnknownError: the target cannot say. An error is never an empty answer, and what a
                server that has just started does not know yet is none either.
        """

    async def close(self) -> None:
        """Close what is open; nothing is asked any more."""
