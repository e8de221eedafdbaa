"""What a hub takes from a host: one transaction over the fleet's rows and all that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.store.tables import callbacks, devices, fleet, transitions

if TYPE_CHECKING:
    import sqlite3

    from agent.model import Callback
    from agent.store.record import Record
    from agent.store.tables.fleet import FleetRow


@dataclass(slots=True, frozen=True, eq=False)
class Take:
    """The result are those callbacks that were not there, with their ids."""

    rows: tuple[FleetRow, ...]
    records: tuple[Record, ...]

    def __call__(self, conn: sqlite3.Connection) -> tuple[Callback, ...]:
        """All or nothing."""
        fleet.put(conn, self.rows)
        devices.put(conn, [each.device for each in self.records])
        transitions.add(
            conn, [each.transition for each in self.records if each.transition is not None]
        )
        made = [callback for each in self.records for callback in each.callbacks]
        (stored,) = callbacks.add(conn, [callbacks.new(conn, made)])
        return stored
