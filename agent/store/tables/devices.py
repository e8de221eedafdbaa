"""The last state of every device ever seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agent.model import DeviceRecord, DeviceState, Platform
from agent.store.faults import CorruptError
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from agent.store.tables.table import Access

_ALL: Final = """
SELECT udid, platform, state, since_ms, name, model, port, reason, holder, identity
FROM devices ORDER BY udid
"""
_ONE: Final = """
SELECT udid, platform, state, since_ms, name, model, port, reason, holder, identity
FROM devices WHERE udid = ?
"""
_PUT: Final = """
INSERT INTO devices (udid, platform, state, since_ms, name, model, port, reason, holder, identity)
VALUES {rows}
ON CONFLICT (udid) DO UPDATE SET
    platform = excluded.platform, state = excluded.state, since_ms = excluded.since_ms,
    name = excluded.name, model = excluded.model, port = excluded.port,
    reason = excluded.reason, holder = excluded.holder,
    identity = excluded.identity
"""
_IDENTITY: Final = {
    "path": str,
    "address": str,
    "serial": str,
    "shared": bool,
    "ways": str,
    "serial_read": bool,
    "debt": str,
    "host": str,
    "code": str,
    "cause": str,
    "waits": str,
}
"""The fields of a DeviceRecord that the column `identity` holds, each where it is not empty."""


class Devices:
    """The devices' rows; they are written by `Store.record`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def all(self) -> list[DeviceRecord]:
        """All devices ever recorded, by UDID."""
        return await self._access.ask(all_of)


def all_of(conn: sqlite3.Connection) -> list[DeviceRecord]:
    """All of them, by UDID."""
    return every(_read, _ALL)(conn)


def get(conn: sqlite3.Connection, udids: Iterable[str]) -> dict[str, DeviceRecord]:
    """Those of them that are there, by UDID."""
    found = {}
    for udid in udids:
        for row in conn.execute(_ONE, (udid,)):
            found[udid] = _read(row)
    return found


def put(conn: sqlite3.Connection, devices: Iterable[DeviceRecord]) -> None:
    """Add them, or replace the rows with their UDIDs."""
    run(conn, _PUT, [_row(device) for device in devices])


def mend(conn: sqlite3.Connection) -> tuple[int, int]:
    """Of rows of a damaged store, empty identities and delete rows that make no sense; how many."""
    nameless, gone = [], []
    for udid, *told, identity in conn.execute(_ALL).fetchall():
        try:
            _read((udid, *told, ""))
        except CorruptError:
            gone.append((udid,))
            continue
        try:
            _identity(identity)
        except ValueError:
            nameless.append((udid,))
    conn.executemany("UPDATE devices SET identity = '' WHERE udid = ?", nameless)
    conn.executemany("DELETE FROM devices WHERE udid = ?", gone)
    return len(nameless), len(gone)


def _read(row: tuple[Any, ...]) -> DeviceRecord:
    udid, platform, state, *told, identity = row
    try:
        return DeviceRecord(
            udid, Platform(platform), DeviceState(state), *told, **_identity(identity)
        )
    except ValueError as error:
        raise CorruptError(f"the row of device {udid} makes no sense: {error}") from error


def _identity(text: str) -> dict[str, Any]:
    known = json.loads(text) if text else {}
    if not isinstance(known, dict):
        raise ValueError("its identity is no JSON object")  # noqa: TRY004 - as the others
    found = {name: known[name] for name in _IDENTITY if name in known}
    for name, value in found.items():
        if not isinstance(value, _IDENTITY[name]):
            raise ValueError(f"the {name} in its identity is {value!r}")  # noqa: TRY004 - likewise
    return found


def _row(device: DeviceRecord) -> tuple[Any, ...]:
    identity = {name: value for name in _IDENTITY if (value := getattr(device, name))}
    return (
        device.udid,
        device.platform.value,
        device.state.value,
        device.since_ms,
        device.name,
        device.model,
        device.port,
        device.reason,
        device.holder,
        json.dumps(identity) if identity else "",
    )
