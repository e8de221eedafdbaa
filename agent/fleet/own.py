"""What the uplink needs of its agent: what to tell of it, and whom its commands go to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from agent.clock import Clock
    from agent.history.watch import Sight
    from agent.model import Platform, Sighting, SilenceKind
    from agent.store.tables.log import LogSlice, LogSnapshot, LogState
    from agent.track.views import DeviceView

    Row = Mapping[str, object]
    """As the agent's API answers it."""


class LogOfTransitions(Protocol):
    """See `agent.store.tables.log.Log`."""

    async def state(self) -> LogState:
        """Where it stands."""

    async def after(self, id_: int, limit: int) -> LogSlice:
        """The rows behind that id."""

    async def snapshot(self) -> LogSnapshot:
        """What they have come to."""

    def join(self) -> asyncio.Future[LogState]:
        """From now on nothing is deleted unacknowledged."""

    def leave(self) -> asyncio.Future[None]:
        """No longer."""

    def acknowledge(self, epoch: int, through: int, check: int) -> asyncio.Future[LogState]:
        """The hub has stored all up to that id."""

    def compare(self, epoch: int, through: int, check: int) -> asyncio.Future[LogState]:
        """A hub has taken that row: is it ours?"""


class DevicesShown(Protocol):
    """See `agent.track.views.Views`."""

    def one(self, udid: str) -> DeviceView | None:
        """One device; None: none that is shown."""

    def seen(self, udid: str) -> tuple[Sighting, ...]:
        """What each source sees now of a device that is shown."""


class LeasesAsked(Protocol):
    """See `agent.service.leases.LeaseDesk`."""

    def rows(self) -> Sequence[Row]:
        """Those in force."""

    async def acquire(
        self,
        device: str | None,
        holder: str,
        purpose: str,
        ttl: float,
        *,
        platform: Platform | None = None,
        tags: tuple[str, ...] = (),
        wait: float = 0.0,
        steal: str = "",
        caller: str = "",
    ) -> Row:
        """Give one; a cancelled call holds nothing."""

    async def renew(self, lease_id: str) -> Row:
        """Let it last another TTL."""

    async def release(self, lease_id: str, why: str = ..., caller: str = "") -> Row:
        """End it."""


class SilencesAsked(Protocol):
    """See `agent.service.silences.SilenceDesk`."""

    @property
    def now_ms(self) -> int:
        """By the clock that they end by."""

    def rows(self) -> Sequence[Row]:
        """Those in force."""

    async def add(
        self, kind: SilenceKind, value: str, reason: str, ends_ms: int, by: str, id_: str = ""
    ) -> Row:
        """Keep back what would be told of these devices, until then."""

    async def end(self, silence_id: str, by: str) -> Row:
        """End one before its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """All of it."""

    log: LogOfTransitions
    devices: DevicesShown
    leases: LeasesAsked
    silences: SilencesAsked
    sights: Callable[[], Mapping[str, Sight]]
    """See `agent.track.tracker.Tracker.sights`."""
    clock: Clock
