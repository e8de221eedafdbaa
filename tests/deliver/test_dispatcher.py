"""The dispatcher with the real store, the real client and real receivers; its clock is stubbed."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from agent.deliver.breaker import BREAK_AFTER
from agent.deliver.dispatcher import Dispatcher
from agent.deliver.lane import PREFETCH
from agent.deliver.outcomes import STORE_RETRY
from agent.deliver.policy import Answer
from agent.deliver.starts import BEGIN
from agent.deliver.worker import OVERDUE, UNRECORDED
from agent.errors import StoreError
from agent.model import Callback, CallbackState
from agent.store import DeliveryQuery
from tests.fakes.receiver import (
    Receiver,
    Request,
    after,
    answer,
    endless,
    hang,
    hang_up,
    raw,
    reset,
)
from tests.kit.deliver import make_callback, make_webhook, settings
from tests.kit.house import House
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from agent.config import Webhook
    from agent.store import Callbacks
    from tests.fakes.receiver import Behaviour

HOUR = 3600.0


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    it = House(tmp_path)
    yield it
    await it.close()


def ids(requests: list[Request]) -> list[str]:
    return [request.headers["webhook-id"] for request in requests]


def calls(callbacks: list[Callback]) -> list[str]:
    return [callback.message_id for callback in callbacks]


# --- the straight way --------------------------------------------------------------------------


async def test_a_callback_is_sent_at_once_and_its_outcome_is_durable(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(201, (), b"thanks")
    dispatcher = await house.start(make_webhook(receiver.url()))
    (callback,) = await house.commit(make_callback())
    await house.settled(callback, CallbackState.DELIVERED)
    assert receiver.requests[0].body == callback.body
    (attempt,) = await house.store.attempts.of(callback.message_id)
    assert (attempt.status, attempt.error, attempt.answer) == (201, "", "thanks")
    assert attempt.started_ms == house.clock.wall_ms()
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    stats = dispatcher.stats()[1]
    assert stats.last_success_ms == house.clock.wall_ms()
    assert (stats.pending, stats.in_flight, stats.unrecorded, stats.failures) == (0, 0, 0, 0)
    assert (stats.last_attempt, stats.next_try_ms) == (attempt, 0)
    assert [a.message_id for _, a, _ in house.attempts] == [callback.message_id]


async def test_idle_costs_no_task_and_no_timer(house: House) -> None:
    receiver = await house.receiver()
    dispatcher = await house.start(make_webhook(receiver.url()))
    before = len(asyncio.all_tasks())
    await house.commit(*[make_callback(udid=f"phone {n}") for n in range(50)])
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    receiver_tasks = receiver.connections
    await eventually(lambda: len(asyncio.all_tasks()) <= before + receiver_tasks)
    assert house.clock.armed == []


async def test_order_and_little_memory_however_long_the_lane(house: House) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate)
    dispatcher = await house.start(make_webhook(receiver.url()))
    sent = await house.commit(*[make_callback() for _ in range(5 * PREFETCH)])
    assert dispatcher.stats()[1].pending <= PREFETCH + 1
    gate.set()
    await receiver.until(lambda: len(receiver.requests) == len(sent))
    await house.settled(sent[-1], CallbackState.DELIVERED)
    assert ids(receiver.requests) == calls(sent)


async def test_little_memory_however_many_lanes(house: House) -> None:
    """A rack that comes back, and an endpoint that is slow, or cannot be reached."""
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate)
    dispatcher = await house.start(make_webhook(receiver.url()), held=20)
    sent = await house.commit(*[make_callback(udid=f"{n % 50}") for n in range(150)])
    await receiver.until(lambda: receiver.open == 8)
    stats = dispatcher.stats()[1]
    assert (stats.lanes, stats.pending) == (50, 20)
    gate.set()
    await receiver.until(lambda: len(receiver.requests) == len(sent))
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    for phone in range(50):
        mine = calls(sent[phone::50])
        assert [each for each in ids(receiver.requests) if each in set(mine)] == mine


async def test_nothing_is_kept_in_memory_for_a_failing_webhook(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(503)
    dispatcher = await house.start(make_webhook(receiver.url()))
    await house.commit(*[make_callback(udid=f"{n}") for n in range(BREAK_AFTER)])
    await eventually(lambda: dispatcher.stats()[1].waiting == BREAK_AFTER)
    gate = asyncio.Event()
    receiver.default = after(gate)
    sent = await house.commit(*[make_callback(udid=f"{n % 10}") for n in range(30)])
    await receiver.until(lambda: receiver.open == 1)
    assert dispatcher.stats()[1].pending == 3, "of the phone whose turn it is"
    gate.set()
    await house.settled(sent[-1], CallbackState.DELIVERED)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)


def has_come(receiver: Receiver, count: int) -> bool:
    return len(receiver.requests) == count


class Turns:
    """A client whose every attempt fails, and tells in which turn of the loop it began."""

    def __init__(self) -> None:
        self.now = 0
        self.began: Counter[int] = Counter()
        self.order: list[int] = []

    def turn(self) -> None:
        self.now += 1
        asyncio.get_running_loop().call_soon(self.turn)

    async def attempt(self, webhook: Webhook, *_: object, **__: object) -> Answer:
        assert webhook.id is not None
        self.began[self.now] += 1
        self.order.append(webhook.id)
        return Answer(503)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Any will do."""

    async def close(self) -> None:
        """Nothing is open."""


