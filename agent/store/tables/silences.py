"""What somebody wants no callbacks of, and until when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agent.model import Silence, SilenceKind
from agent.store.faults import CorruptError
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import asyncio
    import sqlite3

    from agent.store.tables.table import Access

_ALL: Final = "SELECT id, said FROM silences ORDER BY id"
_PUT: Final = "INSERT OR REPLACE INTO silences (id, said) VALUES {rows}"
_SAID: Final = {
    "kind": str,
    "value": str,
    "reason": str,
    "by": str,
    "since_ms": int,
    "ends_ms": int,
}
_ID_MAX: Final = 0xFFFF_FFFF
_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999: no time behind it can be shown."""


class Silences:
    """The silences' rows."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def all(self) -> list[Silence]:
        """All silences, oldest first, those that are over included."""
        found = await self._access.ask(every_silence)
        return sorted(found, key=lambda silence: (silence.since_ms, silence.id))

    def put(self, silence: Silence) -> asyncio.Future[None]:
        """Store it, in place of the one with its id."""
        said = json.dumps({name: getattr(silence, name) for name in _SAID})
        row = (int(silence.id, 16), said)

        def change(conn: sqlite3.Connection) -> None:
            run(conn, _PUT, [row])

        return self._access.change(change)

    def delete(self, silence_id: str) -> asyncio.Future[None]:
        """Delete it, if it is there."""

        def change(conn: sqlite3.Connection) -> None:
            conn.execute("DELETE FROM silences WHERE id = ?", (int(silence_id, 16),))

        return self._access.change(change)


def every_silence(conn: sqlite3.Connection) -> list[Silence]:
    """All of them; CorruptError: one makes no sense."""
    return every(_read, _ALL)(conn)


def mend(conn: sqlite3.Connection) -> int:
    """Delete rows of a damaged store that make no sense; how many."""
    gone = []
    for row in conn.execute(_ALL).fetchall():
        try:
            _read(row)
        except CorruptError:
            gone.append((row[0],))
    conn.executemany("DELETE FROM silences WHERE id = ?", gone)
    return len(gone)


def _read(row: tuple[int, str]) -> Silence:
    number, text = row
    said = _said(text)
    if not said or not 0 <= number <= _ID_MAX:
        raise CorruptError(f"the row of silence {number} makes no sense: {text!r}")
    return Silence(id=f"{number:08x}", **said)


def _said(text: str) -> dict[str, Any]:
    """What the JSON says; nothing: it makes no sense."""
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(said, dict) or said.keys() != _SAID.keys():
        return {}
    right = all(isinstance(said[name], kind) for name, kind in _SAID.items())
    if not right or said["kind"] not in list(SilenceKind):
        return {}
    if not all(0 <= said[name] <= _MS_MAX for name in ("since_ms", "ends_ms")):
        return {}
    return {**said, "kind": SilenceKind(said["kind"])}
