"""All SQL that the running store speaks, by name. The tables are in `schema/*.sql`.

`{rows}` stands for one row of parameters or many: `(?, ?), (?, ?)`; see `bulk`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
SAVEPOINT: Final = "SAVEPOINT one"
RELEASE: Final = "RELEASE one"
ROLLBACK_TO: Final = "ROLLBACK TO one"

GET_META: Final = "SELECT value FROM meta WHERE key = ?"
PUT_META: Final = "UPDATE meta SET value = ? WHERE key = ?"

DEVICES: Final = """
SELECT udid, platform, state, since_ms, name, model, port, reason, holder, identity
FROM devices ORDER BY udid
"""
PUT_DEVICE: Final = """
INSERT INTO devices (udid, platform, state, since_ms, name, model, port, reason, holder, identity)
VALUES {rows}
ON CONFLICT (udid) DO UPDATE SET
    platform = excluded.platform, state = excluded.state, since_ms = excluded.since_ms,
    name = excluded.name, model = excluded.model, port = excluded.port,
    reason = excluded.reason, holder = excluded.holder,
    identity = excluded.identity
"""

ADD_TRANSITION: Final = """
INSERT INTO transitions (udid, previous, state, reason, at_ms, holder) VALUES {rows}
"""

LAST_TRANSITION: Final = "SELECT id, at_ms FROM transitions ORDER BY id DESC LIMIT 1"
TRANSITIONS_AFTER: Final = """
SELECT id, udid, previous, state, reason, at_ms, holder FROM transitions
WHERE id > ? ORDER BY id LIMIT ?
"""
TRANSITION_TIME: Final = "SELECT at_ms FROM transitions WHERE id = ?"
TRANSITIONS_OF_DEVICE: Final = """
SELECT id, udid, previous, state, reason, at_ms, holder FROM transitions
WHERE udid = ? ORDER BY id DESC LIMIT ?
"""

# Ids are given by the writer, the only one who does: a statement for many rows tells none.
LAST_CALLBACK: Final = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'callbacks'), 0)"
)
ADD_CALLBACK: Final = """
INSERT INTO callbacks (id, message_id, webhook_id, udid, created_ms, body, headers, device_state,
                       attempts, due_ms, state)
VALUES {rows}
"""
# `state = 'pending'` stands literally wherever it should be answered by the partial index.
PENDING: Final = """
SELECT message_id, webhook_id, udid, created_ms, body, headers, device_state, id, attempts, due_ms
FROM callbacks
WHERE state = 'pending' AND webhook_id = ? AND udid = ? AND id > ? ORDER BY id LIMIT ?
"""
# A loose index scan: from the head of one lane a seek or two find the head of the next.
# (SQLite would use only the first column of a row value's comparison.)
LANES: Final = """
WITH RECURSIVE head (webhook_id, udid, id) AS (
    SELECT * FROM (
        SELECT webhook_id, udid, id FROM callbacks WHERE state = 'pending'
        ORDER BY webhook_id, udid, id LIMIT 1
    )
    UNION ALL
    SELECT next.webhook_id, next.udid, next.id FROM head CROSS JOIN callbacks AS next
    WHERE next.id = coalesce(
        (SELECT id FROM callbacks
         WHERE state = 'pending' AND webhook_id = head.webhook_id AND udid > head.udid
         ORDER BY udid, id LIMIT 1),
        (SELECT id FROM callbacks
         WHERE state = 'pending' AND webhook_id > head.webhook_id
         ORDER BY webhook_id, udid, id LIMIT 1)
    )
)
SELECT c.message_id, c.webhook_id, c.udid, c.created_ms, c.body, c.headers, c.device_state, c.id,
       c.attempts, c.due_ms
