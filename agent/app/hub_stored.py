"""What a hub's store has of its fleet, at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config import Config
    from agent.store import FleetRow, Store


@dataclass(frozen=True, slots=True)
class HubStored:
    """All of it."""

    rows: list[FleetRow]
    epoch: int
    """Of the store: tells it from another one of a hub of the same name."""


async def hub_stored(config: Config, store: Store) -> HubStored | None:
    """None: it is no hub. Raises StoreError."""
    if not config.is_hub:
        return None
    rows = await store.fleet.all()
    return HubStored(rows, (await store.log.state()).epoch)
