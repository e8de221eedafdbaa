"""The stored callbacks: which there are, what came of each attempt, and sending them again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from agent.clock import wall_ms
from agent.config import parse_duration
from agent.errors import StoreError, UnknownDeliveryError
from agent.model import CallbackState
from agent.service.rows import iso
from agent.store import DeliveryQuery

if TYPE_CHECKING:
    from agent.deliver.dispatcher import Dispatcher
    from agent.service.devices import Devices
    from agent.service.live import Live
    from agent.service.rows import Json
    from agent.store import DeliveryRow, Store

log = structlog.get_logger(__name__)

MAX_ROWS = 1000
"""Rows of one answer."""
ALL = 1 << 62
"""More than there can be."""


class Deliveries:
    """Asks the store; filters are text, as they stand in a query string."""

    def __init__(self, live: Live, store: Store, dispatcher: Dispatcher, devices: Devices) -> None:
        self._live = live
        self._store = store
        self._dispatcher = dispatcher
        self._devices = devices

    async def rows(self, query: dict[str, str]) -> list[Json]:
        """Rows of `/v1/deliveries`, newest first.

        Raises:
            ValueError: a filter makes no sense.
            UnknownWebhookError, UnknownDeviceError: it names none.
        """
        rows = await self._store.deliveries(self._query(query))
        return [self._row(row) for row in rows]

    async def show(self, message_id: str) -> Json:
        """One stored callback with its body and every attempt; UnknownDeliveryError."""
        rows = await self._store.deliveries(DeliveryQuery(message_id=message_id))
        if not rows:
            raise UnknownDeliveryError(
                f"no callback {message_id!r} is stored: mistyped, or older than delivery.retention"
            )
        row = rows[0]
        return {
            **self._row(row),
            "headers": dict(row.callback.headers),
            "body": row.callback.body.decode(errors="replace"),
            "tries": [
                {
                    "at": iso(attempt.started_ms),
                    "duration_ms": attempt.duration_ms,
                    "status": attempt.status,
                    "error": attempt.error,
                    "answer": attempt.answer,
                }
                for attempt in await self._store.attempts(message_id)
            ],
        }

    async def replay(self, query: dict[str, str]) -> list[str]:
        """Make all finished callbacks that match pending again, oldest first; their ids.

        Dead ones, unless the query says otherwise. Those whose webhook is gone are left alone. What
        was made pending is sent, whatever becomes of the rest.

        Raises:
            ValueError, UnknownWebhookError, UnknownDeviceError: as `rows`.
            StoreError: in the middle of it; says how many will be sent.
        """
        if "id" not in query:
            query = {"state": "dead", **query}
        wanted = self._query(query)
        if "limit" not in query:
            wanted = replace(wanted, limit=ALL)
        ids: list[str] = []
        again = self._store.revive(wanted, lambda: self._live.webhooks, self._dispatcher.notify)
        try:
            async for callback in again:
                ids.append(callback.message_id)  # noqa: PERF401 - those before an error count
        except StoreError as error:
            log.warning("deliveries.replay_broke_off", count=len(ids), reason=str(error), **query)
            raise StoreError(
                f"{len(ids)} callbacks will be sent again, the oldest that match; the others are"
                f" as they were ({error}): repeat the replay when the store is well"
            ) from error
        log.info("deliveries.replayed", count=len(ids), **query)
        return ids

    def _row(self, row: DeliveryRow) -> Json:
        callback = row.callback
        webhook = self._live.webhooks.get(callback.webhook_id)
        pending = row.state is CallbackState.PENDING
        return {
            "id": callback.message_id,
            "webhook_id": callback.webhook_id,
            "webhook_name": webhook.name if webhook else "",
            "udid": callback.udid,
            "device_state": str(callback.state) if callback.state else None,
            "created": iso(callback.created_ms),
            "state": str(row.state),
            "attempts": callback.attempts,
            "due": iso(callback.due_ms) if pending else None,
            "finished": iso(row.finished_ms or 0),
            "status": row.status,
            "error": row.error,
        }

    def _query(self, query: dict[str, str]) -> DeliveryQuery:
        unknown = set(query) - {"webhook", "device", "state", "since", "limit", "id"}
        if unknown:
            raise ValueError(f"unknown filter {min(unknown)!r}")
        state = query.get("state")
        if state is not None and state not in set(CallbackState):
            raise ValueError(f"no state {state!r}: {', '.join(CallbackState)}")
        limit = query.get("limit", "100")
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_ROWS:
            raise ValueError(f"'limit' is 1 to {MAX_ROWS}, not {limit!r}")
        return DeliveryQuery(
            webhook_id=self._live.webhook_id(query["webhook"]) if "webhook" in query else None,
            udid=self._devices.udid(query["device"]) if "device" in query else None,
            state=CallbackState(state) if state else None,
            message_id=query.get("id"),
            since_ms=_since_ms(query["since"]) if "since" in query else None,
            limit=int(limit),
        )


def _since_ms(text: str) -> int:
    """A moment: ISO 8601, or how long ago (`2h`); ValueError otherwise."""
    try:
        return wall_ms() - int(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"'since' is a time like 2026-01-31T12:00:00Z or an age like 2h, not {text!r}"
        ) from None
    return int(moment.timestamp() * 1000)
