"""The stored callbacks: which there are, what came of each attempt, and sending them again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypedDict

import structlog

from agent.clock import timestamp
from agent.config import parse_duration
from agent.deliver.template import shown as shown_body
from agent.errors import StandbyError, StoreError, UnknownDeliveryError
from agent.model import CallbackState, DeviceState
from agent.service.rows import Also, Cursor, Time, cursor_of, iso, limit_of
from agent.store import DeliveryQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.clock import Clock
    from agent.deliver.dispatcher import Dispatcher
    from agent.model import Attempt
    from agent.service.devices import Devices
    from agent.service.live import Live
    from agent.store import DeliveryRow as Stored
    from agent.store import Store

log = structlog.get_logger(__name__)

MAX_ROWS = 1000
"""Rows of one answer."""
SHOWN = 100
"""Likewise, where nobody says how many."""
ALL = 1 << 62
"""More than there can be."""


_SINCE = (
    r"^([0-9]{1,4}(ms|s|m|h|d)"
    r"|20[0-9]{2}-0[1-9]-[0-2][1-8]T[01][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{3})?Z)$"
)
"""Examples enough; what is taken is more."""


class DeliveryRow(TypedDict):
    """One stored callback."""

    id: str
    """The `webhook-id` of its header."""
    webhook_id: int
    webhook_name: str
    """Empty: it is gone."""
    udid: str
    device_state: DeviceState | None
    """The state it tells of."""
    created: Time
    state: CallbackState
    attempts: int
    due: Time | None
    """Not sent before; null: at once, or it is finished."""
    finished: Time | None
    status: int | None
    """Of the last answer."""
    error: str
    """Of the last attempt."""


class AttemptRow(TypedDict):
    """One sending of it."""

    at: Time
    duration_ms: int
    status: int | None
    error: str
    answer: str
    """At most 1 KiB of it."""


class DeliveryDetail(DeliveryRow):
    """One stored callback, with its body and every attempt."""

    headers: dict[str, str]
    """Those that belong to the body."""
    body: str
    """In a secret's place, where that is."""
    tries: list[AttemptRow]


class DeliveryFilters(TypedDict, total=False):
    """Which callbacks are meant, all of it as text: in a query string, or as JSON."""

    webhook: str
    """Only to this one, by name or id."""
    device: str
    """Only about this one."""
    state: CallbackState
    """Only in this state."""
    since: Annotated[str, Also(pattern=_SINCE)]
    """Created since: a time, or an age like `2h`."""
    until: Annotated[str, Also(pattern=_SINCE)]
    """Created before: likewise."""
    id: str
    """Only this one."""


class ListFilters(DeliveryFilters, total=False):
    """Which callbacks are listed."""

    cursor: Cursor
    """Where the page before ended: its `next`."""
    limit: Annotated[int, Also(minimum=1, maximum=MAX_ROWS, default=SHOWN)]
    """At most so many."""


class DeliveryList(TypedDict):
    """Stored callbacks."""

    deliveries: list[DeliveryRow]
    next: Cursor | None
    """Of the next page; null: these were the last."""


class ReplayFilters(DeliveryFilters, total=False):
    """Which callbacks are sent again."""

    limit: Annotated[str, Also(pattern="^(1000|[1-9][0-9]{0,2})$")]
    """At most so many, 1 to 1000; else all of them."""


