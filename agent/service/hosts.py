"""The hosts of a hub's fleet, and how the hub stands with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypedDict

from agent.errors import UnknownHostError
from agent.service.rows import Also

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.fleet.hub.status import HostStatus, HubStatus
    from agent.model import DeviceState


class HubRow(TypedDict):
    """How the hub stands with its broker."""

    connected: bool
    blind: bool
    """It does not hear itself through the broker: it decides nothing meanwhile."""
    active: bool
    """It sends callbacks; a standby does not."""
    reason: str
    """Why it is not connected."""
    bad_messages: int
    """That were none of ours, since the start."""
    dropped: int
    """Messages that came faster than they could be taken; they are asked for again."""
    moves: int
    """Phones that went from one host to another, since the start."""


class HostRow(TypedDict):
    """One host of the fleet."""

    host: str
    state: Literal["unheard", "alive", "lost", "gone"]
    """`unheard`: not heard since the hub's start. `lost`: silent for `host_grace`; its phones keep
    their states. `gone`: for `source_grace` more; they are offline."""
    caught_up: bool
    """It is alive, and all that it had to say is taken."""
    version: str
    """Of its agent; empty: not heard yet."""
    epoch: str
    """Tells its log from the one before it; empty: nothing was taken of it yet."""
    cursor: Annotated[int, Also(minimum=0)]
    """Id of the last transition in its log that was taken."""
    lag: Annotated[int, Also(minimum=0)]
    """Transitions that it is known to have, and the hub has not."""
    heartbeat_age: float | None
    """Seconds, while the hub was not blind; null: not heard since the hub's start."""
    devices: Annotated[int, Also(minimum=0)]
    """That are shown as its own."""
    problem: str
    """For people; empty: none."""


class HostList(TypedDict):
    """The fleet."""

    hub: HubRow | None
    """null: this agent is no hub, and follows no hosts."""
    hosts: list[HostRow]
    """By name."""


class Followed(Protocol):
    """What is needed of the hub."""

    @property
    def status(self) -> HubStatus:
        """How it stands."""

    def hosts(self) -> Sequence[HostStatus]:
        """How each host stands, by name."""

    def devices(self) -> Mapping[tuple[str, DeviceState], int]:
        """How many devices each host has in which state."""

    async def forget(self, host: str) -> HostStatus:
        """Know a host no more; how it stood."""


class Hosts:
    """Reads the hub; None: this is none."""

    def __init__(self, hub: Followed | None) -> None:
        self._hub = hub

    @property
    def hub(self) -> HubStatus | None:
        """How the hub stands."""
        return None if self._hub is None else self._hub.status

    def all(self) -> Sequence[HostStatus]:
        """How each host stands."""
        return () if self._hub is None else self._hub.hosts()

    def devices(self) -> Mapping[tuple[str, DeviceState], int]:
        """How many devices each host has in which state."""
        return {} if self._hub is None else self._hub.devices()

    async def forget(self, host: str) -> HostRow:
        """A host was taken down for good: know it no more; as it was.

        Raises:
            UnknownHostError: there is no such host, or this is no hub.
            AgentError: why not.
        """
        if self._hub is None:
            raise UnknownHostError("this agent is no hub, and follows no hosts")
        return _host(await self._hub.forget(host))

    def rows(self) -> HostList:
        """Of all of it."""
        hub = self.hub
        return {"hub": None if hub is None else _hub(hub), "hosts": [_host(o) for o in self.all()]}


def _hub(hub: HubStatus) -> HubRow:
    return {
        "connected": hub.connected,
        "blind": hub.blind,
        "active": hub.active,
        "reason": hub.reason,
        "bad_messages": hub.bad_messages,
        "dropped": hub.dropped,
        "moves": hub.moves,
    }


def _host(host: HostStatus) -> HostRow:
    return {
        "host": host.host,
        "state": host.presence.value,
        "caught_up": host.caught_up,
        "version": host.version,
        "epoch": "" if host.epoch is None else str(host.epoch),
        "cursor": host.cursor,
        "lag": host.lag,
        "heartbeat_age": None if host.silent is None else round(host.silent, 1),
        "devices": host.devices,
        "problem": host.problem,
    }
