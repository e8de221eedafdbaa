"""One webhook's deliveries under way: slots, attempts, timers. What is decided, others decide.

Who is next, `lane` says; whether the endpoint is to be tried, `breaker`; what an answer means,
`policy`. A webhook has `concurrency` slots, given out first come, first served; a slot is free
again when the answer is there, and the lane goes on when its outcome is durable: a task goes from
one ready lane to the next and waits for no commit, the store calls back (see `outcomes`). Outcomes
not yet durable are bounded too, so a slow disk slows sending down instead of piling up duplicates
for the next start. There is no task per lane and nothing polls.

Every `await` may take long, and anything may happen meanwhile: rows are notified, the webhook is
edited, disabled, paused or found failing, all of it stops. So whatever was asked before an await is
asked again after it (`_choose`), a lane's list changes only by methods of the lane, and what an
attempt learns of its webhook counts only if the webhook was not edited since (`_edition`, which an
equal webhook of a new configuration leaves alone).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from agent.deliver.alarm import Alarm
from agent.deliver.breaker import Breaker
from agent.deliver.lane import Lanes
from agent.deliver.outcomes import STORE_RETRY
from agent.deliver.policy import LONGEST, Dead, Delivered, Paused, Retry
from agent.deliver.stats import Counts, WebhookStats
from agent.errors import StoreError
from agent.model import Attempt, CallbackState

if TYPE_CHECKING:
    from agent.config import Webhook
    from agent.deliver.lane import Lane
    from agent.deliver.policy import Decision
    from agent.deliver.shared import Shared
    from agent.model import Callback

log = structlog.get_logger(__name__)

UNRECORDED: Final = 4
"""Times `concurrency`: a webhook's callbacks in flight or with an outcome not yet durable."""
OVERDUE: Final = 30.0
"""Seconds past its limit after which an attempt that still runs shows that something is stuck."""
LOOK_AGAIN: Final = 1.0
"""Seconds after which a probe is thought of again that came upon an attempt under way."""


class _Sent(NamedTuple):
    """What a lane goes on by once the outcome of its head is durable."""

    lane: Lane
    edition: int
    """Of the webhook, for this attempt."""
    recoveries: int
    """Of the webhook, when it was decided."""
    decision: Decision
    now: int
    """When it was decided."""