FROM head CROSS JOIN callbacks AS c ON c.id = head.id
ORDER BY c.webhook_id, c.udid
"""
BACKLOG: Final = """
SELECT pile.webhook_id, pile.size, oldest.created_ms FROM (
    SELECT webhook_id, count(*) AS size, min(id) AS id FROM callbacks
    WHERE state = 'pending' GROUP BY webhook_id
) AS pile CROSS JOIN callbacks AS oldest ON oldest.id = pile.id
"""

# Rows: id, message id, started, duration, status, error, answer.
ADD_ATTEMPTS: Final = """
INSERT INTO attempts (callback_id, number, started_ms, duration_ms, status, error, answer)
SELECT c.id, c.attempts + 1, new.column3, new.column4, new.column5, new.column6, new.column7
FROM (VALUES {rows}) AS new CROSS JOIN callbacks AS c
ON c.id = new.column1 AND c.message_id = new.column2
"""
# First as the pending one that it nearly always is, so that it is known whether it was.
FINISH_PENDING: Final = """
UPDATE callbacks SET attempts = attempts + ?1, state = ?2, due_ms = ?3, finished_ms = ?4
WHERE id = ?5 AND message_id = ?6 AND state = 'pending'
"""
# Rows: id, message id, state, due, finished. `+`: by the id, not by the index of what is pending.
FINISH_ALL_PENDING: Final = """
UPDATE callbacks
SET attempts = attempts + 1, state = new.column3, due_ms = new.column4, finished_ms = new.column5
FROM (VALUES {rows}) AS new
WHERE callbacks.id = new.column1 AND message_id = new.column2 AND +callbacks.state = 'pending'
"""
# A retry's outcome (made > 0) never revives a callback that was cancelled meanwhile; a replay
# (no attempt) does.
FINISH: Final = """
UPDATE callbacks SET attempts = attempts + ?1, state = ?2, due_ms = ?3, finished_ms = ?4
WHERE id = ?5 AND message_id = ?6 AND (?1 = 0 OR ?4 IS NOT NULL)
"""
COUNT_ATTEMPT: Final = (
    "UPDATE callbacks SET attempts = attempts + 1 WHERE id = ? AND message_id = ?"
)
PENDING_WEBHOOKS: Final = """
WITH RECURSIVE seen (id) AS (
    SELECT min(webhook_id) FROM callbacks WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(webhook_id) FROM callbacks WHERE state = 'pending' AND webhook_id > seen.id)
    FROM seen WHERE seen.id IS NOT NULL
)
SELECT id FROM seen WHERE id IS NOT NULL
"""
CANCEL: Final = """
UPDATE callbacks SET state = 'cancelled', finished_ms = ?
WHERE id IN (SELECT id FROM callbacks WHERE state = 'pending' AND webhook_id = ? LIMIT ?)
"""

# Of one lane all but the newest, oldest first.
SUPERSEDE: Final = """
UPDATE callbacks SET state = 'cancelled', finished_ms = ?1
WHERE id IN (
    SELECT id FROM callbacks WHERE state = 'pending' AND webhook_id = ?2 AND udid = ?3 AND id < (
        SELECT max(id) FROM callbacks WHERE state = 'pending' AND webhook_id = ?2 AND udid = ?3
    ) ORDER BY id LIMIT ?4
)
"""

WEBHOOK_OF_ID: Final = "SELECT org_id, name, in_force FROM webhooks WHERE id = ?"
TAKE_WEBHOOK: Final = """
INSERT INTO webhooks (id, org_id, name, explicit, taken)
SELECT ?, ?, ?, ?, 1 + coalesce(max(taken), 0) FROM webhooks
"""
TAKE_WEBHOOK_AGAIN: Final = """
UPDATE webhooks SET taken = 1 + (SELECT max(taken) FROM webhooks) WHERE id = ?
"""
RENAME_WEBHOOK: Final = """
UPDATE webhooks
SET org_id = ?, name = ?, explicit = 1, taken = 1 + (SELECT max(taken) FROM webhooks)
WHERE id = ?
"""
IDS_IN_FORCE: Final = "SELECT id FROM webhooks WHERE in_force = 1"
WEBHOOKS_IN_FORCE: Final = "SELECT id, org_id, name FROM webhooks WHERE in_force = 1"
# What the name once had stands back behind what comes to it now.
NOT_GIVEN: Final = "UPDATE webhooks SET explicit = 1 WHERE org_id = ? AND name = ?"
MOVE_WEBHOOK: Final = """
UPDATE webhooks SET org_id = ?, taken = 1 + (SELECT max(taken) FROM webhooks) WHERE id = ?
"""
NONE_IN_FORCE: Final = "UPDATE webhooks SET in_force = 0 WHERE in_force = 1"
IN_FORCE: Final = "UPDATE webhooks SET in_force = 1 WHERE id = ?"
# The id given to the name; for one that always had explicit ids, the last of those.
WEBHOOK_OF_NAME: Final = """
SELECT id FROM webhooks WHERE org_id = ? AND name = ? ORDER BY explicit, taken DESC LIMIT 1
"""
LAST_GIVEN: Final = "SELECT coalesce(max(id), 0) FROM webhooks WHERE explicit = 0"

LEASES: Final = """
SELECT id, udid, holder, purpose, acquired_ms, ttl, expires_ms, taken FROM leases
ORDER BY acquired_ms, id
"""
PUT_LEASE: Final = """
INSERT OR REPLACE INTO leases (id, udid, holder, purpose, acquired_ms, ttl, expires_ms, taken)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
DELETE_LEASE: Final = "DELETE FROM leases WHERE id = ?"