async def test_when_what_waits_is_tried_next_is_known(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(503)
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook)
    assert (dispatcher.stats()[1].last_attempt, dispatcher.stats()[1].next_try_ms) == (None, 0)
    await house.commit(make_callback())
    await eventually(lambda: dispatcher.stats()[1].waiting == 1)
    stats = dispatcher.stats()[1]
    assert stats.last_attempt is not None
    assert (stats.last_attempt.status, stats.last_attempt.error) == (
        503, "HTTP 503 Service Unavailable",
    )  # fmt: skip
    assert 4_500 <= stats.next_try_ms - house.clock.wall_ms() <= 5_500
    house.clock.advance(2)
    assert dispatcher.stats()[1].next_try_ms == stats.next_try_ms
    receiver.default = answer(410)
    house.clock.advance(4)
    await eventually(lambda: dispatcher.stats()[1].paused and not dispatcher.stats()[1].in_flight)
    away = dispatcher.stats()[1].next_try_ms - house.clock.wall_ms()
    assert 35_000_000 <= away <= 36_000_000
    dispatcher.reconfigure({1: webhook.model_copy(update={"enabled": False})}, settings())
    stats = dispatcher.stats()[1]
    assert (stats.next_try_ms, stats.lanes) == (0, 1), "it is held"


async def test_webhooks_that_are_due_at_once_take_turns(house: House) -> None:
    client = Turns()
    client.turn()
    webhooks = {number: make_webhook(number=number) for number in range(1, 101)}
    house.dispatcher = dispatcher = Dispatcher(
        house.store.callbacks,
        client,
        webhooks=webhooks,
        settings=settings(),
        clock=house.clock,
    )
    await dispatcher.start()
    await house.commit(*[make_callback(number) for number in webhooks])
    await eventually(lambda: all(each.waiting for each in dispatcher.stats().values()))
    assert max(client.began.values()) <= BEGIN
    client.order.clear()
    house.clock.advance(5)  # all of them are due
    await eventually(lambda: len(client.order) == len(webhooks))
    assert max(client.began.values()) == BEGIN
    assert sorted(client.order) == sorted(webhooks)


async def test_concurrency_is_bounded_per_webhook(house: House) -> None:
    one, two = await house.receiver(), await house.receiver()
    gate = asyncio.Event()
    one.default = two.default = after(gate)
    dispatcher = await house.start(
        make_webhook(one.url()), make_webhook(two.url(), 2), concurrency=3
    )
    sent = await house.commit(
        *[make_callback(hook, f"phone {n}") for n in range(20) for hook in (1, 2)]
    )
    await one.until(lambda: one.open == 3)
    await two.until(lambda: two.open == 3)
    assert dispatcher.stats()[1].in_flight == dispatcher.stats()[2].in_flight == 3
    gate.set()
    for receiver, hook in ((one, 1), (two, 2)):
        await receiver.until(partial(has_come, receiver, 20))
        assert receiver.most_open == 3
        # First come, first served.
        mine = calls([c for c in sent if c.webhook_id == hook])
        assert set(ids(receiver.requests[:3])) == set(mine[:3])


async def test_a_hanging_webhook_delays_no_other(house: House) -> None:
    good, bad = await house.receiver(), await house.receiver()
    bad.default = hang()
    await house.start(make_webhook(good.url()), make_webhook(bad.url(), 2))
    await house.commit(
        *[make_callback(hook, f"phone {n % 30}") for n in range(100) for hook in (2, 1)]
    )
    await good.until(lambda: len(good.requests) == 100)
    assert bad.open == 8


# --- retries -----------------------------------------------------------------------------------


async def test_retries_follow_the_schedule_with_the_same_message(house: House) -> None:
    receiver = await house.receiver()
    refusal = answer(500, (), b"no")

    async def refuse_one(request: Request, writer: asyncio.StreamWriter) -> None:
        bad = request.headers["webhook-id"] == callback.message_id
        await (refusal if bad else answer())(request, writer)

    def tries() -> int:
        return ids(receiver.requests).count(callback.message_id)

    def was_tried(times: int) -> bool:
        return tries() == times

    receiver.default = refuse_one
    dispatcher = await house.start(make_webhook(receiver.url()))
    callback = make_callback()
    await house.commit(callback)
    for number, seconds in enumerate((5, 30, 120, 600, 1800, 3600, 7200, 18000, 36000, 36000), 1):
        await eventually(lambda: dispatcher.stats()[1].waiting == 1)
        # Another device's success: the endpoint is well, and is not probed.
        (good,) = await house.commit(make_callback(udid="good"))
        await house.settled(good, CallbackState.DELIVERED)
        assert house.clock.armed == [seconds]
        assert tries() == number
        house.clock.advance(seconds - 0.1)
        assert dispatcher.stats()[1].waiting == 1
        refusal = answer(204) if number == 10 else refusal
        house.clock.advance(0.1)
        await receiver.until(partial(was_tried, number + 1))
    await house.settled(callback, CallbackState.DELIVERED)
    mine = [r for r in receiver.requests if r.headers["webhook-id"] == callback.message_id]
    assert {r.body for r in mine} == {callback.body}
    stored = await house.store.attempts.of(callback.message_id)
    assert [a.status for a in stored] == [500] * 10 + [204]
    assert stored[0].error == "HTTP 500 Internal Server Error"
    assert stored[0].answer == "no"


async def test_a_failing_head_holds_its_device_and_no_other(house: House) -> None:
    receiver = await house.receiver()

    async def refuse_one(request: Request, writer: asyncio.StreamWriter) -> None:
        bad = request.headers["webhook-id"] == first.message_id
        await answer(500 if bad else 200)(request, writer)

    receiver.default = refuse_one
    await house.start(make_webhook(receiver.url()))
    first, second = make_callback(udid="a"), make_callback(udid="a")
    other = make_callback(udid="b")
    await house.commit(first, second, other)
    await eventually(lambda: house.clock.armed)
    await receiver.until(lambda: len(receiver.requests) == 2)
    assert set(ids(receiver.requests)) == {first.message_id, other.message_id}
    receiver.default = answer()
    house.clock.advance(5)
    await receiver.until(lambda: len(receiver.requests) == 4)
    assert ids(receiver.requests)[2:] == [first.message_id, second.message_id]


