"""The hub's parts, put together: what `agent.app` needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.fleet.host import host_of
from agent.fleet.hub.intake import Intake
from agent.fleet.hub.pipeline import Ears, FleetPipeline
from agent.fleet.hub.stored import read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.clock import Clock
    from agent.config import Config
    from agent.deliver.outbox import Outbox
    from agent.fleet.hub.status import HostStatus, HubStatus
    from agent.fleet.link import Dial, Link
    from agent.model import DeviceRecord, DeviceState
    from agent.store import FleetRow, Store


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub; `intake.run` is its one background work."""

    pipeline: FleetPipeline
    intake: Intake

    @property
    def status(self) -> HubStatus:
        """How it stands."""
        return self.intake.status

    def hosts(self) -> list[HostStatus]:
        """How each host stands, by name."""
        return self.pipeline.hosts()

    def devices(self) -> dict[tuple[str, DeviceState], int]:
        """How many devices each host has in which state."""
        return self.pipeline.views.by_host()

    async def forget(self, host: str) -> HostStatus:
        """A host was taken down for good; see `Intake.forget`."""
        return await self.intake.forget(host)

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration (the pipeline takes it, too)."""
        self.intake.reconfigure(config.fleet)


def build(
    config: Config,
    records: Iterable[DeviceRecord],
    rows: Iterable[FleetRow],
    store: Store,
    outbox: Outbox,
    clock: Clock,
    ears: Ears,
    dial: Dial,
    active: Callable[[], bool],
    beside: Callable[[Link], Awaitable[None]],
) -> Hub:
    """Put it together; nothing of it runs yet.

    Args:
        config: the one in force.
        records: the devices, as the store has them (`store.devices.all`).
        rows: what it knows of the fleet (`store.fleet.all`).
        store: keeps both.
        outbox: which callbacks a transition makes.
        clock: of the process.
        ears: who is told of what.
        dial: connects to the broker.
        active: whether this hub is the one that sends, and acknowledges.
        beside: what else runs for as long as a link is there.
    """
    kept = read(rows)
    pipeline = FleetPipeline(config, records, kept, store, outbox, clock, ears)
    name = host_of(config.fleet)
    intake = Intake(pipeline, config.fleet, name, dial, kept.position, clock, active, beside)
    return Hub(pipeline, intake)