# Deliveries are looked through in windows of ids, newest first, so that no question about a long
# history holds up commits: this is the lowest id of the window below `?`.
WINDOW: Final = "SELECT id FROM callbacks WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"
DELIVERIES: Final = """
SELECT c.message_id, c.webhook_id, c.udid, c.created_ms, c.body, c.headers, c.device_state, c.id,
       c.attempts, c.due_ms, c.state, c.finished_ms, a.status, coalesce(a.error, '')
FROM callbacks AS c LEFT JOIN attempts AS a ON a.callback_id = c.id AND a.number = c.attempts
WHERE c.id >= :low AND c.id < :high
  AND (:webhook_id IS NULL OR c.webhook_id = :webhook_id)
  AND (:udid IS NULL OR c.udid = :udid)
  AND (:state IS NULL OR c.state = :state)
  AND (:message_id IS NULL OR c.message_id = :message_id)
  AND (:since_ms IS NULL OR c.created_ms >= :since_ms)
ORDER BY c.id DESC LIMIT :limit
"""
LAST_ID: Final = "SELECT coalesce(max(id), 0) FROM callbacks"
# The same windows, upwards, and what is finished in them.
WINDOW_UP: Final = "SELECT id FROM callbacks WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
FINISHED: Final = """
SELECT message_id, webhook_id, udid, created_ms, body, headers, device_state, id, attempts, 0
FROM callbacks
WHERE id > :low AND id <= :high AND state <> 'pending'
  AND (:webhook_id IS NULL OR webhook_id = :webhook_id)
  AND (:udid IS NULL OR udid = :udid)
  AND (:state IS NULL OR state = :state)
  AND (:message_id IS NULL OR message_id = :message_id)
  AND (:since_ms IS NULL OR created_ms >= :since_ms)
ORDER BY id LIMIT :limit
"""
REVIVE: Final = """
UPDATE callbacks SET state = 'pending', due_ms = 0, finished_ms = NULL WHERE id = ?
"""
ID_OF_MESSAGE: Final = "SELECT id FROM callbacks WHERE message_id = ?"
ATTEMPTS: Final = """
SELECT c.message_id, a.started_ms, a.duration_ms, a.status, a.error, a.answer
FROM callbacks AS c JOIN attempts AS a ON a.callback_id = c.id
WHERE c.message_id = ? ORDER BY a.number
"""

EXPIRE_CALLBACKS: Final = """
DELETE FROM callbacks WHERE id IN (
    SELECT id FROM callbacks WHERE finished_ms < ? ORDER BY finished_ms LIMIT ?
)
"""
EXPIRE_TRANSITIONS: Final = """
DELETE FROM transitions WHERE id IN (
    SELECT id FROM transitions AS old WHERE at_ms < ? AND EXISTS (
        SELECT 1 FROM transitions AS newer WHERE newer.udid = old.udid AND newer.id > old.id
    ) ORDER BY at_ms LIMIT ?
)
"""


@lru_cache(maxsize=64)
def for_rows(statement: str, width: int, rows: int) -> str:
    """The statement with its `{rows}` filled in."""
    return statement.format(rows=", ".join([f"({', '.join('?' * width)})"] * rows))
