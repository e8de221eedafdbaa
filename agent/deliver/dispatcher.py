"""Moves stored callbacks to their endpoints: in order per (webhook, device), at least once.

A *lane* is one (webhook, device). The store holds its pending callbacks; in memory it holds at
most PREFETCH of them, or none and the mark `more`: ask the store. A lane is in exactly one stage:

    READY    in its webhook's queue, waiting for one of the webhook's slots
    BUSY     a task loads its head and sends it, then the store makes the outcome durable
    WAITING  its head failed; its webhook's timer makes it READY again

and is forgotten when nothing is pending. There is no task per lane and nothing polls: an idle
dispatcher runs no code at all. A webhook has `concurrency` slots, given out first come, first
served; a slot is free again when the answer is there, and the lane goes on when its outcome is
durable: a task goes from one ready lane to the next and waits for no commit, the store calls back.
Outcomes not yet durable are bounded too, so a slow disk slows sending down instead of piling up
duplicates for the next start.

**Nothing grows with what waits.** Python's garbage collector looks through every object that may be
part of a cycle, with the loop standing still meanwhile; a hundred webhooks that are down have a
hundred thousand lanes. So a lane that holds nothing is *parked*: a tuple of numbers in its webhook,
which the collector passes over, and has no timer of its own. From `held` callbacks in memory on
lanes take none as they come, and load FEWEST; of a failing webhook none are taken at all. And in
one turn of the loop no more than BEGIN attempts begin: webhooks whose probes are all due at once
take turns.

**Order, under `notify` racing loads.** Rows get their rowids in commit order, and within one lane
`notify` is called in that order, after the commit. Then:

1. While a lane is known and not `more`, its list is exactly its pending rows committed and
   notified so far, in order, without the head in flight: a row above `tail` is appended; if the
   list is full, or while the lane is `more`, the row is not taken, and `more` brings it later.
2. A load asks for the lane's *first* pending rows, not for those behind some position. It runs
   only in stage BUSY with an empty list, after the previous head's outcome is durable, so what
   it returns starts with the true head. A row committed after the load has read, but notified
   before the load returns, is above its last row: `seen` tells, and the lane stays `more`. A row
   notified after the load returned, but that the load already read, is at or below `tail`: it is
   found in the list, or it was sent already and the lane is loaded anew, which finds only what is
   pending. Either way nothing is sent twice, left out or overtaken.
3. A lane that is not known has no pending row but those not yet notified: lanes are forgotten
   only when their list is empty and they are not `more`; and until `start` has taken the
   store's lanes in, `notify` only notes which lanes to load.

4. Every `await` may take long, and anything may happen meanwhile: rows are notified, the webhook
is edited, disabled, paused or found failing, all of it stops. So whatever was asked before an
await is asked again after it (`_choose`), a lane's list changes only by methods of the lane, and
what an attempt learns of its webhook counts only if the webhook was not edited since (`edition`,
which an equal webhook of a new configuration leaves alone).

**Failing webhooks.** From the first failure that no success followed, an endpoint is probed: at
least every 15 s in the first 10 minutes, and every minute in the first hour, the lane that has
waited longest is sent before its due time (but none whose endpoint asked for the delay). After
BREAK_AFTER failures in a row a webhook gets one slot instead of `concurrency`; its first success
gives the others back and wakes the lanes that wait for a retry (with the same exception), oldest
head first. From then until nothing of it is pending it is sent `drain_rate` callbacks a second at
most. Answer 410 pauses a webhook: nothing is sent until a probe is due or it is edited.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog

from agent.clock import wall_ms
from agent.deliver.policy import (
    LONGEST,
    Dead,
    Delivered,
    Paused,
    Retry,
    decide,
    due_in,
    failure_kind,
    probe_every,
    step_of,
)
from agent.errors import StoreError
from agent.histogram import Histogram
from agent.model import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config import Delivery, Webhook
    from agent.deliver.client import Client
    from agent.deliver.policy import Answer, Decision
    from agent.histogram import Tally
    from agent.model import Callback
    from agent.store import Callbacks

log = structlog.get_logger(__name__)

PREFETCH: Final = 32
"""Callbacks a lane holds in memory at most."""
FEWEST: Final = 2
"""Callbacks that are loaded where memory is full: the head, and whether there is another."""
HELD: Final = 4096
"""Callbacks in memory from which on lanes leave theirs in the store."""
BEGIN: Final = 16
"""Attempts that begin in one turn of the loop at most; each takes a millisecond of it, in all."""
BREAK_AFTER: Final = 5
"""Failures in a row after which a webhook is failing."""
UNRECORDED: Final = 4
"""Times `concurrency`: a webhook's callbacks in flight or with an outcome not yet durable."""
OVERDUE: Final = 30.0
"""Seconds past its limit after which an attempt that still runs shows that something is stuck."""
JUMP_MS: Final = 60_000
"""The wall clock is ahead of the monotonic one by so much: it was set, it did not just drift."""
STORE_RETRY: Final = 5.0
"""Seconds before a refused store operation is tried again."""
LOOK_AGAIN: Final = 1.0
"""Seconds after which a probe is thought of again that came upon an attempt under way."""
DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: from a receiver on the same host to the longest timeouts that make sense."""


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None:
        """Do not fire."""


class CallLater(Protocol):
    """`loop.call_later`, or a test's."""

    def __call__(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call `callback(*args)` in `delay` seconds."""


@dataclass(frozen=True, slots=True)
class WebhookStats:
    """How one webhook's delivery stands. What memory holds; the store knows the whole backlog."""

    pending: int
    """Callbacks in memory, those in flight included."""
    lanes: int
    """Devices with something pending."""
    waiting: int
    """Of these, how many wait for a retry."""
    in_flight: int
    unrecorded: int
    """Answered, and the outcome not durable yet."""
    failures: int
    """In a row."""
    failing_since_ms: int
    """0: not failing."""
    paused: str
    """Why nothing is sent; "": it is."""
    held: bool
    """Disabled or deleted: what is pending is kept."""
    last_error: str
    last_error_ms: int
    last_success_ms: int


@dataclass(frozen=True, slots=True)
class WebhookFigures:
    """What one webhook's delivery has counted since the start, and its age now."""

    delivered: int
    dead: int
    superseded: int
    """Cancelled for a newer one of the same device (`backlog = "latest"`)."""
    failures: dict[str, int]
    """Attempts that failed, by `policy.failure_kind`."""
    durations: Tally
    """Seconds that attempts took, whatever came of them."""
    oldest_ms: int
    """When the oldest pending callback was created; 0: none is pending."""


_Parked = tuple[int, int]
"""Of a ready lane that holds nothing: its head's rowid as far as known, when that was created."""
_Waiting = tuple[float, int, int, bool]
"""Due in monotonic seconds; rowid of the head, and when that was created; whether the endpoint
asked for the delay. Plain tuples of numbers, see above: no classes."""


@dataclass(slots=True)
class _Memory:
    """What the lanes of all webhooks hold together."""

    limit: int
    callbacks: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    """One that is busy, or is ready and holds callbacks."""

    hook: _Hook
    udid: str
    queue: deque[Callback] = field(default_factory=deque)
    more: bool = False
    tail: int = 0
    """Greatest rowid taken into the queue."""
    seen: int = 0
    """Greatest rowid notified since the last load began."""
    head: int = 0
    """Rowid of its head, or of the last one, as far as known."""
    oldest_ms: int = 0
    """When its head was created; until the head is loaded, that of the last one."""

    def take(self, callback: Callback) -> None:
        """A callback of this lane is durable."""
        rowid = callback.rowid
        self.seen = max(self.seen, rowid)
        self.oldest_ms = min(self.oldest_ms, callback.created_ms)
        if self.more:
            return
        if rowid > self.tail:
            if len(self.queue) < PREFETCH and self.hook.takes:
                self.queue.append(callback)
                self._count(1)
                self.tail = rowid
            else:
                self.more = True
        elif all(known.rowid != rowid for known in self.queue):
            self.drop()

    def loaded(self, rows: Sequence[Callback], limit: int) -> None:
        """These are the lane's first, `limit` were asked for; it held nothing."""
        self.queue.extend(rows)
        self._count(len(rows))
        if rows:
            self.oldest_ms = rows[0].created_ms
        self.tail = rows[-1].rowid if rows else 0
        self.more = len(rows) >= limit or self.seen > self.tail

    def pop(self) -> Callback:
        """The head, to be sent."""
        callback = self.queue.popleft()
        self._count(-1)
        self.head, self.oldest_ms = callback.rowid, callback.created_ms
        return callback

    def drop(self) -> None:
        """Hold nothing: the store knows."""
        self._count(-len(self.queue))
        self.queue.clear()
        self.more = True

    def _count(self, more: int) -> None:
        self.hook.queued += more
        self.hook.memory.callbacks += more


@dataclass(slots=True, eq=False)
class _Hook:
    id: int
    webhook: Webhook | None
    """None: disabled or deleted, so nothing is sent."""
    memory: _Memory
    edition: int = 0
    """Counts edits: changes of value, and being turned off and on."""
    lanes: dict[str, _Lane] = field(default_factory=dict)
    """Those that are busy or hold callbacks. Each lane is in one of these three, by its device."""
    parked: dict[str, _Parked] = field(default_factory=dict)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    """In order: the longest waiting one first."""
    ready: deque[str] = field(default_factory=deque)
    """Those of `lanes` and `parked` that are ready."""
    due: list[tuple[float, str]] = field(default_factory=list)
    """A heap of when each waiting lane is due; an entry that is not its lane's counts no more."""
    timer: Timer | None = None
    """To the first of them."""
    timer_at: float = 0.0
    queued: int = 0
    """Callbacks in the lanes' queues, together."""
    in_flight: int = 0
    unrecorded: int = 0
    failures: int = 0
    failing_since_ms: int = 0
    recoveries: int = 0
    down_since: float | None = None
    """Monotonic seconds of the first failure that no success followed."""
    tried_at: float = 0.0
    """Monotonic seconds of its last attempt's start."""
    asked_until: float = 0.0
    """Monotonic seconds before which it asked not to be tried again."""
    nudge: Timer | None = None
    """To probe it before its heads are due."""
    paused: str = ""
    probe: Timer | None = None
    draining: bool = False
    """It has answered again: what waited goes out at `drain_rate`, until nothing is pending."""
    drain_at: float = 0.0
    """Monotonic seconds before which a draining webhook sends nothing more."""
    drain_timer: Timer | None = None
    last_error: str = ""
    last_error_ms: int = 0
    last_success_ms: int = 0
    delivered: int = 0
    dead: int = 0
    superseded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    durations: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))

    @property
    def pending(self) -> int:
        """Devices with something pending."""
        return len(self.lanes) + len(self.parked) + len(self.waiting)

    @property
    def takes(self) -> bool:
        """Whether callbacks are worth their memory: they can go soon, and there is room."""
        return (
            self.webhook is not None
            and self.failures < BREAK_AFTER
            and self.memory.callbacks < self.memory.limit
        )

    def knows(self, udid: str) -> bool:
        """Whether there is such a lane, in whatever stage."""
        return udid in self.lanes or udid in self.parked or udid in self.waiting

    def park(self, udid: str, head: int, created_ms: int) -> None:
        """It is ready, and holds nothing."""
        self.parked[udid] = (head, created_ms)
        self.ready.append(udid)

    def wake(self, udid: str) -> None:
        """It waits no longer."""
        _, head, created_ms, _ = self.waiting.pop(udid)
        self.park(udid, head, created_ms)

    def take_ready(self) -> _Lane:
        """The lane whose turn it is, from now on busy."""
        udid = self.ready.popleft()
        lane = self.lanes.get(udid)
        if lane is None:
            head, created_ms = self.parked.pop(udid)
            lane = self.lanes[udid] = _Lane(self, udid, more=True, head=head, oldest_ms=created_ms)
        return lane

    def first_due(self) -> float | None:
        """When the first waiting lane is due."""
        if len(self.due) > 2 * len(self.waiting) + PREFETCH:
            self.due = [(waiting[0], udid) for udid, waiting in self.waiting.items()]
            heapq.heapify(self.due)
        while self.due:
            at, udid = self.due[0]
            if udid in self.waiting and self.waiting[udid][0] == at:
                return at
            heapq.heappop(self.due)
        return None


