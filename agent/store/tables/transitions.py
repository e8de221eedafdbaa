"""What each device went through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.model import DeviceState, Transition
from agent.store.faults import CorruptError
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from agent.store.tables.table import Access

_COLUMNS: Final = (
    "SELECT id, udid, previous, state, reason, at_ms, holder, host, why FROM transitions "
)
BEYOND_LAST: Final = 1 << 62
"""Above every id."""
_AFTER: Final = _COLUMNS + "WHERE id > ? ORDER BY id LIMIT ?"
_NEWEST: Final = "SELECT coalesce(max(id), 0) FROM transitions"
_CAUSED: Final = _COLUMNS + "WHERE id > ? AND why LIKE '%\"cause\"%' ORDER BY id DESC LIMIT ?"
_ADD: Final = """
INSERT INTO transitions (udid, previous, state, reason, at_ms, holder, host, why) VALUES {rows}
"""
_WHY: Final = ("code", "cause", "port")
"""The fields of a Transition that the column `why` holds, each where it is not empty."""
EXPIRE: Final = """
DELETE FROM transitions WHERE id IN (
    SELECT id FROM transitions AS old WHERE at_ms < ? AND id <= ? AND EXISTS (
        SELECT 1 FROM transitions AS newer WHERE newer.udid = old.udid AND newer.id > old.id
    ) ORDER BY at_ms LIMIT ?
) RETURNING id
"""


class StoredTransition(NamedTuple):
    """A transition that is durable.

    Ids grow by one from one to the next: one that is left out was deleted by the retention. Only a
    store that was made anew after corruption begins again at 1.
    """

    id: int
    transition: Transition


class Transitions:
    """The transitions' rows; they are written by `Store.record`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def newest(self) -> StoredTransition | None:
        """The last one; None: there is none."""
        return _one(await self._access.ask(every(_read, _COLUMNS + "ORDER BY id DESC LIMIT 1")))

    async def get(self, id_: int) -> StoredTransition | None:
        """The one with that id; None: it is not there (any more)."""
        return _one(await self._access.ask(every(_read, _COLUMNS + "WHERE id = ?", id_)))

    async def after(self, id_: int, limit: int) -> list[StoredTransition]:
        """Those with an id above that, in order, at most `limit`."""
        return await self._access.ask(lambda conn: after(conn, id_, limit))

    async def of(self, udid: str, limit: int, before: int | None = None) -> list[StoredTransition]:
        """The last ones of one device, newest first, at most `limit`; those before that id."""
        statement = _COLUMNS + "WHERE udid = ? AND id < ? ORDER BY id DESC LIMIT ?"
        below = BEYOND_LAST if before is None else before
        return await self._access.ask(every(_read, statement, udid, below, limit))

    async def caused(self, among: int, limit: int) -> list[StoredTransition]:
        """Those with a cause, in order; of the last so many transitions, the last `limit`."""
        return await self._access.ask(lambda conn: caused(conn, among, limit))


def caused(conn: sqlite3.Connection, among: int, limit: int) -> list[StoredTransition]:
    """See `Transitions.caused`."""
    (newest,) = conn.execute(_NEWEST).fetchone()
    return every(_read, _CAUSED, newest - among, limit)(conn)[::-1]


def add(conn: sqlite3.Connection, transitions: Iterable[Transition]) -> None:
    """Add them, in order."""
    run(conn, _ADD, [_row(transition) for transition in transitions])


def after(conn: sqlite3.Connection, id_: int, limit: int) -> list[StoredTransition]:
    """Those with an id above that, in order, at most `limit`."""
    return every(_read, _AFTER, id_, limit)(conn)


def expire(conn: sqlite3.Connection, before_ms: int, through: int, limit: int) -> list[int]:
    """Delete older ones up to that id, `limit` at most, each device's newest never; their ids."""
    return [id_ for (id_,) in conn.execute(EXPIRE, (before_ms, through, limit)).fetchall()]


def _one(found: list[StoredTransition]) -> StoredTransition | None:
    return found[0] if found else None


def _read(row: tuple[Any, ...]) -> StoredTransition:
    id_, udid, previous, state, *told, why = row
    try:
        before = None if previous is None else DeviceState(previous)
        after = DeviceState(state)
        said = _why(why)
    except ValueError as error:
        raise CorruptError(f"the row of transition {id_} makes no sense: {error}") from error
    return StoredTransition(id_, Transition(udid, before, after, *told, **said))


def _why(text: str) -> dict[str, Any]:
    """The fields of a Transition that the column `why` holds; ValueError."""
    if not text:
        return {}
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError(f"{text!r} is no JSON object")  # noqa: TRY004 - as the others
    found = {name: said[name] for name in _WHY if name in said}
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{text!r} holds what is no text")
    return found


def _row(transition: Transition) -> tuple[Any, ...]:
    why = {name: value for name in _WHY if (value := getattr(transition, name))}
    return (
        transition.udid,
        None if transition.previous is None else transition.previous.value,
        transition.state.value,
        transition.reason,
        transition.at_ms,
        transition.holder,
        transition.host,
        json.dumps(why) if why else "",
    )
