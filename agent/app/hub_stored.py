"""What a hub's store has of its fleet, at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config import Config
    from agent.model import DeviceRecord
    from agent.store import FleetRow, Store

_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class HubStored:
    """All of it."""

    rows: list[FleetRow]
    epoch: int
    """Of the store: tells it from another one of a hub of the same name."""


async def hub_stored(
    config: Config, store: Store, records: Iterable[DeviceRecord]
) -> HubStored | None:
    """None: it is no hub. Raises StoreError.

    Raises:
        StartError: it is no hub, and its store is one's: it would call all phones of all hosts
            unplugged, for it sees none of them.
    """
    if not config.is_hub:
        hosts = sorted({record.host for record in records if record.host})
        if hosts:
            more = ", …" if len(hosts) > _NAMED else ""
            raise StartError(
                f"{store.directory} is the state of a fleet's hub (phones of "
                f"{', '.join(hosts[:_NAMED])}{more}), and [fleet] role and servers make none: set "
                "them as they were, or give this agent a state_dir of its own in [agent]"
            )
        return None
    rows = await store.fleet.all()
    return HubStored(rows, (await store.log.state()).epoch)
