"""What a hub knows of its fleet, in rows whose text is the hub's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from agent.store.tables.table import Access

_ALL: Final = "SELECT host, udid, said FROM fleet ORDER BY host, udid"
_PUT: Final = "INSERT OR REPLACE INTO fleet (host, udid, said) VALUES {rows}"


class FleetRow(NamedTuple):
    """What a host last told of a device, or where the hub stands with it."""

    host: str
    """"": of the broker's stream."""
    udid: str
    """"": of the host itself."""
    said: str
    """JSON; "": there is no such row (any more)."""


class Fleet:
    """The hub's rows; they are written by `Store.take`.

    A file that is made anew after corruption has none of them: the hub then asks every host for all
    that it has, which mends what else was lost.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def all(self) -> list[FleetRow]:
        """All of them, by host and UDID."""
        return await self._access.ask(every(lambda row: FleetRow(*row), _ALL))


def put(conn: sqlite3.Connection, rows: Iterable[FleetRow]) -> None:
    """Add them, or put them in the place of those that are there; the last of each counts."""
    last = {(row.host, row.udid): row for row in rows}
    kept = [(row.host, row.udid, row.said) for row in last.values() if row.said]
    run(conn, _PUT, kept)
    gone = [key for key, row in last.items() if not row.said]
    conn.executemany("DELETE FROM fleet WHERE host = ? AND udid = ?", gone)
