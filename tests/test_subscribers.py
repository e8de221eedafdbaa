"""News come in order, once, in the next turn of the loop; who breaks on them harms nobody."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent.subscribers import SLICE, Subscribers, Topic
from tests.kit.clock import ClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


LEASE, USAGE, DEVICE = Topic.LEASE, Topic.USAGE, Topic.DEVICE


@contextmanager
def stage() -> Iterator[tuple[ClockLoop, Subscribers, list[str]]]:
    """A loop that is turned by hand, the list, and what was told."""
    loop = ClockLoop()
    yield loop, Subscribers(), []
    assert loop.broken == []
    loop.close()


def publish_all(news: Subscribers, each: Iterable[tuple[Topic, str]]) -> None:
    for topic, udid in each:
        news.publish(topic, udid)


def write_down(told: list[tuple[Topic, str]], topic: Topic, udid: str) -> None:
    told.append((topic, udid))


def hears(told: list[str], name: str) -> Callable[[str], None]:
    return lambda udid: told.append(f"{name} {udid}".strip())


def test_nobody_is_told_within_the_call_but_in_the_next_turn() -> None:
    with stage() as (loop, news, told):
        news.subscribe(LEASE, hears(told, "a"), hears(told, "b"))

        def change() -> None:
            news.publish(LEASE, "1")
            assert told == []

        loop.turn(change)
        assert told == []
        loop.turn()
        assert told == ["a 1", "b 1"], "in the order in which they subscribed"
        loop.turn()
        assert len(told) == 2


def test_in_the_order_of_publishing_of_all_topics_and_once() -> None:
    with stage() as (loop, news, told):
        news.subscribe(LEASE, hears(told, "lease"))
        news.subscribe(DEVICE, hears(told, "device"))

        def change() -> None:
            for topic, udid in ((DEVICE, "2"), (LEASE, "1"), (DEVICE, "2"), (DEVICE, "1")):
                news.publish(topic, udid)
            news.publisher(DEVICE)("2")
            news.publish(USAGE, "1")  # which nobody wants to know

        loop.turn(change)
        loop.turn()
        assert told == ["device 2", "lease 1", "device 1"]


def test_what_a_subscriber_publishes_comes_in_the_turn_after() -> None:
    """A ring of two that never comes to rest gives every turn to the others as well."""
    with stage() as (loop, news, told):
        news.subscribe(LEASE, hears(told, "lease"), news.publisher(USAGE))
        news.subscribe(USAGE, hears(told, "usage"), news.publisher(LEASE))
        loop.turn(partial(news.publish, LEASE, "1"))
        for rounds in range(1, 5):
            loop.turn()
            assert len(told) == rounds
        assert told == ["lease 1", "usage 1"] * 2


def test_one_that_raises_is_said_and_keeps_no_other_from_it() -> None:
    def fail(udid: str) -> None:
        raise KeyError(udid)

    with stage() as (loop, news, told), structlog.testing.capture_logs() as logs:
        news.subscribe(LEASE, fail, hears(told, "b"))
        loop.turn(partial(publish_all, news, [(LEASE, "1"), (LEASE, "2")]))
        loop.turn()
        assert told == ["b 1", "b 2"]
        said = [each for each in logs if each["event"] == "subscriber.failed"]
        assert [(each["topic"], each["udid"]) for each in said] == [("lease", "1"), ("lease", "2")]


def test_a_log_that_cannot_be_written_keeps_nobody_from_it() -> None:
    def broken_pipe(*_: object) -> dict[str, object]:
        raise BrokenPipeError

    def fail(udid: str) -> None:
        raise KeyError(udid)

    with stage() as (loop, news, told):
        news.subscribe(LEASE, fail, hears(told, "b"))
        processors = structlog.get_config()["processors"]
        before = processors.copy()
        processors[:] = [broken_pipe]
        try:
            loop.turn(partial(news.publish, LEASE, "1"))
            loop.turn()
        finally:
            processors[:] = before
        assert told == ["b 1"]


def test_one_that_ends_the_turn_ends_no_delivery_for_good() -> None:
    def fail(udid: str) -> None:
        raise asyncio.CancelledError(udid)

    loop = ClockLoop()
    news, told = Subscribers(), list[str]()
    news.subscribe(LEASE, fail)
    news.subscribe(DEVICE, hears(told, "b"))
    for round_ in range(2):
        loop.turn(partial(publish_all, news, [(LEASE, "1"), (DEVICE, "1")]))
        loop.turns(3)
        assert told == ["b 1"] * (round_ + 1)
    loop.close()


def test_a_long_delivery_goes_on_in_the_next_turn_before_what_came_meanwhile() -> None:
    with stage() as (loop, news, told):

        def slow(udid: str) -> None:
            told.append(udid)
            loop.now += SLICE / 2
            if udid == "0":
                news.publish(DEVICE, "new")

        news.subscribe(DEVICE, slow)
        loop.turn(partial(publish_all, news, [(DEVICE, str(n)) for n in range(5)]))
        counts = []
        for _ in range(4):
            loop.turn()
            counts.append(len(told))
        assert counts == [2, 4, 6, 6]
        assert told == ["0", "1", "2", "3", "4", "new"]


@given(st.lists(st.lists(st.tuples(st.sampled_from(Topic), st.sampled_from("abc"))), max_size=6))
def test_whatever_is_published_is_told_after_it_and_never_more_than_there_is(
    turns: list[list[tuple[Topic, str]]],
) -> None:
    with stage() as (loop, news, _):
        told: list[tuple[Topic, str]] = []
        for topic in Topic:
            news.subscribe(topic, partial(write_down, told, topic))
        for published in turns:
            told.clear()
            loop.turn(partial(publish_all, news, published))
            assert told == []
            loop.turn()
            assert told == list(dict.fromkeys(published))


async def test_on_a_real_loop() -> None:
    news = Subscribers()
    heard = asyncio.Event()
    news.subscribe(Topic.STORE, lambda _: heard.set())
    news.publish(Topic.STORE)
    assert not heard.is_set()
    async with asyncio.timeout(10):
        await heard.wait()