async def test_retry_after_is_waited_for(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(429, ("Retry-After: 100",)))
    await house.start(make_webhook(receiver.url()))
    await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    assert house.clock.armed == [100]


HOSTILE: dict[str, tuple[Behaviour, str, float]] = {
    # What the receiver does → what the attempt says, and seconds until the next one.
    "no answer": (hang_up(), "closed the connection without an answer", 5),
    "reset": (reset(), "reset: ", 5),
    "no http": (raw(b"220 smtp ready\r\n", close=True), "does not answer in HTTP", 5),
    "header bomb": (raw(b"HTTP/1.1 500 X\r\n" + b"X: y\r\n" * 10**6), "HTTP 500", 5),
    "dripping headers": (endless(b"HTTP/1.1 500 X\r\n", b"X: y\r\n", 0.05), "HTTP 500", 5),
    "for ever informational": (endless(b"", b"HTTP/1.1 103 X\r\n\r\n", 0.05), "within 3 s", 5),
    "silence": (hang(), "no answer from", 5),
    "1 GB": (
        endless(b"HTTP/1.1 500 X\r\nContent-Length: 1073741824\r\n\r\n", b"z" * 65536),
        "500",
        5,
    ),
    "endless": (endless(b"HTTP/1.1 503 X\r\n\r\n", b"z" * 65536), "HTTP 503", 5),
    "bad chunking": (
        raw(
            b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nno-hex\r\n",
            close=True,
        ),
        "",
        5,
    ),
    "reset in mid-answer": (reset(b"HTTP/1.1 502 X\r\nContent-Length: 9\r\n\r\nhalf"), "", 5),
    "redirect to itself": (answer(307, ("Location: /hook",)), "redirects are not followed", 5),
    "408": (answer(408), "HTTP 408", 5),
    "425": (answer(425, ("Retry-After: 7",)), "HTTP 425", 7),
    "429 for years": (answer(429, ("Retry-After: 99999999999",)), "HTTP 429", 36_000),
    "503 with 3,000 digits": (answer(503, ("Retry-After: " + "9" * 3_000,)), "HTTP 503", 36_000),
    "503 until the year 9999": (
        answer(503, ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT",)),
        "HTTP 503",
        36_000,
    ),
    "429 in the past": (
        answer(429, ("Retry-After: Mon, 01 Jan 1900 00:00:00 GMT",)),
        "HTTP 429",
        5,
    ),
    "429 and nonsense": (answer(429, ("Retry-After: -1; DROP",)), "HTTP 429", 5),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_receiver_gets_its_retry_and_holds_up_nobody(
    house: House, name: str
) -> None:
    """Over a real socket; the message comes again when it is due, and another webhook's at once."""
    behaviour, says, seconds = HOSTILE[name]
    bad, good = await house.receiver(), await house.receiver()
    bad.default = behaviour
    await house.start(make_webhook(bad.url()), make_webhook(good.url(), 2), timeout=3.0)
    (callback,) = await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    assert house.clock.armed == [seconds]
    (attempt,) = await house.store.attempts.of(callback.message_id)
    assert attempt.error
    assert says in attempt.error
    assert len(attempt.answer.encode()) <= 1024
    (other,) = await house.commit(make_callback(2))
    await house.settled(other, CallbackState.DELIVERED)
    bad.default = answer(204)
    house.clock.advance(seconds)
    await house.settled(callback, CallbackState.DELIVERED)
    assert {r.headers["webhook-id"] for r in bad.requests} == {callback.message_id}
    assert len({r.body for r in bad.requests}) == 1


async def test_past_max_age_it_is_dead_and_the_next_one_goes(house: House) -> None:
    receiver = await house.receiver()
    receiver.script += [answer(500), answer(500)]
    await house.start(make_webhook(receiver.url()), max_age=20.0)
    first, second = await house.commit(make_callback(), make_callback())
    await eventually(lambda: house.clock.armed)
    house.clock.advance(20)
    await house.settled(first, CallbackState.DEAD)
    await house.settled(second, CallbackState.DELIVERED)
    last = (await house.store.attempts.of(first.message_id))[-1]
    assert "given up" in last.error


async def test_nothing_is_sent_again_while_the_outcome_is_not_durable(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(500)
    gated = GatedCallbacks(house.store.callbacks)
    dispatcher = await house.start(make_webhook(receiver.url()), store=gated, concurrency=2)
    await house.commit(*[make_callback(udid=f"{n}") for n in range(20)])
    await eventually(lambda: dispatcher.stats()[1].unrecorded == UNRECORDED * 2)
    house.clock.advance(100 * HOUR)
    assert dispatcher.stats()[1].in_flight == 0
    assert len(receiver.requests) == UNRECORDED * 2
    assert dispatcher.alive
    gated.gate.set()
    receiver.default = answer()
    await eventually(lambda: dispatcher.stats()[1].waiting > 0 or not dispatcher.stats()[1].lanes)
    house.clock.advance(100 * HOUR)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert not await house.store.callbacks.lanes()


async def test_a_refusing_store_sets_the_lane_aside(house: House) -> None:
    receiver = await house.receiver()
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    gated.refuse_loads = 1
    (callback,) = await house.commit(make_callback())
    await house.start(make_webhook(receiver.url()), store=gated)
    await eventually(lambda: house.clock.armed)
    assert not receiver.requests
    house.clock.advance(house.clock.armed[0])
    await house.settled(callback, CallbackState.DELIVERED)


async def test_an_outcome_that_the_store_refuses_is_offered_again_and_overtaken_by_nothing(
    house: House,
) -> None:
    receiver = await house.receiver()
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    gated.refuse_outcomes = 2
    dispatcher = await house.start(make_webhook(receiver.url()), store=gated)
    stored = await house.commit(make_callback(), make_callback())
    for left in (1, 0):
        await eventually(lambda: gated.refuse_outcomes == left and house.clock.armed)  # noqa: B023 - awaited here
        assert len(receiver.requests) == 1
        assert dispatcher.stats()[1].unrecorded == 1
        house.clock.advance(STORE_RETRY)
    for callback in stored:
        await house.settled(callback, CallbackState.DELIVERED)
    assert ids(receiver.requests) == calls(stored)
    await eventually(lambda: dispatcher.stats()[1].unrecorded == 0)


async def test_a_bug_in_the_store_sets_the_lane_aside(house: House) -> None:
    receiver = await house.receiver()
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    gated.broken = 1
    dispatcher = await house.start(make_webhook(receiver.url()), store=gated)
    (callback,) = await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    assert dispatcher.stats()[1].unrecorded == 0
    house.clock.advance(STORE_RETRY)
    await house.settled(callback, CallbackState.DELIVERED)
    assert ids(receiver.requests) == calls([callback, callback])


async def test_a_listener_that_breaks_its_promise_ends_nothing(house: House) -> None:
    receiver = await house.receiver()
    broken = [True]

    def listen(*_: object) -> None:
        if broken and broken.pop():
            raise RuntimeError("listener")

    dispatcher = await house.start(make_webhook(receiver.url()), on_attempt=listen)
    (callback,) = await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    house.clock.advance(10)
    await house.settled(callback, CallbackState.DELIVERED)
    assert dispatcher.stats()[1].in_flight == 0


async def test_a_row_committed_while_a_load_is_under_way_is_not_forgotten(house: House) -> None:
    receiver = await house.receiver()
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    gated.loads.clear()
    (first,) = await house.commit(make_callback())
    await house.start(make_webhook(receiver.url()), store=gated)
    await eventually(lambda: gated.loading, "the load's read")
    (second,) = await house.commit(make_callback())
    gated.loads.set()
    await house.settled(second, CallbackState.DELIVERED)
    assert ids(receiver.requests) == calls([first, second])


class GatedCallbacks:
    """The real ones, whose outcomes and loads wait for gates; loads can be refused, too."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self.gate = asyncio.Event()
        self.refuse_loads = 0
        self.refuse_outcomes = 0
        self.broken = 0
        self.loads = asyncio.Event()
        self.loads.set()
        self.loading = 0
        self.lanes = callbacks.lanes
        self.refuse_skips = 0
        self.skips = asyncio.Event()
        self.skips.set()
        self.skipping = 0

    async def finish(self, *outcome: Any) -> None:
        await self.gate.wait()
        if self.refuse_outcomes:
            self.refuse_outcomes -= 1
            raise StoreError("too many changes wait")
        if self.broken:
            self.broken -= 1
            raise RuntimeError("a bug")
        await self._callbacks.finish(*outcome)

    async def supersede(self, *lane: Any) -> list[str]:
        if self.refuse_skips:
            self.refuse_skips -= 1
            raise StoreError("too many changes wait")
        skipped = await self._callbacks.supersede(*lane)
        self.skipping += 1
        await self.skips.wait()
        return skipped

    async def pending(self, *lane: Any) -> list[Callback]:
        if self.refuse_loads:
            self.refuse_loads -= 1
            raise StoreError("the file cannot be read")
        found = await self._callbacks.pending(*lane)
        self.loading += 1
        await self.loads.wait()
        return found


# --- restarts ----------------------------------------------------------------------------------


async def test_what_was_pending_is_sent_after_a_restart_in_order(house: House) -> None:
    receiver = await house.receiver()
    stored = await house.commit(
        *[make_callback(udid=f"phone {n % 3}") for n in range(3 * 2 * PREFETCH)]
    )
    await house.restart_store()
    await house.start(make_webhook(receiver.url()))
    await receiver.until(lambda: len(receiver.requests) == len(stored))
    sent = ids(receiver.requests)
    for phone in range(3):
        mine = calls(stored[phone::3])
        assert [each for each in sent if each in set(mine)] == mine


async def test_a_due_time_is_kept_over_a_restart(house: House) -> None:
    receiver = await house.receiver()
    receiver.script += [answer(500)] * 2
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook)
    await house.commit(make_callback(), make_callback())
    for armed in ([5], [14, 30]):  # its next try; before that, maybe, its endpoint's probe
        await eventually(lambda: house.clock.armed)
        assert house.clock.armed == armed
        house.clock.advance(5)
    await dispatcher.stop(0)
    await house.restart_store()
    await house.start(webhook)
    assert house.clock.armed == [14, 25]
    house.clock.advance(14)
    await receiver.until(lambda: len(receiver.requests) == 4)


async def test_a_clock_set_back_a_day_does_not_delay_by_a_day(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(500))
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook)
    await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    await dispatcher.stop(0)
    house.clock.set_wall(-24 * HOUR)
    await house.start(webhook)
    assert house.clock.armed == [pytest.approx(5.5)]


async def test_a_clock_set_forward_a_week_ages_no_callback_to_death(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(503)
    dispatcher = await house.start(make_webhook(receiver.url()))
    (callback,) = await house.commit(make_callback())
    await eventually(lambda: dispatcher.stats()[1].waiting == 1)
    house.clock.set_wall(7 * 24 * HOUR)
    house.clock.advance(6)
    await receiver.until(lambda: len(receiver.requests) == 2)
    await eventually(lambda: dispatcher.stats()[1].waiting == 1)
    (row,) = await house.store.deliveries.find(DeliveryQuery())
    assert (row.callback.message_id, row.state) == (callback.message_id, CallbackState.PENDING)
    # It still dies, by as much time as passes for the monotonic clock.
    for _ in range(20):
        house.clock.advance(5 * 3600.0)
        await eventually(lambda: dispatcher.stats()[1].in_flight == 0)
        await eventually(lambda: dispatcher.stats()[1].unrecorded == 0)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    (row,) = await house.store.deliveries.find(DeliveryQuery())
    assert row.state is CallbackState.DEAD


async def test_an_attempt_far_past_its_limit_shows_that_something_is_stuck(house: House) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate)
    dispatcher = await house.start(make_webhook(receiver.url()), timeout=20.0)
    await house.commit(make_callback())
    await receiver.until(lambda: receiver.open == 1)
    for seconds, alive in ((20 + OVERDUE - 1, True), (1, False)):
        house.clock.advance(seconds)
        assert dispatcher.alive is alive
    gate.set()
    await eventually(lambda: dispatcher.alive)


async def test_stop_lets_attempts_in_flight_end(house: House) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate)
    dispatcher = await house.start(make_webhook(receiver.url()))
    first, second = await house.commit(make_callback(), make_callback())
    await receiver.until(lambda: receiver.open == 1)
    stopping = asyncio.create_task(dispatcher.stop(grace=60))
    await asyncio.sleep(0)
    assert not dispatcher.alive
    gate.set()
    await stopping
    assert await house.state(first) is CallbackState.DELIVERED
    assert await house.state(second) is CallbackState.PENDING
    assert len(receiver.requests) == 1


async def test_stop_cancels_after_its_grace_and_what_hung_is_sent_again(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(hang())
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook)
    (callback,) = await house.commit(make_callback())
    await receiver.until(lambda: receiver.open == 1)
    async with asyncio.timeout(LIMIT):
        await dispatcher.stop(grace=0.05)
    assert await house.state(callback) is CallbackState.PENDING
    assert await house.store.attempts.of(callback.message_id) == []
    assert house.clock.armed == []
    await house.start(webhook)
    await house.settled(callback, CallbackState.DELIVERED)
    assert ids(receiver.requests) == [callback.message_id] * 2


# --- reconfigure -------------------------------------------------------------------------------


async def test_an_edited_url_and_secret_apply_to_what_is_pending_at_once(house: House) -> None:
    old, new = await house.receiver(), await house.receiver()
    old.default = answer(404)
    dispatcher = await house.start(make_webhook(old.url()))
    stored = await house.commit(*[make_callback() for _ in range(3)])
    await eventually(lambda: house.clock.armed)
    dispatcher.reconfigure({1: make_webhook(new.url(), secret="a new secret")}, settings())
    await new.until(lambda: len(new.requests) == 3)
    assert ids(new.requests) == calls(stored)
    assert all("webhook-signature" in r.headers for r in new.requests)
    assert len(old.requests) == 1


async def test_an_unchanged_webhook_keeps_its_due_times(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(500)
    dispatcher = await house.start(make_webhook(receiver.url()))
    await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    dispatcher.reconfigure({1: make_webhook(receiver.url())}, settings(max_age=9.0, timeout=3.0))
    assert house.clock.armed == [5]


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_a_disabled_or_deleted_webhook_holds_what_it_has(house: House, how: str) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.script.append(after(gate))
    webhook = make_webhook(receiver.url())
    off = {1: webhook.model_copy(update={"enabled": False})} if how == "disabled" else {}
    dispatcher = await house.start(webhook)
    first, second = await house.commit(make_callback(), make_callback())
    await receiver.until(lambda: receiver.open == 1)
    dispatcher.reconfigure(off, settings())
    assert dispatcher.stats()[1].held
    gate.set()
    await house.settled(first, CallbackState.DELIVERED)
    (third,) = await house.commit(make_callback(udid="another"))
    assert await house.state(second) is CallbackState.PENDING
    assert dispatcher.stats()[1].pending == 0
    dispatcher.reconfigure({1: webhook}, settings())
    await house.settled(second, CallbackState.DELIVERED)
    await house.settled(third, CallbackState.DELIVERED)
    assert len(receiver.requests) == 3


async def test_what_was_cancelled_while_held_is_not_sent(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(500))
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook)
    await house.commit(*[make_callback() for _ in range(3)])
    await eventually(lambda: house.clock.armed)
    dispatcher.reconfigure({}, settings())
    assert await house.store.webhooks.retain([]) == 3
    dispatcher.reconfigure({1: webhook}, settings())
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert len(receiver.requests) == 1


async def test_stats_know_every_webhook_and_forget_those_that_are_gone(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = hang()
    first, second = make_webhook(receiver.url()), make_webhook(receiver.url(), 2)
    dispatcher = await house.start(first)
    assert set(dispatcher.stats()) == {1}
    dispatcher.reconfigure({1: first, 2: second}, settings())
    assert set(dispatcher.stats()) == {1, 2}
    await house.commit(make_callback(1))
    dispatcher.reconfigure({}, settings())
    assert set(dispatcher.stats()) == {1}


async def test_pending_for_a_webhook_unknown_at_start_waits_for_it(house: House) -> None:
    receiver = await house.receiver()
    stored = await house.commit(make_callback(), make_callback())
    dispatcher = await house.start()
    assert dispatcher.stats()[1].held
    dispatcher.reconfigure({1: make_webhook(receiver.url())}, settings())
    await receiver.until(lambda: len(receiver.requests) == 2)
    assert ids(receiver.requests) == calls(stored)


async def test_an_edit_during_a_failing_attempt_counts_at_once(house: House) -> None:
    old, new = await house.receiver(), await house.receiver()
    gate = asyncio.Event()
    old.default = after(gate, answer(410))
    dispatcher = await house.start(make_webhook(old.url()))
    (callback,) = await house.commit(make_callback())
    await old.until(lambda: old.open == 1)
    dispatcher.reconfigure({1: make_webhook(new.url())}, settings())
    gate.set()
    await house.settled(callback, CallbackState.DELIVERED)
    assert len(new.requests) == 1
    assert dispatcher.stats()[1].paused == ""


@pytest.mark.parametrize(
    ("refusal", "waits"),
    [
        (answer(429, ("Retry-After: 3600",)), [3600]),
        (answer(503), [5]),
        (answer(410), [36000, 36000]),
    ],
    ids=["429", "503", "410"],
)
@pytest.mark.parametrize("reloads", [1, 3])
async def test_a_reload_of_an_equal_file_in_mid_attempt_changes_nothing(
    house: House, refusal: Behaviour, waits: list[float], reloads: int
) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate, refusal)
    dispatcher = await house.start(make_webhook(receiver.url()))
    await house.commit(make_callback())
    await receiver.until(lambda: receiver.open == 1)
    for _ in range(reloads):
        dispatcher.reconfigure({1: make_webhook(receiver.url())}, settings())
    gate.set()
    await eventually(lambda: dispatcher.stats()[1].waiting == 1)
    assert house.clock.armed == waits
    assert len(receiver.requests) == 1
    stats = dispatcher.stats()[1]
    assert (stats.failures > 0, bool(stats.paused)) == (True, len(waits) == 2)


async def test_an_edit_that_was_taken_back_in_mid_attempt_is_tried_at_once(house: House) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.script.append(after(gate, answer(410)))
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook)
    (callback,) = await house.commit(make_callback())
    await receiver.until(lambda: receiver.open == 1)
    dispatcher.reconfigure({1: make_webhook(receiver.url("/other"))}, settings())
    dispatcher.reconfigure({1: webhook}, settings())
    gate.set()
    await house.settled(callback, CallbackState.DELIVERED)
    assert dispatcher.stats()[1].paused == ""


@pytest.mark.parametrize("how", ["edited", "disabled", "stopped"])
async def test_what_changed_while_a_load_was_under_way_counts_for_its_attempt(
    house: House, how: str
) -> None:
    old, new = await house.receiver(), await house.receiver()
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    gated.loads.clear()
    (callback,) = await house.commit(make_callback())
    webhook = make_webhook(old.url())
    dispatcher = await house.start(webhook, store=gated)
    await eventually(lambda: gated.loading, "the load's read")
    if how == "edited":
        dispatcher.reconfigure({1: make_webhook(new.url())}, settings())
        gated.loads.set()
        await house.settled(callback, CallbackState.DELIVERED)
        assert len(new.requests) == 1
    elif how == "disabled":
        dispatcher.reconfigure({1: webhook.model_copy(update={"enabled": False})}, settings())
        gated.loads.set()
        await eventually(lambda: dispatcher.stats()[1].in_flight == 0)
    else:
        stopping = asyncio.create_task(dispatcher.stop(LIMIT))
        await asyncio.sleep(0)
        gated.loads.set()
        await stopping
    assert not old.requests


async def test_a_stop_while_the_start_reads_the_store_leaves_it_stopped(house: House) -> None:
    receiver = await house.receiver()
    await house.commit(make_callback())
    dispatcher = house.make(make_webhook(receiver.url()))
    starting = asyncio.create_task(dispatcher.start())
    await asyncio.sleep(0)
    await dispatcher.stop(0)
    await starting
    assert not dispatcher.alive
    await asyncio.sleep(0.05)
    assert not receiver.requests


async def test_a_higher_concurrency_is_used_at_once(house: House) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate)
    webhook = make_webhook(receiver.url())
    dispatcher = await house.start(webhook, concurrency=1)
    await house.commit(*[make_callback(udid=f"{n}") for n in range(5)])
    await receiver.until(lambda: receiver.open == 1)
    dispatcher.reconfigure({1: webhook}, settings(concurrency=4))
    await receiver.until(lambda: receiver.open == 4)
    gate.set()
    await receiver.until(lambda: len(receiver.requests) == 5)


# --- failing and paused webhooks ---------------------------------------------------------------


async def test_gone_pauses_the_webhook_until_its_probe(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(410)
    dispatcher = await house.start(make_webhook(receiver.url()), concurrency=1)
    stored = await house.commit(*[make_callback(udid=f"{n}") for n in range(4)])
    await eventually(lambda: dispatcher.stats()[1].paused)
    stats = dispatcher.stats()[1]
    assert "410" in stats.paused
    assert stats.failing_since_ms == house.clock.wall_ms()
    await house.commit(make_callback(udid="late"))
    house.clock.advance(9.9 * HOUR)
    assert len(receiver.requests) == 1
    house.clock.advance(0.1 * HOUR)
    await receiver.until(lambda: len(receiver.requests) == 2)
    await eventually(lambda: dispatcher.stats()[1].paused)
    receiver.default = answer()
    # A lane whose outcome was not durable yet sets its timer only now; it must not count anew.
    house.clock.advance(10 * HOUR)
    for callback in stored:
        await house.settled(callback, CallbackState.DELIVERED)
    assert dispatcher.stats()[1].paused == ""
    assert dispatcher.stats()[1].failing_since_ms == 0


async def test_an_edit_ends_the_pause_and_a_mere_reload_does_not(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(410))
    dispatcher = await house.start(make_webhook(receiver.url()))
    (callback,) = await house.commit(make_callback())
    await eventually(lambda: house.clock.armed)
    dispatcher.reconfigure({1: make_webhook(receiver.url())}, settings())
    assert dispatcher.stats()[1].paused
    dispatcher.reconfigure({1: make_webhook(receiver.url("/new"))}, settings())
    await house.settled(callback, CallbackState.DELIVERED)
    assert dispatcher.stats()[1].paused == ""
    assert house.clock.armed == []


async def test_while_a_webhook_fails_one_probe_at_a_time_then_all_in_order(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(503)
    dispatcher = await house.start(make_webhook(receiver.url()), concurrency=4)
    stored = await house.commit(*[make_callback(udid=f"{n}") for n in range(12)])
    await eventually(lambda: dispatcher.stats()[1].waiting == 12)
    assert dispatcher.stats()[1].failing_since_ms == house.clock.wall_ms()
    assert "503" in dispatcher.stats()[1].last_error
    receiver.most_open = 0
    gate = asyncio.Event()
    receiver.default = after(gate, answer(503))
    house.clock.advance(5)
    await receiver.until(lambda: receiver.open == 1)
    gate.set()
    await eventually(lambda: dispatcher.stats()[1].waiting == 12)
    assert receiver.most_open == 1
    # One success, of a new device: the others are not kept waiting for their due times.
    receiver.default = answer()
    before = len(receiver.requests)
    await house.commit(make_callback(udid="new"))
    await receiver.until(lambda: len(receiver.requests) == before + 13)
    woken = ids(receiver.requests[before + 1 :])
    assert set(woken) == set(calls(stored))
    assert set(woken[:4]) == set(calls(stored[:4]))
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert house.clock.armed == []


async def test_a_backlog_drains_at_its_rate_and_what_comes_later_does_not(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(503)
    dispatcher = await house.start(make_webhook(receiver.url()), drain_rate=2.0)
    await house.commit(*[make_callback(udid=f"{n}") for n in range(6)])
    await eventually(lambda: dispatcher.stats()[1].waiting == 6)
    receiver.default = answer()
    before = len(receiver.requests)
    await house.commit(make_callback(udid="new"))  # its success ends the failing
    for count in range(2, 8):
        await receiver.until(partial(has_come, receiver, before + count))
        await eventually(lambda: dispatcher.stats()[1].in_flight == 0)
        assert len(receiver.requests) == before + count, "one per half second"
        house.clock.advance(0.5)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    await house.commit(*[make_callback(udid=f"{n}") for n in range(6)])
    await receiver.until(lambda: len(receiver.requests) == before + 13)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert house.clock.armed == []


async def test_a_recovery_does_not_break_into_a_delay_that_was_asked_for(house: House) -> None:
    receiver = await house.receiver()
    receiver.default = answer(429, ("Retry-After: 3600",))
    dispatcher = await house.start(make_webhook(receiver.url()))
    await house.commit(*[make_callback(udid=f"{n}") for n in range(BREAK_AFTER)])
    await eventually(lambda: dispatcher.stats()[1].waiting == BREAK_AFTER)
    receiver.default = answer()
    (other,) = await house.commit(make_callback(udid="other"))
    await house.settled(other, CallbackState.DELIVERED)
    assert dispatcher.stats()[1].waiting == BREAK_AFTER
    assert house.clock.armed == [3600]


@pytest.mark.parametrize("phones", [1, 3, 50])
@pytest.mark.parametrize("away", [20, 60, 599, 2000])
async def test_the_backlog_begins_within_a_probe_of_the_endpoints_return(
    house: House, phones: int, away: int
) -> None:
    receiver = await house.receiver()
    times: list[float] = []
    back = False

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        times.append(house.clock.passed)
        await (answer() if back else answer(503))(request, writer)

    receiver.default = behave
    dispatcher = await house.start(make_webhook(receiver.url()))
    stored = await house.commit(*[make_callback(udid=f"{n}") for n in range(phones)])

    async def pass_by(seconds: int) -> None:
        for _ in range(seconds):
            await eventually(lambda: at_rest(dispatcher))
            house.clock.advance(1)
        await eventually(lambda: at_rest(dispatcher))

    await pass_by(away)
    allowed = 15 if away < 600 else 60
    tried = [*times, float(away)]
    assert max(b - a for a, b in pairwise(tried)) <= allowed
    most = phones * 5 + (away // 14 if away < 600 else 43 + (away - 600) // 55 + 1)
    assert len(times) <= most, "probes come one by one"
    back = True
    times.clear()
    await pass_by(allowed)
    assert times[0] - away <= allowed
    for callback in stored:
        await house.settled(callback, CallbackState.DELIVERED)
    assert house.clock.armed == []


def at_rest(dispatcher: Dispatcher) -> bool:
    return all(not s.in_flight and not s.unrecorded for s in dispatcher.stats().values())


@pytest.mark.parametrize("refusal", [429, 503])
async def test_a_probe_waits_as_long_as_the_endpoint_asked(house: House, refusal: int) -> None:
    receiver = await house.receiver()
    receiver.script += [answer(500), answer(refusal, ("Retry-After: 100",))]
    receiver.default = answer()
    dispatcher = await house.start(make_webhook(receiver.url()), concurrency=1)
    await house.commit(make_callback(udid="a"))
    await eventually(lambda: dispatcher.stats()[1].waiting == 1)
    house.clock.advance(4)
    await house.commit(make_callback(udid="b"))
    await eventually(lambda: dispatcher.stats()[1].waiting == 2)
    receiver.default = answer(500)
    house.clock.advance(1)  # a's own second try, which its schedule has
    await receiver.until(lambda: len(receiver.requests) == 3)
    await eventually(lambda: at_rest(dispatcher))
    house.clock.advance(29)
    assert len(receiver.requests) == 3, "no probe before what it asked for"
    house.clock.advance(100)
    await receiver.until(lambda: len(receiver.requests) > 3)


async def test_a_probed_callback_keeps_its_place_in_the_schedule(house: House) -> None:
    """An hour of probes does not leave it waiting for ten."""
    receiver = await house.receiver()
    receiver.default = answer(503)
    dispatcher = await house.start(make_webhook(receiver.url()))
    await house.commit(make_callback())
    for _ in range(400):
        await eventually(lambda: at_rest(dispatcher))
        house.clock.advance(10)
    await eventually(lambda: at_rest(dispatcher))
    assert len(receiver.requests) > 70
    (due,) = house.clock.armed
    assert due <= 3600
    before = len(receiver.requests)
    house.clock.advance(due)
    await receiver.until(lambda: len(receiver.requests) == before + 1)


async def test_no_probe_while_paused(house: House) -> None:
    receiver = await house.receiver()
    receiver.script += [answer(500), answer(410)]
    receiver.default = answer()
    dispatcher = await house.start(make_webhook(receiver.url()), concurrency=1)
    await house.commit(make_callback(udid="a"), make_callback(udid="b"))
    await eventually(lambda: dispatcher.stats()[1].waiting == 2)
    house.clock.advance(9 * HOUR)
    assert len(receiver.requests) == 2
    assert dispatcher.stats()[1].paused


async def test_one_bad_device_does_not_make_the_webhook_failing(house: House) -> None:
    receiver = await house.receiver()

    async def by_device(request: Request, writer: asyncio.StreamWriter) -> None:
        await answer(400 if request.headers["webhook-id"] == bad.message_id else 200)(
            request, writer
        )

    receiver.default = by_device
    dispatcher = await house.start(make_webhook(receiver.url()))
    bad = make_callback(udid="bad")
    await house.commit(bad)
    for number in range(2 * BREAK_AFTER):
        await eventually(lambda: house.clock.armed)
        (good,) = await house.commit(make_callback(udid=f"good {number}"))
        await house.settled(good, CallbackState.DELIVERED)
        assert dispatcher.stats()[1].failing_since_ms == 0
        house.clock.advance(house.clock.armed[0])


async def test_backlog_latest_sends_only_the_newest_after_failures(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(500))
    await house.start(make_webhook(receiver.url(), backlog="latest"))
    stored = await house.commit(*[make_callback() for _ in range(3 * PREFETCH)])
    await eventually(lambda: house.clock.armed)
    house.clock.advance(5)
    await house.settled(stored[-1], CallbackState.DELIVERED)
    assert ids(receiver.requests) == [stored[0].message_id, stored[-1].message_id]
    assert {await house.state(c) for c in stored[:-1]} == {CallbackState.CANCELLED}


async def test_backlog_latest_keeps_what_is_notified_while_older_ones_are_cancelled(
    house: House,
) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(500))
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    dispatcher = await house.start(make_webhook(receiver.url(), backlog="latest"), store=gated)
    stored = await house.commit(*[make_callback() for _ in range(5)])
    await eventually(lambda: house.clock.armed)
    gated.skips.clear()
    house.clock.advance(5)
    await eventually(lambda: gated.skipping, "the cancelling")
    late = await house.commit(make_callback(), make_callback())
    gated.skips.set()
    await house.settled(late[-1], CallbackState.DELIVERED)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert ids(receiver.requests) == calls([stored[0], late[-1]])
    assert {await house.state(c) for c in [*stored, late[0]]} == {CallbackState.CANCELLED}
    assert await house.store.callbacks.lanes() == []


async def test_a_store_that_refuses_to_cancel_sets_the_lane_aside(house: House) -> None:
    receiver = await house.receiver()
    receiver.script.append(answer(500))
    gated = GatedCallbacks(house.store.callbacks)
    gated.gate.set()
    gated.refuse_skips = 1
    dispatcher = await house.start(make_webhook(receiver.url(), backlog="latest"), store=gated)
    stored = await house.commit(*[make_callback() for _ in range(3)])
    for _ in range(2):
        await eventually(lambda: house.clock.armed)
        house.clock.advance(5)
    await house.settled(stored[-1], CallbackState.DELIVERED)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert ids(receiver.requests) == calls([stored[0], stored[-1]])


async def test_backlog_latest_sends_all_while_nothing_fails(house: House) -> None:
    receiver = await house.receiver()
    await house.start(make_webhook(receiver.url(), backlog="latest"))
    stored = await house.commit(*[make_callback() for _ in range(2 * PREFETCH)])
    await receiver.until(lambda: len(receiver.requests) == len(stored))
    assert ids(receiver.requests) == calls(stored)


# --- notify --------------------------------------------------------------------------------------


async def test_notify_before_start_waits_for_what_is_older(house: House) -> None:
    receiver = await house.receiver()
    old = await house.commit(make_callback(), make_callback(), notify=False)
    dispatcher = house.make(make_webhook(receiver.url()))
    new = await house.commit(make_callback(), make_callback(udid="other"))
    await dispatcher.start()
    await receiver.until(lambda: len(receiver.requests) == 4)
    sent = ids(receiver.requests)
    assert [each for each in sent if each != new[1].message_id] == calls([*old, new[0]])


async def test_a_replay_is_sent_once_more(house: House) -> None:
    receiver = await house.receiver()
    dispatcher = await house.start(make_webhook(receiver.url()))
    first, second = await house.commit(make_callback(), make_callback())
    await house.settled(second, CallbackState.DELIVERED)
    query = DeliveryQuery(message_id=first.message_id)
    again = house.store.deliveries.revive(query, lambda: {1}, dispatcher.notify)
    assert [each async for each in again] == [replace(first, attempts=1)]
    await receiver.until(lambda: len(receiver.requests) == 3)
    assert ids(receiver.requests) == calls([first, second, first])


async def test_twice_notified_is_once_sent(house: House) -> None:
    receiver = await house.receiver()
    gate = asyncio.Event()
    receiver.default = after(gate)
    dispatcher = await house.start(make_webhook(receiver.url()))
    stored = await house.commit(make_callback(), make_callback(), make_callback())
    await receiver.until(lambda: receiver.open == 1)
    dispatcher.notify(stored)
    dispatcher.notify(stored[:1])
    gate.set()
    await house.settled(stored[-1], CallbackState.DELIVERED)
    await eventually(lambda: dispatcher.stats()[1].lanes == 0)
    assert ids(receiver.requests) == calls(stored)