class _Outcome(NamedTuple):
    """What came of one attempt, on its way into the store."""

    lane: _Lane
    edition: int
    """Of the webhook, for this attempt."""
    recoveries: int
    """Of the webhook, when it was decided."""
    callback: Callback
    attempt: Attempt
    decision: Decision
    now: int
    """When it was decided."""


def _ignore(_callback: Callback, _attempt: Attempt, _decision: Decision) -> None:
    """Nobody listens."""


class Dispatcher:
    """Delivers what the store holds pending. All methods run on the event loop's thread.

    Args:
        store: the outbox.
        client: sends.
        webhooks: by id; callbacks of disabled or unknown ones are held.
        settings: [delivery]; its `drain_rate` holds from a webhook's recovery until nothing of it
            is pending.
        held: see HELD.
        now_ms: wall clock, milliseconds.
        monotonic: seconds; paces the draining, and tells when the wall clock was set.
        jitter: random numbers in [0, 1).
        call_later: timers; the running loop's by default.
        on_attempt: told of every attempt and its decision, before they are durable; must be quick
            and must not raise.
    """

    def __init__(
        self,
        store: Callbacks,
        client: Client,
        *,
        webhooks: Mapping[int, Webhook],
        settings: Delivery,
        held: int = HELD,
        now_ms: Callable[[], int] = wall_ms,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        call_later: CallLater | None = None,
        on_attempt: Callable[[Callback, Attempt, Decision], None] = _ignore,
    ) -> None:
        self._store = store
        self._client = client
        self._settings = settings
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._jitter = jitter
        self._call_later = call_later
        self._on_attempt = on_attempt
        self._webhooks = dict(webhooks)
        self._memory = _Memory(held)
        self._hooks: dict[int, _Hook] = {}
        self._begun = 0
        """Attempts that have begun in this turn of the loop."""
        self._crowd: deque[asyncio.Future[None]] = deque()
        """Those that are to begin in a later one, in order."""
        self._early: dict[tuple[int, str], int] = {}
        """Lanes to load at the start, each with the creation time of its first callback."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcomes: set[asyncio.Future[Any]] = set()
        """Handed to the store, not durable yet."""
        self._deadlines: dict[_Lane, float] = {}
        self._clock_offset = 0
        self._running = False
        self._stopped = False

    @property
    def alive(self) -> bool:
        """Started, and no attempt outlasts its limit: what the watchdog may go by."""
        now = time.monotonic()
        return self._running and all(now < deadline for deadline in self._deadlines.values())

    async def start(self) -> None:
        """Take in what is pending in the store, and begin. Raises StoreError.

        A retry's due time is kept over restarts, see `policy.due_in`.
        """
        pending = await self._store.lanes()
        if self._stopped:
            return
        now = self._now_ms()
        self._clock_offset = now - round(self._monotonic() * 1000)
        self._running = True
        for webhook_id in self._webhooks:
            self._hook(webhook_id)
        for found in pending:
            hook = self._hook(found.webhook_id)
            head = found.head
            delay = due_in(head.due_ms, head.attempts, now)
            if delay > 0:
                # It failed before the start, and nothing is known of its endpoint since.
                hook.down_since = hook.tried_at = self._monotonic()
                self._wait(hook, found.udid, (head.rowid, head.created_ms), delay)
            else:
                hook.park(found.udid, head.rowid, head.created_ms)
        for (webhook_id, udid), created_ms in self._early.items():
            hook = self._hook(webhook_id)
            if not hook.knows(udid):
                hook.park(udid, 0, created_ms)
        self._early.clear()
        for hook in self._hooks.values():
            self._pump(hook)

    def notify(self, callbacks: Sequence[Callback]) -> None:
        """These are durable now, and carry their rowids; in commit order within each lane."""
        for callback in callbacks:
            if not self._running:
                self._early.setdefault((callback.webhook_id, callback.udid), callback.created_ms)
                continue
            hook, udid = self._hook(callback.webhook_id), callback.udid
            lane = hook.lanes.get(udid)
            if lane is not None:
                lane.take(callback)
            elif not hook.knows(udid):
                if hook.takes:
                    lane = hook.lanes[udid] = _Lane(hook, udid, oldest_ms=callback.created_ms)
                    lane.take(callback)
                    hook.ready.append(udid)
                else:
                    hook.park(udid, callback.rowid, callback.created_ms)
                self._pump(hook)

    def reconfigure(self, webhooks: Mapping[int, Webhook], settings: Delivery) -> None:
        """Swap webhooks and settings.

        An edited or re-enabled webhook is tried at once with all it has pending; one that is
        disabled or gone holds what it has; the others keep their due times. Attempts in flight
        end as they began.
        """
        self._settings = settings
        self._webhooks = dict(webhooks)
        for hook in list(self._hooks.values()):
            if hook.id not in webhooks and not hook.pending:
                _cancel_timers(hook)
                del self._hooks[hook.id]
        for webhook_id in webhooks:
            self._hook(webhook_id)
        for hook in self._hooks.values():
            self._swap(hook)
        self._client.reconfigure(webhooks)

    def _swap(self, hook: _Hook) -> None:
        before, hook.webhook = hook.webhook, self._sending(hook.id)
        if hook.webhook != before:
            hook.edition += 1
        if hook.webhook is None:
            for lane in hook.lanes.values():
                lane.drop()
        elif hook.webhook != before:
            self._unpause(hook)
            hook.failures = hook.failing_since_ms = 0
            self._up(hook)
            self._wake(hook, asked_too=True)
        self._pump(hook)

    async def stop(self, grace: float) -> None:
        """Send nothing new, give attempts in flight `grace` seconds, cancel what is left.

        What is cancelled stays pending and is sent again at the next start. The store must
        still be open.
        """
        self._running = False
        self._stopped = True
        for hook in self._hooks.values():
            _cancel_timers(hook)
        end = time.monotonic() + grace
        for left in (self._tasks, self._outcomes):
            if left:
                _, late = await asyncio.wait(left, timeout=max(0.0, end - time.monotonic()))
                for each in late:
                    each.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    def stats(self) -> dict[int, WebhookStats]:
        """By id, of all webhooks that are configured or still have something pending.

        Costs time in proportion to the webhooks: what it says is counted as it changes.
        """
        return {hook.id: _stats(hook) for hook in self._hooks.values()}

    def stats_of(self, webhook_id: int) -> WebhookStats | None:
        """Of one of them; None before the start."""
        hook = self._hooks.get(webhook_id)
        return None if hook is None else _stats(hook)

    def figures(self, webhook_id: int) -> tuple[WebhookStats, WebhookFigures]:
        """How one webhook's delivery stands, and what it has counted.

        Costs time in proportion to its lanes; all zero for a webhook not known yet.
        """
        hook = self._hooks.get(webhook_id) or self._new_hook(webhook_id)
        return _stats(hook), WebhookFigures(
            delivered=hook.delivered,
            dead=hook.dead,
            superseded=hook.superseded,
            failures=dict(hook.failed),
            durations=hook.durations.tally(),
            oldest_ms=min(
                chain(
                    (lane.oldest_ms for lane in hook.lanes.values()),
                    (created_ms for _, created_ms in hook.parked.values()),
                    (created_ms for _, _, created_ms, _ in hook.waiting.values()),
                ),
                default=0,
            ),
        )

    # --- slots -----------------------------------------------------------------------------

    def _hook(self, webhook_id: int) -> _Hook:
        hook = self._hooks.get(webhook_id)
        if hook is None:
            hook = self._hooks[webhook_id] = self._new_hook(webhook_id)
        return hook

    def _new_hook(self, webhook_id: int) -> _Hook:
        return _Hook(webhook_id, self._sending(webhook_id), self._memory)

    def _sending(self, webhook_id: int) -> Webhook | None:
        webhook = self._webhooks.get(webhook_id)
        return webhook if webhook is not None and webhook.enabled else None

    def _pump(self, hook: _Hook) -> None:
        while (lane := self._next(hook)) is not None:
            task = asyncio.create_task(self._work(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self, hook: _Hook) -> _Lane | None:
        """The lane whose turn it is, with a slot taken for it; None if there is no lane or slot."""
        if not hook.ready or hook.webhook is None or hook.paused or not self._running:
            return None
        if (
            hook.in_flight >= self._slots(hook)
            or hook.in_flight + hook.unrecorded >= UNRECORDED * self._settings.concurrency
        ):
            return None
        if hook.draining and not self._may_drain(hook):
            return None
        hook.in_flight += 1
        return hook.take_ready()

    def _slots(self, hook: _Hook) -> int:
        return 1 if hook.failures >= BREAK_AFTER else self._settings.concurrency

    def _may_drain(self, hook: _Hook) -> bool:
        """Whether a draining webhook's next callback may go; sets the pace, and a timer if not."""
        now = self._monotonic()
        if now < hook.drain_at:
            if hook.drain_timer is None:
                hook.drain_timer = self._later(hook.drain_at - now, self._drain, hook)
            return False
        hook.drain_at = now + 1 / self._settings.drain_rate
        return True

    def _drain(self, hook: _Hook) -> None:
        hook.drain_timer = None
        self._pump(hook)

    async def _work(self, lane: _Lane | None) -> None:
        while lane is not None:
            hook = lane.hook
            try:
                await self._turn(lane)
            except StoreError as error:
                log.warning(
                    "dispatcher.store", webhook_id=hook.id, udid=lane.udid, reason=str(error)
                )
                self._set_aside(lane)
            except Exception:
                log.exception("dispatcher.bug", webhook_id=hook.id, udid=lane.udid)
                self._set_aside(lane)
            lane = self._next(hook)
            self._pump(hook)  # a recovery has given it more slots

    def _set_aside(self, lane: _Lane) -> None:
        self._put_off(lane, STORE_RETRY)
        self._pump(lane.hook)

    # --- one turn of one lane --------------------------------------------------------------

    async def _turn(self, lane: _Lane) -> None:
        """Send the lane's head once, and hand what came of it to the store."""
        hook = lane.hook
        try:
            chosen = await self._choose(lane)
            if chosen is not None:
                webhook, callback = chosen
                edition = hook.edition
                limit = webhook.timeout or self._settings.timeout
                self._deadlines[lane] = time.monotonic() + limit + OVERDUE
                hook.tried_at = self._monotonic()
                answer = await self._client.attempt(webhook, callback, self._now_ms(), limit=limit)
        finally:
            hook.in_flight -= 1
            self._deadlines.pop(lane, None)
        if chosen is None:
            self._go_on(lane)
            return
        now = self._now_ms()
        made = callback.attempts + 1
        created = self._created_ms(callback, now)
        step = step_of(made, (now - created) / 1000)
        decision = decide(answer, made, created, now, self._jitter(), self._settings.max_age, step)
        attempt = Attempt(
            callback.message_id,
            answer.started_ms,
            answer.duration_ms,
            answer.status,
            decision.why,
            answer.excerpt,
        )
        _count(hook, answer, decision)
        if hook.edition == edition:
            self._judge(hook, webhook, callback, decision, now)
        self._on_attempt(callback, attempt, decision)
        hook.unrecorded += 1
        self._settle(_Outcome(lane, edition, hook.recoveries, callback, attempt, decision, now))

    async def _choose(self, lane: _Lane) -> tuple[Webhook, Callback] | None:
        """The lane's head, taken off it, and how to send it; None: nothing is sent now.

        After each wait all is asked anew.
        """
        hook = lane.hook
        failed = begins = False
        while True:
            webhook = hook.webhook
            if (
                webhook is None
                or hook.paused
                or not self._running
                or hook.in_flight > self._slots(hook)
            ):
                return None
            if not lane.queue:
                if not lane.more:
                    return None
                lane.seen = 0
                limit = PREFETCH if self._memory.callbacks < self._memory.limit else FEWEST
                rows = await self._store.pending(hook.id, lane.udid, 0, limit)
                lane.loaded(rows, limit)
                continue
            failed = failed or bool(lane.queue[0].attempts) or hook.failures >= BREAK_AFTER
            if webhook.backlog == "latest" and failed and (len(lane.queue) > 1 or lane.more):
                # All that came while its elder failed: one of them is the newest.
                skipped = await self._store.supersede(hook.id, lane.udid)
                lane.drop()
                hook.superseded += skipped
                log.info("callback.superseded", webhook_id=hook.id, udid=lane.udid, skipped=skipped)
                continue
            if not begins:
                begins = True
                if (turn := self._turn_to_begin()) is not None:
                    await turn
                    continue
            return webhook, lane.pop()

    def _turn_to_begin(self) -> asyncio.Future[None] | None:
        """Done when one more attempt may begin; None: now. First come, first served."""
        if 0 < self._begun < BEGIN:
            self._begun += 1
            return None
        loop = asyncio.get_running_loop()
        if not self._begun:
            loop.call_soon(self._new_turn)
            self._begun = 1
            return None
        turn: asyncio.Future[None] = loop.create_future()
        self._crowd.append(turn)
        return turn

    def _new_turn(self) -> None:
        self._begun = 0
        while self._crowd and self._begun < BEGIN:
            turn = self._crowd.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._new_turn)

    def _settle(self, outcome: _Outcome) -> None:
        """Have an outcome made durable, however long the store takes to accept it."""
        _, _, _, callback, attempt, decision, _ = outcome
        stored = asyncio.ensure_future(
            self._store.finish(callback, attempt, decision.state, decision.due_ms)
        )
        self._outcomes.add(stored)
        stored.add_done_callback(partial(self._settled, outcome))

    def _settled(self, outcome: _Outcome, stored: asyncio.Future[Any]) -> None:
        """Let the lane go on."""
        self._outcomes.discard(stored)
        if stored.cancelled():
            return
        lane, edition, recoveries, callback, _, decision, now = outcome
        hook = lane.hook
        error = stored.exception()
        if isinstance(error, StoreError):
            _tell_unrecorded(callback, error)
            if self._running:
                self._later(STORE_RETRY, self._settle_again, outcome)
            return
        hook.unrecorded -= 1
        if error is not None:
            log.error("dispatcher.bug", webhook_id=hook.id, udid=lane.udid, exc_info=error)
            self._set_aside(lane)
            return
        if isinstance(decision, Retry | Paused):
            lane.drop()
            asked = isinstance(decision, Paused) or decision.asked
            # Storing may have taken long: what was edited, or has recovered, is tried at once.
            if hook.edition == edition and (asked or hook.recoveries == recoveries):
                # A clock set back meanwhile must not count.
                delay = min(decision.due_ms - now, decision.due_ms - self._now_ms()) / 1000
                self._put_off(lane, max(0.0, delay), asked=asked)
                self._pump(hook)
                return
        self._go_on(lane)

    def _settle_again(self, outcome: _Outcome) -> None:
        if self._running:
            self._settle(outcome)

    def _created_ms(self, callback: Callback, now: int) -> int:
        """When it was made, for its age: a clock set forward since the start ages nothing.

        Which callbacks are older than the jump is not known, so all may live longer by its size.
        """
        jump = now - round(self._monotonic() * 1000) - self._clock_offset
        return min(now, callback.created_ms + jump) if jump > JUMP_MS else callback.created_ms

    def _go_on(self, lane: _Lane) -> None:
        hook = lane.hook
        if lane.queue:
            lane.oldest_ms = lane.queue[0].created_ms
            hook.ready.append(lane.udid)
        else:
            del hook.lanes[lane.udid]
            if lane.more:
                hook.park(lane.udid, lane.head, lane.oldest_ms)
            else:
                hook.draining = hook.draining and hook.pending > 0
                if hook.waiting:
                    self._nudge_in(hook, LONGEST)
        self._pump(hook)

    # --- waiting and failing ---------------------------------------------------------------

    def _put_off(self, lane: _Lane, delay: float, *, asked: bool = False) -> None:
        """A busy lane waits; what it held is in the store."""
        lane.drop()
        del lane.hook.lanes[lane.udid]
        self._wait(lane.hook, lane.udid, (lane.head, lane.oldest_ms), delay, asked=asked)

    def _wait(
        self, hook: _Hook, udid: str, head: _Parked, delay: float, *, asked: bool = False
    ) -> None:
        due = self._monotonic() + delay
        hook.waiting[udid] = (due, *head, asked)
        if self._running:
            heapq.heappush(hook.due, (due, udid))
            self._arm(hook)
            if not asked:
                self._nudge_in(hook, delay)

    def _arm(self, hook: _Hook) -> None:
        """Have a timer to the first lane that is due, if any waits."""
        at = hook.first_due()
        if hook.timer is not None:
            if at == hook.timer_at:
                return
            hook.timer.cancel()
            hook.timer = None
        if at is not None and self._running:
            hook.timer_at = at
            hook.timer = self._later(max(0.0, at - self._monotonic()), self._due, hook)

    def _due(self, hook: _Hook) -> None:
        hook.timer = None
        now = max(self._monotonic(), hook.timer_at)  # a timer may come a moment early
        while (at := hook.first_due()) is not None and at <= now:
            hook.wake(heapq.heappop(hook.due)[1])
        self._arm(hook)
        self._pump(hook)

    def _nudge_in(self, hook: _Hook, delay: float) -> None:
        """A lane waits for so long: see that its endpoint is probed earlier, while it fails."""
        if hook.down_since is None or hook.nudge is not None or not self._running:
            return
        now = self._monotonic()
        every = probe_every(now - hook.down_since)
        if every is None:
            return
        left = max(0.0, hook.tried_at + every - now, hook.asked_until - now)
        if left < delay:
            hook.nudge = self._later(left, self._nudge, hook)

    def _nudge(self, hook: _Hook) -> None:
        """Send the lane that has waited longest, before it is due."""
        hook.nudge = None
        if hook.down_since is None or hook.paused or hook.webhook is None:
            return
        left = hook.asked_until - self._monotonic()
        if hook.in_flight or left > 0:
            hook.nudge = self._later(max(left, LOOK_AGAIN), self._nudge, hook)
            return
        udid = next((udid for udid, (*_, asked) in hook.waiting.items() if not asked), None)
        if udid is not None:
            hook.wake(udid)
            self._arm(hook)
            self._pump(hook)

    @staticmethod
    def _up(hook: _Hook) -> None:
        """Nothing is known against its endpoint."""
        hook.down_since = None
        hook.asked_until = 0.0
        if hook.nudge is not None:
            hook.nudge.cancel()
            hook.nudge = None

    def _wake(self, hook: _Hook, *, asked_too: bool) -> None:
        woken = [
            (head, udid)
            for udid, (_, head, _, asked) in hook.waiting.items()
            if asked_too or not asked
        ]
        for _, udid in sorted(woken):
            hook.wake(udid)
        self._arm(hook)

    def _judge(
        self, hook: _Hook, webhook: Webhook, callback: Callback, decision: Decision, now: int
    ) -> None:
        """What the outcome says of the webhook as a whole."""
        if isinstance(decision, Delivered):
            hook.last_success_ms = now
            self._up(hook)
            failing, hook.failures = hook.failures >= BREAK_AFTER, 0
            if failing:
                log.info("webhook.recovered", webhook=webhook.name, webhook_id=hook.id)
                hook.failing_since_ms = 0
                hook.draining = True
                hook.recoveries += 1
                self._wake(hook, asked_too=False)
            return
        hook.failures += 1
        if hook.down_since is None:
            hook.down_since = hook.tried_at
        if isinstance(decision, Retry) and decision.asked:
            asked = (decision.due_ms - now) / 1000
            hook.asked_until = max(hook.asked_until, self._monotonic() + asked)
        hook.last_error = decision.why
        hook.last_error_ms = now
        place = {
            "webhook": webhook.name,
            "webhook_id": hook.id,
            "udid": callback.udid,
            "message_id": callback.message_id,
            "reason": decision.why,
        }
        if isinstance(decision, Dead):
            log.error("callback.dead", **place)
        elif isinstance(decision, Paused):
            log.error("webhook.paused", **place)
            self._unpause(hook)
            hook.failures = max(hook.failures, BREAK_AFTER)
            hook.paused = decision.why
            if self._running:
                hook.probe = self._later((decision.due_ms - now) / 1000, self._probe, hook)
        elif hook.failures < BREAK_AFTER:
            seconds = round((decision.due_ms - now) / 1000, 1)
            log.warning("callback.failed", **place, attempt=callback.attempts + 1, again_in=seconds)
        if hook.failures >= BREAK_AFTER and not hook.failing_since_ms:
            hook.failing_since_ms = now
            log.error("webhook.failing", **place, failures=hook.failures)

    def _probe(self, hook: _Hook) -> None:
        self._unpause(hook)
        self._pump(hook)

    @staticmethod
    def _unpause(hook: _Hook) -> None:
        hook.paused = ""
        if hook.probe is not None:
            hook.probe.cancel()
            hook.probe = None

    def _later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        call_later = self._call_later or asyncio.get_running_loop().call_later
        return call_later(delay, callback, *args)


