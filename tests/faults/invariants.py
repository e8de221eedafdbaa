"""What must hold whatever failed: every stored callback arrives, whole, in order, and only those.

Checked from both sides: the store's transitions against its callbacks, and the store's callbacks
against what a receiver got.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.model import DeviceState
from agent.track.derive import CALLS_BACK

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping

    from tests.fakes.receiver import Receiver

EVERY_EVENT = frozenset(str(state) for state in DeviceState)


def check_that_all_callbacks_were_stored(
    store: sqlite3.Connection, webhooks: Mapping[int, Collection[str]]
) -> None:
    """A transition and its callbacks are one transaction: neither is there without the other.

    Args:
        store: the agent's, stopped, with its whole history, and everything delivered.
        webhooks: id → the events it listens for.
    """
    transitions = store.execute("SELECT udid, previous, state FROM transitions ORDER BY id")
    expected = dict.fromkeys(webhooks, 0)
    last: dict[str, str] = {}
    for udid, previous, state in transitions:
        assert previous == last.get(udid), "each transition starts where the last one ended"
        last[udid] = state
        if (DeviceState(previous) if previous else None, DeviceState(state)) in CALLS_BACK:
            for webhook_id, events in webhooks.items():
                expected[webhook_id] += state in events
    assert all(expected.values()), expected
    stored = dict(store.execute("SELECT webhook_id, count(*) FROM callbacks GROUP BY webhook_id"))
    assert stored == expected
    assert last == dict(store.execute("SELECT udid, state FROM devices"))
    states = store.execute("SELECT DISTINCT state FROM callbacks").fetchall()
    assert states == [("delivered",)]


def check_that_all_arrived_in_order(
    store: sqlite3.Connection, webhook_id: int, receiver: Receiver
) -> int:
    """By first arrival: every stored message, nothing else, each device's in the stored order.

    Returns how many requests were repetitions, all of them byte for byte.
    """
    arrived: dict[str, list[str]] = {}
    bodies: dict[str, bytes] = {}
    for request in receiver.requests:
        message_id = request.headers["webhook-id"]
        if message_id not in bodies:
            arrived.setdefault(json.loads(request.body)["deviceUdid"], []).append(message_id)
        assert bodies.setdefault(message_id, request.body) == request.body
    assert arrived == stored_order(store, webhook_id)
    return len(receiver.requests) - len(bodies)


def stored_order(store: sqlite3.Connection, webhook_id: int) -> dict[str, list[str]]:
    """Udid → its message ids, oldest first."""
    stored: dict[str, list[str]] = {}
    rows = store.execute(
        "SELECT udid, message_id FROM callbacks WHERE webhook_id = ? ORDER BY id", (webhook_id,)
    )
    for udid, message_id in rows:
        stored.setdefault(udid, []).append(message_id)
    return stored


def told(receiver: Receiver) -> dict[str, list[str]]:
    """Udid → the states the receiver was told of, in order; repetitions left out."""
    first: dict[str, bytes] = {}
    for request in receiver.requests:
        assert first.setdefault(request.headers["webhook-id"], request.body) == request.body
    states: dict[str, list[str]] = {}
    for body in map(json.loads, first.values()):
        states.setdefault(body["deviceUdid"], []).append(body["eventDescription"].lower())
    return states
