"""Records to store, and a bounded wait for what another thread does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.model import (
    Attempt,
    Callback,
    CallbackState,
    DeviceRecord,
    DeviceState,
    Lease,
    Platform,
    Silence,
    SilenceKind,
    Transition,
)
from agent.store import DeliveryQuery
from agent.store.tables import days, meta
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    import sqlite3

    from agent.store import DeliveryRow, Store

EVERYTHING = DeliveryQuery(limit=1_000_000)


def device(
    udid: str = "phone-1", state: DeviceState = DeviceState.ONLINE, since_ms: int = 1_000
) -> DeviceRecord:
    return DeviceRecord(
        udid,
        Platform.ANDROID,
        state,
        since_ms,
        name="Galaxy",
        model="SM-N950",
        port="1-4.2",
        reason="",
        holder="alice",
    )


def transition(udid: str = "phone-1", at_ms: int = 1_000) -> Transition:
    return Transition(udid, DeviceState.OFFLINE, DeviceState.ONLINE, "back", at_ms, "alice")


def callback(
    message_id: str, webhook_id: int = 1, udid: str = "phone-1", created_ms: int = 1_000
) -> Callback:
    return Callback(
        message_id,
        webhook_id,
        udid,
        created_ms,
        body=b'{"eventType": "DEVICE", "deviceName": "Telefon \xc3\xa4"}',
        headers=(("Content-Type", "application/json"),),
        state=DeviceState.ONLINE,
    )


def attempt(message_id: str, status: int | None = 200, error: str = "") -> Attempt:
    return Attempt(message_id, 2_000, 15, status, error, answer="ok" if status == 200 else "")


def lease(lease_id: str = "l1", udid: str = "phone-1", acquired_ms: int = 5) -> Lease:
    return Lease(lease_id, udid, "alice", "manual test", acquired_ms, 30.0, 30_005)


def silence(silence_id: str = "00000001", since_ms: int = 5) -> Silence:
    return Silence(
        silence_id, SilenceKind.TAG, "rack-1", "new cables: \U0001f4a1", "alice", since_ms, 30_005
    )


async def put(
    store: Store, message_id: str, webhook_id: int = 1, udid: str = "phone-1"
) -> Callback:
    """Record one callback; returns it as stored."""
    (stored,) = await store.record(
        device(udid), transition(udid), [callback(message_id, webhook_id, udid)]
    )
    return stored


async def deliver(store: Store, stored: Callback) -> None:
    await store.callbacks.finish(stored, attempt(stored.message_id), CallbackState.DELIVERED)


async def rows(store: Store) -> dict[str, DeliveryRow]:
    """message_id → row, of all callbacks stored."""
    return {row.callback.message_id: row for row in await store.deliveries.find(EVERYTHING)}


def reckoned_up(conn: sqlite3.Connection) -> None:
    """As if all days were that are tried here, so that their transitions may go."""
    meta.enter(conn, days.ROLLED, 10_000)


async def until_rows(store: Store, wanted: set[str]) -> None:
    """Wait until exactly these callbacks are stored."""
    try:
        async with asyncio.timeout(LIMIT):
            while set(await rows(store)) != wanted:  # noqa: ASYNC110 - the writer thread's doing
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {LIMIT} s for {wanted}") from None