def _stats(hook: _Hook) -> WebhookStats:
    return WebhookStats(
        pending=hook.queued + hook.in_flight,
        lanes=hook.pending,
        waiting=len(hook.waiting),
        in_flight=hook.in_flight,
        unrecorded=hook.unrecorded,
        failures=hook.failures,
        failing_since_ms=hook.failing_since_ms,
        paused=hook.paused,
        held=hook.webhook is None,
        last_error=hook.last_error,
        last_error_ms=hook.last_error_ms,
        last_success_ms=hook.last_success_ms,
    )


def _count(hook: _Hook, answer: Answer, decision: Decision) -> None:
    hook.durations.observe(answer.duration_ms / 1000)
    if isinstance(decision, Delivered):
        hook.delivered += 1
        return
    hook.failed[failure_kind(answer)] += 1
    hook.dead += isinstance(decision, Dead)


def _tell_unrecorded(callback: Callback, error: StoreError) -> None:
    # Sending on without the outcome would break order or repeat for ever.
    log.warning(
        "dispatcher.unrecorded",
        webhook_id=callback.webhook_id,
        udid=callback.udid,
        message_id=callback.message_id,
        reason=str(error),
    )


def _cancel_timers(hook: _Hook) -> None:
    for timer in (hook.probe, hook.drain_timer, hook.nudge, hook.timer):
        if timer is not None:
            timer.cancel()
    hook.probe = hook.drain_timer = hook.nudge = hook.timer = None
    hook.paused = ""
