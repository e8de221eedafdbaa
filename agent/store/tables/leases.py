"""Who holds which device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.model import Lease
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import asyncio
    import sqlite3

    from agent.store.tables.table import Access

_ALL: Final = """
SELECT id, udid, holder, purpose, acquired_ms, ttl, expires_ms, taken FROM leases
ORDER BY acquired_ms, id
"""
_PUT: Final = """
INSERT OR REPLACE INTO leases (id, udid, holder, purpose, acquired_ms, ttl, expires_ms, taken)
VALUES {rows}
"""


class Leases:
    """The leases' rows."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def all(self) -> list[Lease]:
        """All leases, oldest first, expired ones included."""
        return await self._access.ask(every(lambda row: Lease(*row), _ALL))

    def put(self, lease: Lease) -> asyncio.Future[None]:
        """Store the lease, in place of the one with its id."""
        row = (
            lease.id,
            lease.udid,
            lease.holder,
            lease.purpose,
            lease.acquired_ms,
            lease.ttl,
            lease.expires_ms,
            lease.taken,
        )

        def change(conn: sqlite3.Connection) -> None:
            run(conn, _PUT, [row])

        return self._access.change(change)

    def delete(self, lease_id: str) -> asyncio.Future[None]:
        """Delete the lease, if it is there."""

        def change(conn: sqlite3.Connection) -> None:
            conn.execute("DELETE FROM leases WHERE id = ?", (lease_id,))

        return self._access.change(change)
