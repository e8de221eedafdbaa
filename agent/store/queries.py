"""Each question and change of the store as one function of a connection.

They run on the writer thread, inside a transaction that is not theirs to end. Changes raise
`StoreError` for what an operator must decide, and anything that reads `CorruptError` for rows that
make no sense; sqlite3's own errors pass through.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.config.carried import InForce, carried, unsure
from agent.errors import IdTakenError
from agent.model import (
    Attempt,
    Callback,
    CallbackState,
    DeviceRecord,
    DeviceState,
    Lease,
    Platform,
    Transition,
)
from agent.store import sql
from agent.store.faults import CorruptError
from agent.store.rows import DeliveryRow, PendingLane, Revived, StoredTransition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from agent.config.carried import Carried
    from agent.store.rows import DeliveryQuery

log = structlog.get_logger(__name__)

WINDOW_ROWS = 5_000
"""How many callbacks one step of a deliveries listing looks at: a few milliseconds' worth."""
CANCEL_ROWS = 2_000
"""How many callbacks one change cancels: tens of milliseconds' worth."""
REVIVE_ROWS = 500
"""How many callbacks one change makes pending again."""
BATCH = "batch"
WEBHOOK_FLOOR = "webhook_floor"
_NO_HEADERS = "[]"

TransitionColumns = tuple[int, str, str | None, str, str, int, str]
CallbackColumns = tuple[str, int, str, int, bytes, str, str | None, int, int, int]


def get_meta(conn: sqlite3.Connection, key: str) -> int:
    """One of the store's own numbers."""
    (value,) = conn.execute(sql.GET_META, (key,)).fetchone()
    return int(value)


def put_meta(conn: sqlite3.Connection, key: str, value: int) -> None:
    """Set one of the store's own numbers."""
    conn.execute(sql.PUT_META, (value, key))


def devices(conn: sqlite3.Connection) -> list[DeviceRecord]:
    """All devices ever seen, by UDID."""
    try:
        return [_device(row) for row in conn.execute(sql.DEVICES)]
    except ValueError as error:
        raise CorruptError(f"a device's row makes no sense: {error}") from error


_IDENTITY: Final = ("path", "address", "serial", "shared", "ways")
"""The fields of a DeviceRecord that the column `identity` holds, each where it is not empty."""


def _device(row: tuple[Any, ...]) -> DeviceRecord:
    udid, platform, state, *told, identity = row
    known = json.loads(identity) if identity else {}
    if not isinstance(known, dict):
        raise ValueError(f"{udid}: its identity is no JSON object")  # noqa: TRY004 - as the others
    return DeviceRecord(
        udid,
        Platform(platform),
        DeviceState(state),
        *told,
        **{name: known[name] for name in _IDENTITY if name in known},
    )


def record(
    conn: sqlite3.Connection,
    device: DeviceRecord,
    transition: Transition | None,
    callbacks: tuple[Callback, ...],
) -> tuple[Callback, ...]:
    """Put the device's row, add the transition and its callbacks; returns them with their ids."""
    _put_device(conn, device)
    if transition is not None:
        _one(conn, sql.ADD_TRANSITION, transition_row(transition))
    if not callbacks:
        return ()
    (last,) = conn.execute(sql.LAST_CALLBACK).fetchone()
    stored = with_rowids(callbacks, last + 1)
    for each in stored:
        _one(conn, sql.ADD_CALLBACK, callback_row(each))
    return stored


def last_transition(conn: sqlite3.Connection) -> tuple[int, int]:
    """Id and time in ms of the newest transition; (0, 0) where there is none."""
    row = conn.execute(sql.LAST_TRANSITION).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def transition_time(conn: sqlite3.Connection, id_: int) -> int | None:
    """When that transition was, in ms; None: it is not there (any more)."""
    row = conn.execute(sql.TRANSITION_TIME, (id_,)).fetchone()
    return None if row is None else int(row[0])


def transitions_after(conn: sqlite3.Connection, after: int, limit: int) -> list[StoredTransition]:
    """Transitions with an id above `after`, in order."""
    return [_transition(row) for row in conn.execute(sql.TRANSITIONS_AFTER, (after, limit))]


def transitions_of(conn: sqlite3.Connection, udid: str, limit: int) -> list[StoredTransition]:
    """The last transitions of one device, newest first."""
    return [_transition(row) for row in conn.execute(sql.TRANSITIONS_OF_DEVICE, (udid, limit))]


