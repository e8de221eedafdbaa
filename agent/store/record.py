"""A transition and what it makes: one transaction over three tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.model import Callback
from agent.store.bulk import Bulk
from agent.store.tables import callbacks, devices, transitions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from agent.model import DeviceRecord, Transition


@dataclass(slots=True, eq=False)
class Record(Bulk[tuple[Callback, ...]]):
    """A device's row, its transition and its callbacks; the result is those with their ids."""

    device: DeviceRecord
    transition: Transition | None
    callbacks: tuple[Callback, ...]

    @classmethod
    def apply_all(
        cls, conn: sqlite3.Connection, changes: Sequence[Record]
    ) -> list[tuple[Callback, ...]]:
        """In their order; all or nothing."""
        devices.put(conn, [each.device for each in changes])
        transitions.add(conn, [each.transition for each in changes if each.transition is not None])
        return callbacks.add(conn, [each.callbacks for each in changes])

    def __call__(self, conn: sqlite3.Connection) -> tuple[Callback, ...]:
        """The same for one."""
        (stored,) = self.apply_all(conn, [self])
        return stored