class Worker:
    """Sends what waits for one webhook. All methods run on the event loop's thread."""

    def __init__(self, webhook_id: int, webhook: Webhook | None, shared: Shared) -> None:
        self._id = webhook_id
        self._webhook = webhook
        """None: disabled or deleted, so nothing is sent."""
        self._edition = 0
        """Counts edits: changes of value, and being turned off and on."""
        self._shared = shared
        self.lanes = Lanes(shared.memory)
        self.breaker = Breaker()
        self.counts = Counts()
        self._in_flight = 0
        self._unrecorded = 0
        self._last: Attempt | None = None
        self._due = Alarm(shared.clock, self._wake_due)
        """For the first lane that waits."""
        self._due_at = 0.0
        self._nudge = Alarm(shared.clock, self._probe)
        """To probe the endpoint before its heads are due."""
        self._resume = Alarm(shared.clock, self._unpause)
        """To probe one that has paused."""
        self._drain = Alarm(shared.clock, self.pump)
        """For the next callback of one that drains."""

    def stats(self) -> WebhookStats:
        """How its delivery stands."""
        breaker = self.breaker
        return WebhookStats(
            pending=self.lanes.queued + self._in_flight,
            lanes=len(self.lanes),
            waiting=len(self.lanes.waiting),
            in_flight=self._in_flight,
            unrecorded=self._unrecorded,
            failures=breaker.failures,
            failing_since_ms=breaker.failing_since_ms,
            paused=breaker.paused,
            held=self._webhook is None,
            last_error=breaker.last_error,
            last_error_ms=breaker.last_error_ms,
            last_success_ms=breaker.last_success_ms,
            last_attempt=self._last,
            next_try_ms=self._next_try_ms(),
        )

    def take(self, callback: Callback) -> None:
        """A callback is durable; it is worth its memory if it can go soon and there is room."""
        room = (
            self._webhook is not None and not self.breaker.failing and not self._shared.memory.full
        )
        if self.lanes.add(callback, room=room):
            self.pump()

    def wait(self, udid: str, head: int, created_ms: int, delay: float) -> None:
        """A lane of before the start is not due yet: it failed, as far as is known."""
        now = self._shared.clock.monotonic()
        self.breaker.was_down(now)
        self.lanes.wait(udid, (now + delay, head, created_ms, False))
        self._arm()
        self._probe_in(delay)

    def settled(self, udid: str, head: int, created_ms: int) -> None:
        """Of a lane something was made final by others; its first pending row, 0: there is none."""
        self.lanes.settle(udid, head, created_ms)
        self._arm()

    def swap(self, webhook: Webhook | None) -> None:
        """This one is in force now; None: hold what is pending.

        An edited or re-enabled one is tried at once; an equal one changes nothing.
        """
        before, self._webhook = self._webhook, webhook
        if webhook != before:
            self._edition += 1
        if webhook is None:
            self.lanes.drop()
        elif webhook != before:
            self._resume.cancel()
            self._nudge.cancel()
            self.breaker.edited()
            self.lanes.wake_all(asked_too=True)
            self._arm()
        self.pump()

    def halt(self) -> None:
        """Begin nothing by itself any more."""
        for alarm in (self._due, self._nudge, self._resume, self._drain):
            alarm.cancel()
        self.breaker.paused = ""

    def pump(self) -> None:
        """Have every lane sent that is ready, as far as there are slots."""
        shared = self._shared
        while self.lanes.ready and (lane := self._next()) is not None:
            task = asyncio.create_task(self._work(lane))
            shared.tasks.add(task)
            task.add_done_callback(shared.tasks.discard)

    # --- slots -----------------------------------------------------------------------------

    def _next(self) -> Lane | None:
        """The lane whose turn it is, with a slot taken for it; None if there is no lane or slot."""
        shared, breaker = self._shared, self.breaker
        if not self.lanes.ready or self._webhook is None or breaker.paused or not shared.is_open:
            return None
        concurrency = shared.settings.concurrency
        if (
            self._in_flight >= breaker.slots(concurrency)
            or self._in_flight + self._unrecorded >= UNRECORDED * concurrency
        ):
            return None
        if breaker.draining:
            left = breaker.drain_in(shared.settings.drain_rate, shared.clock.monotonic())
            if left > 0:
                if not self._drain.is_set:
                    self._drain.set(left)
                return None
        self._in_flight += 1
        return self.lanes.next()

    async def _work(self, lane: Lane | None) -> None:
        while lane is not None:
            try:
                await self._turn(lane)
            except StoreError as error:
                log.warning(
                    "dispatcher.store", webhook_id=self._id, udid=lane.udid, reason=str(error)
                )
                self._put_off(lane, STORE_RETRY)
            except Exception:
                log.exception("dispatcher.bug", webhook_id=self._id, udid=lane.udid)
                self._put_off(lane, STORE_RETRY)
            lane = self._next()
            if lane is not None:
                self.pump()  # a recovery has given it more slots

    # --- one turn of one lane --------------------------------------------------------------

    async def _turn(self, lane: Lane) -> None:
        """Send the lane's head once, and hand what came of it to the store."""
        shared = self._shared
        try:
            chosen = await self._choose(lane)
            if chosen is not None:
                webhook, callback = chosen
                edition = self._edition
                limit = webhook.timeout or shared.settings.timeout
                shared.deadlines[lane] = shared.clock.monotonic() + limit + OVERDUE
                self.breaker.tried_at = shared.clock.monotonic()
                answer = await shared.sender.attempt(
                    webhook, callback, shared.clock.wall_ms(), limit=limit
                )
        finally:
            self._in_flight -= 1
            shared.deadlines.pop(lane, None)
        if chosen is None:
            self._go_on(lane)
            return
        now = shared.clock.wall_ms()
        decision = shared.decide(callback, answer, now)
        self.counts.count(answer, decision)
        if self._edition == edition:
            self._judge(webhook, callback, decision, now)
        attempt = self._last = Attempt(
            callback.message_id,
            answer.started_ms,
            answer.duration_ms,
            answer.status,
            decision.why,
            answer.excerpt,
        )
        shared.on_attempt(callback, attempt, decision)
        self._unrecorded += 1
        sent = _Sent(lane, edition, self.breaker.recoveries, decision, now)
        shared.outcomes.record(callback, attempt, decision, partial(self._recorded, sent))

    async def _choose(self, lane: Lane) -> tuple[Webhook, Callback] | None:
        """The lane's head, taken off it, and how to send it; None: nothing is sent now.

        After each wait all is asked anew.
        """
        shared, breaker = self._shared, self.breaker
        failed = begins = False
        while True:
            webhook = self._webhook
            if (
                webhook is None
                or breaker.paused
                or not shared.is_open
                or self._in_flight > breaker.slots(shared.settings.concurrency)
            ):
                return None
            if not lane.queue:
                if not lane.more:
                    return None
                limit = lane.load()
                rows = await shared.store.pending(self._id, lane.udid, 0, limit)
                lane.loaded(rows, limit)
                continue
            failed = failed or bool(lane.queue[0].attempts) or breaker.failing
            if webhook.backlog == "latest" and failed and (len(lane.queue) > 1 or lane.more):
                # All that came while its elder failed: one of them is the newest.
                skipped = await shared.store.supersede(self._id, lane.udid)
                lane.drop()
                shared.on_final(CallbackState.CANCELLED, skipped)
                count = len(skipped)
                self.counts.superseded += count
                log.info("callback.superseded", webhook_id=self._id, udid=lane.udid, skipped=count)
                continue
            if not begins:
                begins = True
                if (turn := shared.starts.wait()) is not None:
                    await turn
                    continue
            return webhook, lane.pop()

    def _recorded(self, sent: _Sent, error: BaseException | None) -> None:
        """The outcome is durable: let the lane go on."""
        lane, edition, recoveries, decision, now = sent
        self._unrecorded -= 1
        if error is not None:
            log.error("dispatcher.bug", webhook_id=self._id, udid=lane.udid, exc_info=error)
            self._put_off(lane, STORE_RETRY)
            return
        if isinstance(decision, Retry | Paused):
            lane.drop()
            asked = isinstance(decision, Paused) or decision.asked
            # Storing may have taken long: what was edited, or has recovered, is tried at once.
            if self._edition == edition and (asked or self.breaker.recoveries == recoveries):
                # A clock set back meanwhile must not count.
                delay = (decision.due_ms - max(now, self._shared.clock.wall_ms())) / 1000
                self._put_off(lane, max(0.0, delay), asked=asked)
                return
        self._go_on(lane)

    def _go_on(self, lane: Lane) -> None:
        if not self.lanes.go_on(lane):
            self.breaker.draining = self.breaker.draining and len(self.lanes) > 0
            if self.lanes.waiting:
                self._probe_in(LONGEST)
        self.pump()

    def _judge(self, webhook: Webhook, callback: Callback, decision: Decision, now: int) -> None:
        """What the outcome says of the webhook as a whole."""
        breaker = self.breaker
        turned = breaker.judge(decision, now, self._shared.clock.monotonic())
        if isinstance(decision, Delivered):
            self._nudge.cancel()
            if turned:
                log.info("webhook.recovered", webhook=webhook.name, webhook_id=self._id)
                self.lanes.wake_all(asked_too=False)
                self._arm()
            return
        again_in = (decision.due_ms - now) / 1000
        about: dict[str, Any] = {
            "webhook": webhook.name,
            "webhook_id": self._id,
            "udid": callback.udid,
            "message_id": callback.message_id,
            "reason": decision.why,
        }
        if isinstance(decision, Dead):
            log.error("callback.dead", **about)
        elif isinstance(decision, Paused):
            log.error("webhook.paused", **about)
            if self._shared.running:
                self._resume.set(again_in)
        elif not breaker.failing:
            attempt = callback.attempts + 1
            log.warning("callback.failed", **about, attempt=attempt, again_in=round(again_in, 1))
        if turned:
            log.error("webhook.failing", **about, failures=breaker.failures)

    # --- waiting ---------------------------------------------------------------------------

    def _put_off(self, lane: Lane, delay: float, *, asked: bool = False) -> None:
        self.lanes.put_off(lane, self._shared.clock.monotonic() + delay, asked=asked)
        self._arm()
        if not asked:
            self._probe_in(delay)
        self.pump()

    def _arm(self) -> None:
        """Have a timer to the first lane that is due, if any waits."""
        at = self.lanes.first_due()
        if self._due.is_set and at == self._due_at:
            return
        self._due.cancel()
        if at is not None and self._shared.running:
            self._due_at = at
            self._due.set(at - self._shared.clock.monotonic())

    def _next_try_ms(self) -> int:
        """By the wall clock as it is now; 0: nothing waits, or it is held."""
        alarms = (self._resume,) if self.breaker.paused else (self._due, self._nudge)
        at = min((alarm.at for alarm in alarms if alarm.is_set), default=None)
        if at is None or self._webhook is None or not len(self.lanes):
            return 0
        clock = self._shared.clock
        return clock.wall_ms() + round((at - clock.monotonic()) * 1000)

    def _wake_due(self) -> None:
        # A timer may come a moment early.
        self.lanes.wake_due(max(self._shared.clock.monotonic(), self._due_at))
        self._arm()
        self.pump()

    def _probe_in(self, delay: float) -> None:
        """A lane waits for so long: see that its endpoint is probed earlier, while it fails."""
        if self._nudge.is_set or not self._shared.running:
            return
        left = self.breaker.probe_in(delay, self._shared.clock.monotonic())
        if left is not None:
            self._nudge.set(left)

    def _probe(self) -> None:
        """Send the lane that has waited longest, before it is due."""
        breaker = self.breaker
        if breaker.down_since is None or breaker.paused or self._webhook is None:
            return
        left = breaker.asked_until - self._shared.clock.monotonic()
        if self._in_flight or left > 0:
            self._nudge.set(max(left, LOOK_AGAIN))
        elif self.lanes.wake_longest():
            self._arm()
            self.pump()

    def _unpause(self) -> None:
        self.breaker.paused = ""
        self.pump()