def _transition(row: TransitionColumns) -> StoredTransition:
    id_, udid, previous, state, reason, at_ms, holder = row
    try:
        before = None if previous is None else DeviceState(previous)
        after = DeviceState(state)
    except ValueError as error:
        raise CorruptError(f"the row of transition {id_} makes no sense: {error}") from error
    return StoredTransition(id_, Transition(udid, before, after, reason, at_ms, holder))


def _put_device(conn: sqlite3.Connection, device: DeviceRecord) -> None:
    _one(conn, sql.PUT_DEVICE, device_row(device))


def _one(conn: sqlite3.Connection, statement: str, row: tuple[Any, ...]) -> sqlite3.Cursor:
    return conn.execute(sql.for_rows(statement, len(row), 1), row)


def device_row(device: DeviceRecord) -> tuple[Any, ...]:
    """A row of PUT_DEVICE."""
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


def transition_row(transition: Transition) -> tuple[Any, ...]:
    """A row of ADD_TRANSITION."""
    return (
        transition.udid,
        None if transition.previous is None else transition.previous.value,
        transition.state.value,
        transition.reason,
        transition.at_ms,
        transition.holder,
    )


def callback_row(callback: Callback) -> tuple[Any, ...]:
    """A row of ADD_CALLBACK; the callback carries its id."""
    return (
        callback.rowid,
        callback.message_id,
        callback.webhook_id,
        callback.udid,
        callback.created_ms,
        callback.body,
        _headers(callback.headers),
        None if callback.state is None else callback.state.value,
        callback.attempts,
        callback.due_ms,
        "pending",
    )