class Deliveries:
    """Asks the store."""

    def __init__(
        self, live: Live, store: Store, dispatcher: Dispatcher, devices: Devices, clock: Clock
    ) -> None:
        self._live = live
        self._store = store
        self._dispatcher = dispatcher
        self._devices = devices
        self._clock = clock

    async def page(self, query: Mapping[str, str]) -> DeliveryList:
        """A page of `/v1/deliveries`, newest first; `query` has keys of `ListFilters`.

        Raises:
            ValueError: a filter makes no sense.
            UnknownWebhookError, UnknownDeviceError: it names none.
        """
        wanted = self._query(query, ListFilters)
        rows = await self._store.deliveries.find(wanted._replace(limit=wanted.limit + 1))
        shown = rows[: wanted.limit]
        return {
            "deliveries": [self.row(row) for row in shown],
            "next": str(shown[-1].callback.rowid) if len(rows) > len(shown) else None,
        }

    async def show(self, message_id: str) -> DeliveryDetail:
        """One stored callback with its body and every attempt; UnknownDeliveryError."""
        rows = await self._store.deliveries.find(DeliveryQuery(message_id=message_id))
        if not rows:
            raise UnknownDeliveryError(
                f"no callback {message_id!r} is stored: mistyped, or older than delivery.retention"
            )
        row = rows[0]
        return {
            **self.row(row),
            "headers": dict(row.callback.headers),
            "body": shown_body(row.callback.body),
            "tries": [_attempt(each) for each in await self._store.attempts.of(message_id)],
        }

    async def replay(self, query: Mapping[str, str]) -> list[str]:
        """Make all finished callbacks that match pending again, oldest first; their ids.

        Dead ones, unless the query says otherwise. Those whose webhook is gone are left alone. What
        was made pending is sent, whatever becomes of the rest.

        Raises:
            ValueError, UnknownWebhookError, UnknownDeviceError: as `page`.
            StandbyError: another hub sends.
            StoreError: in the middle of it; says how many will be sent.
        """
        if "id" not in query:
            query = {"state": "dead", **query}
        wanted = self._query(query, ReplayFilters)
        if "limit" not in query:
            wanted = wanted._replace(limit=ALL)
        if not self._dispatcher.sends:
            raise StandbyError(
                "this hub sends nothing now, another one does, or none does yet: ask for it there "
                "(`device-agent status` at each says which)"
            )
        ids: list[str] = []
        again = self._store.deliveries.revive(
            wanted, lambda: self._live.webhooks, self._dispatcher.notify
        )
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

    def row(self, row: Stored) -> DeliveryRow:
        """One stored callback's."""
        callback = row.callback
        webhook = self._live.webhooks.get(callback.webhook_id)
        pending = row.state is CallbackState.PENDING
        return {
            "id": callback.message_id,
            "webhook_id": callback.webhook_id,
            "webhook_name": webhook.name if webhook else "",
            "udid": callback.udid,
            "device_state": callback.state,
            "created": timestamp(callback.created_ms),
            "state": row.state,
            "attempts": callback.attempts,
            "due": iso(callback.due_ms) if pending else None,
            "finished": iso(row.finished_ms or 0),
            "status": row.status,
            "error": row.error,
        }

    def _query(self, query: Mapping[str, str], filters: type[DeliveryFilters]) -> DeliveryQuery:
        if unknown := query.keys() - filters.__annotations__.keys():
            raise ValueError(f"unknown filter {min(unknown)!r}")
        state = query.get("state")
        if state is not None and state not in set(CallbackState):
            raise ValueError(f"no state {state!r}: {', '.join(CallbackState)}")
        now = self._clock.wall_ms()
        return DeliveryQuery(
            webhook_id=self._live.webhook_id(query["webhook"]) if "webhook" in query else None,
            udid=self._devices.udid(query["device"]) if "device" in query else None,
            state=CallbackState(state) if state else None,
            message_id=query.get("id"),
            since_ms=_moment_ms("since", query["since"], now) if "since" in query else None,
            until_ms=_moment_ms("until", query["until"], now) if "until" in query else None,
            below=cursor_of(query["cursor"]) if "cursor" in query else None,
            limit=limit_of(query, SHOWN, MAX_ROWS),
        )


def _attempt(attempt: Attempt) -> AttemptRow:
    return {
        "at": timestamp(attempt.started_ms),
        "duration_ms": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
        "answer": attempt.answer,
    }


def _moment_ms(name: str, text: str, now_ms: int) -> int:
    """A moment: ISO 8601, without a zone UTC, or how long ago (`2h`); ValueError otherwise."""
    try:
        return now_ms - int(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{name!r} is a time like 2026-01-31T12:00:00Z or an age like 2h, not {text!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