@lru_cache(maxsize=64)
def _headers(headers: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(headers) if headers else _NO_HEADERS


def attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    """A row of ADD_ATTEMPTS, without the callback's id and message id."""
    return (
        attempt.started_ms,
        attempt.duration_ms,
        attempt.status,
        attempt.error,
        attempt.answer,
    )


def with_rowids(callbacks: Iterable[Callback], first: int) -> tuple[Callback, ...]:
    """The callbacks with ids, counted up from `first`."""
    return tuple(
        # Three times as fast as `dataclasses.replace`, and done for every callback.
        Callback(
            each.message_id,
            each.webhook_id,
            each.udid,
            each.created_ms,
            each.body,
            each.headers,
            each.state,
            rowid,
            each.attempts,
            each.due_ms,
        )
        for rowid, each in enumerate(callbacks, start=first)
    )


def finish(
    conn: sqlite3.Connection,
    callback: Callback,
    attempt: Attempt | None,
    state: CallbackState,
    due_ms: int,
    now: int,
) -> int:
    """Record the attempt and move the callback to `state`; returns by how much more is pending.

    With an attempt, a callback that is no longer pending (its webhook was deleted meanwhile) is
    not made pending again. A callback the store no longer has is said in the log and ignored.
    """
    key = (callback.rowid, callback.message_id)
    if attempt is not None:
        _one(conn, sql.ADD_ATTEMPTS, (*key, *attempt_row(attempt)))
    made = 0 if attempt is None else 1
    finished_ms = None if state is CallbackState.PENDING else now
    is_pending = int(state is CallbackState.PENDING)
    change = (made, state.value, due_ms, finished_ms, *key)
    if conn.execute(sql.FINISH_PENDING, change).rowcount:
        return is_pending - 1
    if conn.execute(sql.FINISH, change).rowcount:
        return is_pending
    if made and conn.execute(sql.COUNT_ATTEMPT, key).rowcount:
        return 0
    log.warning(
        "store.callback_unknown",
        message_id=callback.message_id,
        webhook_id=callback.webhook_id,
        device=callback.udid,
        state=state.value,
        hint="its row was deleted or lost to corruption; nothing to update",
    )
    return 0


def _callback(row: CallbackColumns) -> Callback:
    message_id, webhook_id, udid, created_ms, body, headers, state, rowid, attempts, due_ms = row
    try:
        return Callback(
            message_id=message_id,
            webhook_id=webhook_id,
            udid=udid,
            created_ms=created_ms,
            body=body,
            headers=read_headers(headers),
            state=None if state is None else DeviceState(state),
            rowid=rowid,
            attempts=attempts,
            due_ms=due_ms,
        )
    except ValueError as error:
        # SQLite has no checksums: damage inside a value is found by whoever reads it.
        raise CorruptError(f"the row of callback {rowid} makes no sense: {error}") from error


def read_headers(text: str) -> tuple[tuple[str, str], ...]:
    """A callback's headers as they are stored; ValueError."""
    if text == _NO_HEADERS:
        return ()
    try:
        return tuple((str(name), str(value)) for name, value in json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from None


def lanes(conn: sqlite3.Connection) -> list[PendingLane]:
    """One per (webhook, device) with pending callbacks; O(lanes)."""
    heads = [_callback(row) for row in conn.execute(sql.LANES)]
    return [PendingLane(head.webhook_id, head.udid, head) for head in heads]


def pending(
    conn: sqlite3.Connection, webhook_id: int, udid: str, after: int, limit: int
) -> list[Callback]:
    """Pending callbacks of one lane with an id above `after`, in order."""
    return [_callback(row) for row in conn.execute(sql.PENDING, (webhook_id, udid, after, limit))]


def backlog(conn: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Of each webhook with pending callbacks: how many, and when the first was created."""
    return {webhook: (size, created) for webhook, size, created in conn.execute(sql.BACKLOG)}


def retain_webhooks(
    conn: sqlite3.Connection, keep: frozenset[int], now: int
) -> list[tuple[int, int]]:
    """The webhooks in `keep` are in force from now on; what is pending for others is cancelled.

    CANCEL_ROWS callbacks at most. Returns how many of which webhook; fewer than CANCEL_ROWS
    together: that was all.
    """
    if {id_ for (id_,) in conn.execute(sql.IDS_IN_FORCE)} != keep:
        conn.execute(sql.NONE_IN_FORCE)
        conn.executemany(sql.IN_FORCE, [(id_,) for id_ in keep])
    gone = [webhook for (webhook,) in conn.execute(sql.PENDING_WEBHOOKS) if webhook not in keep]
    cancelled = []
    room = CANCEL_ROWS
    for webhook in gone:
        count = conn.execute(sql.CANCEL, (now, webhook, room)).rowcount
        cancelled.append((webhook, count))
        room -= count
    return cancelled


def supersede(conn: sqlite3.Connection, webhook_id: int, udid: str, now: int) -> int:
    """Cancel all that one lane has pending but the newest; CANCEL_ROWS at most. How many."""
    return conn.execute(sql.SUPERSEDE, (now, webhook_id, udid, CANCEL_ROWS)).rowcount


def last_id(conn: sqlite3.Connection) -> int:
    """The newest callback's id; 0 where there is none."""
    return int(conn.execute(sql.LAST_ID).fetchone()[0])


def revive(
    conn: sqlite3.Connection,
    query: DeliveryQuery,
    webhooks: frozenset[int],
    after: int,
    limit: int,
) -> Revived:
    """Make finished callbacks of these webhooks that match pending again, oldest first.

    Looks at the WINDOW_ROWS ids above `after`, and takes REVIVE_ROWS or `limit` of them at most.
    """
    window = conn.execute(sql.WINDOW_UP, (after, WINDOW_ROWS - 1)).fetchone()
    high = last_id(conn) if window is None else int(window[0])
    limit = min(limit, REVIVE_ROWS)
    found = conn.execute(
        sql.FINISHED, {**_filters(query), "low": after, "high": high, "limit": limit}
    )
    rows = [_callback(row) for row in found]
    again = tuple(row for row in rows if row.webhook_id in webhooks)
    conn.executemany(sql.REVIVE, [(row.rowid,) for row in again])
    return Revived(again, rows[-1].rowid if len(rows) == limit else high)


def webhook_ids(
    conn: sqlite3.Connection, wanted: Sequence[tuple[int, str, int | None]]
) -> list[int]:
    """The ids of all webhooks of a configuration (org, name, explicit id or None).

    Explicit ids first: one of them must not be given to a name that stands above it in the file. An
    explicit id whose webhook is in force by a name that the configuration has no more stays that
    webhook's, under its new name; the id of one that is not in force is nobody else's. One without
    an explicit id that has another organisation than before, and nothing else new, is the same.
    """
    names = {(org_id, name) for org_id, name, _ in wanted}
    for org_id, name, explicit in wanted:
        if explicit is not None:
            _take_explicit(conn, org_id, name, explicit, names)
    for moved in _carried(conn, wanted):
        (old,) = moved.old
        log.warning(
            "webhook.moved",
            webhook=moved.name,
            id=old.id,
            org_id=moved.org_id,
            before=old.org_id,
            hint="it keeps its id, and what waits for it",
        )
        conn.execute(sql.NOT_GIVEN, (moved.org_id, moved.name))
        conn.execute(sql.MOVE_WEBHOOK, (moved.org_id, old.id))
    return [
        _given(conn, org_id, name) if explicit is None else explicit
        for org_id, name, explicit in wanted
    ]


def known_webhook_ids(
    conn: sqlite3.Connection, wanted: Sequence[tuple[int, str, int | None]]
) -> list[int] | None:
    """The same, where nothing has to be written for it; None otherwise."""
    if _carried(conn, wanted):
        return None
    ids = []
    for org_id, name, explicit in wanted:
        known = conn.execute(sql.WEBHOOK_OF_NAME, (org_id, name)).fetchone()
        if known is None or explicit not in {None, known[0]}:
            return None
        ids.append(int(known[0]))
    return ids


def _carried(
    conn: sqlite3.Connection, wanted: Sequence[tuple[int, str, int | None]]
) -> list[Carried]:
    """Raises IdTakenError where it cannot be told which webhook is meant."""
    found = carried(map(InForce._make, conn.execute(sql.WEBHOOKS_IN_FORCE)), wanted)
    for each in found:
        if not each.sure:
            raise IdTakenError(unsure(each))
    return found


def _take_explicit(
    conn: sqlite3.Connection, org_id: int, name: str, wish: int, names: set[tuple[int, str]]
) -> None:
    owner = conn.execute(sql.WEBHOOK_OF_ID, (wish,)).fetchone()
    if owner is None:
        conn.execute(sql.TAKE_WEBHOOK, (wish, org_id, name, 1))
    elif owner[:2] == (org_id, name):
        conn.execute(sql.TAKE_WEBHOOK_AGAIN, (wish,))
    elif owner[2] and owner[:2] not in names:
        conn.execute(sql.RENAME_WEBHOOK, (org_id, name, wish))
    else:
        raise IdTakenError(
            f"webhook {name!r} (org {org_id}) asks for id {wish}, but that id belongs to webhook"
            f" {owner[1]!r} (org {owner[0]}), and ids are never used twice, not even after a"
            " webhook was deleted. Give it another id, or leave the id out to be given one."
        )


def _given(conn: sqlite3.Connection, org_id: int, name: str) -> int:
    known = conn.execute(sql.WEBHOOK_OF_NAME, (org_id, name)).fetchone()
    if known is not None:
        return int(known[0])
    (last,) = conn.execute(sql.LAST_GIVEN).fetchone()
    free: int = max(last, get_meta(conn, WEBHOOK_FLOOR)) + 1
    while conn.execute(sql.WEBHOOK_OF_ID, (free,)).fetchone() is not None:
        free += 1
    conn.execute(sql.TAKE_WEBHOOK, (free, org_id, name, 0))
    return free


def leases(conn: sqlite3.Connection) -> list[Lease]:
    """All leases, oldest first."""
    return [Lease(*row) for row in conn.execute(sql.LEASES)]


def put_lease(conn: sqlite3.Connection, lease: Lease) -> None:
    """Add the lease, or replace the one with its id."""
    conn.execute(
        sql.PUT_LEASE,
        (
            lease.id,
            lease.udid,
            lease.holder,
            lease.purpose,
            lease.acquired_ms,
            lease.ttl,
            lease.expires_ms,
            lease.taken,
        ),
    )


def delete_lease(conn: sqlite3.Connection, lease_id: str) -> None:
    """Delete the lease, if there is one with that id."""
    conn.execute(sql.DELETE_LEASE, (lease_id,))


def window_low(conn: sqlite3.Connection, high: int) -> int:
    """The lowest id of the WINDOW_ROWS callbacks below `high`; 0 when that reaches the first."""
    row = conn.execute(sql.WINDOW, (high, WINDOW_ROWS - 1)).fetchone()
    return 0 if row is None else int(row[0])


def id_of_message(conn: sqlite3.Connection, message_id: str) -> int | None:
    """The callback's id, or None."""
    row = conn.execute(sql.ID_OF_MESSAGE, (message_id,)).fetchone()
    return None if row is None else int(row[0])


def deliveries(
    conn: sqlite3.Connection, query: DeliveryQuery, low: int, high: int, limit: int
) -> list[DeliveryRow]:
    """Callbacks that match, with low <= id < high, newest first."""
    rows = conn.execute(
        sql.DELIVERIES, {**_filters(query), "low": low, "high": high, "limit": limit}
    )
    return [
        DeliveryRow(_callback(row[:10]), CallbackState(row[10]), row[11], row[12], row[13])
        for row in rows
    ]


def _filters(query: DeliveryQuery) -> dict[str, Any]:
    return {
        "webhook_id": query.webhook_id,
        "udid": query.udid,
        "state": None if query.state is None else query.state.value,
        "message_id": query.message_id,
        "since_ms": query.since_ms,
    }


def attempts(conn: sqlite3.Connection, message_id: str) -> list[Attempt]:
    """All attempts of one callback, in order."""
    return [Attempt(*row) for row in conn.execute(sql.ATTEMPTS, (message_id,))]
