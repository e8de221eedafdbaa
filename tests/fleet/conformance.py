"""What every link must do, over whatever broker.

A test module subclasses `LinkConformance`:

class TestMine(LinkConformance):
    @pytest.fixture
    async def broker(self): ...yield what makes links...
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

import pytest

from agent.fleet.link import (
    Entry,
    Link,
    LinkError,
    NoAnswerError,
    NobodyError,
    Stream,
)
from tests.fleet.heard import Heard
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from agent.fleet.link import Incoming

STREAM = Stream("DA_TEST", ("da.v1.t.*",), 3600.0, 64 * 1024 * 1024)
BUCKET = "da_test"


class Dialer(Protocol):
    """A broker, to which any number of links can be made."""

    async def dial(self) -> Link:
        """Another one."""


async def answered(request: Incoming, body: bytes) -> None:
    """Answer it."""
    assert request.reply is not None
    await request.reply(body)


class LinkConformance:
    """The suite."""

    @pytest.fixture
    async def link(self, broker: Dialer) -> AsyncIterator[Link]:
        made = await broker.dial()
        yield made
        await made.close()

    @pytest.fixture
    async def other(self, broker: Dialer) -> AsyncIterator[Link]:
        made = await broker.dial()
        yield made
        await made.close()

    # Telling.

    async def test_what_is_published_is_heard_in_order(self, link: Link, other: Link) -> None:
        heard, own = Heard(), Heard()
        await other.subscribe("da.v1.hb.*", heard)
        await link.subscribe("da.v1.hb.a", own)
        for number in range(1000):
            await link.publish("da.v1.hb.a", b"%d" % number)
        await link.publish("da.v1.hb.b", b"b")
        await link.publish("da.v1.x.a", b"none")
        await link.publish("da.v1.hb.a.more", b"none")
        await link.publish("da.v1.hb.a", b"end")
        expected = [b"%d" % number for number in range(1000)]
        await heard.until(1002)
        assert heard.bodies == [*expected, b"b", b"end"]
        assert heard.messages[1000].subject == "da.v1.hb.b"
        await own.until(1001)
        assert own.bodies == [*expected, b"end"]
        assert own.messages[0].reply is None
        assert own.messages[0].sequence == 0

    async def test_nobody_need_listen(self, link: Link) -> None:
        await link.publish("da.v1.hb.a", b"1")
        await link.publish("da.v1.hb.a", b"")

    async def test_a_handler_that_fails_ends_nothing(self, link: Link) -> None:
        heard = Heard()

        def fails(message: Incoming) -> None:
            heard(message)
            raise ZeroDivisionError

        await link.subscribe("da.v1.hb.a", fails)
        for number in range(3):
            await link.publish("da.v1.hb.a", b"%d" % number)
        await heard.until(3)
        await link.make_stream(STREAM)
        await link.follow(STREAM.name, "da.v1.t.*", 0, fails)
        for number in range(3):
            await link.append("da.v1.t.a", b"%d" % number, f"a:1:{number}")
        await heard.until(6)

    # Asking.

    async def test_a_request_is_answered(self, link: Link, other: Link) -> None:
        answers: set[asyncio.Task[None]] = set()

        def echo(request: Incoming) -> None:
            answers.add(asyncio.ensure_future(answered(request, b"re: " + request.body)))

        await other.subscribe("da.v1.h.a.since", echo)
        assert await link.request("da.v1.h.a.since", b"1", LIMIT) == b"re: 1"
        many = [link.request("da.v1.h.a.since", b"%d" % n, LIMIT) for n in range(300)]
        assert await asyncio.gather(*many) == [b"re: %d" % n for n in range(300)]
        await asyncio.gather(*answers)

    async def test_an_empty_answer_is_one(self, link: Link) -> None:
        answers: set[asyncio.Task[None]] = set()
        await link.subscribe(
            "da.v1.h.a.who",
            lambda request: answers.add(asyncio.ensure_future(answered(request, b""))),
        )
        assert await link.request("da.v1.h.a.who", b"", LIMIT) == b""
        await asyncio.gather(*answers)

    async def test_a_request_to_nobody_fails_at_once(self, link: Link) -> None:
        async with asyncio.timeout(LIMIT):
            with pytest.raises(NobodyError, match=r"da\.v1\.h\.a\.who"):
                await link.request("da.v1.h.a.who", b"", 3600)

    async def test_a_request_that_is_not_answered_has_a_limit(
        self, link: Link, other: Link
    ) -> None:
        heard = Heard()
        await other.subscribe("da.v1.h.a.who", heard)
        with pytest.raises(NoAnswerError, match=r"da\.v1\.h\.a\.who"):
            await link.request("da.v1.h.a.who", b"", 0.05)
        # The answer that comes too late goes nowhere.
        (late,) = await heard.until(1)
        await answered(late, b"late")
        asking = asyncio.ensure_future(link.request("da.v1.h.a.who", b"2", LIMIT))
        _, second = await heard.until(2)
        await answered(second, b"in time")
        assert await asking == b"in time"

    # Streams.

    async def test_appends_keep_their_order(self, link: Link) -> None:
        await link.make_stream(STREAM)
        appends = [
            asyncio.ensure_future(link.append("da.v1.t.a", b"%d" % n, f"a:1:{n}"))
            for n in range(500)
        ]
        assert await asyncio.gather(*appends) == list(range(1, 501))
        heard = Heard()
        await link.follow(STREAM.name, "da.v1.t.*", 0, heard)
        await heard.until(500)
        assert heard.bodies == [b"%d" % n for n in range(500)]

    async def test_a_message_is_taken_once(self, link: Link, other: Link) -> None:
        await link.make_stream(STREAM)
        first = await link.append("da.v1.t.a", b"1", "a:1:1")
        assert await other.append("da.v1.t.a", b"1", "a:1:1") == first
        assert await link.append("da.v1.t.a", b"2", "a:1:2") == first + 1

    async def test_no_stream_takes_it(self, link: Link) -> None:
        async with asyncio.timeout(LIMIT):
            with pytest.raises(LinkError, match=r"da\.v1\.t\.a.*hub"):
                await link.append("da.v1.t.a", b"1", "a:1:1")

    async def test_a_stream_is_made_once_and_changed(self, link: Link, other: Link) -> None:
        with pytest.raises(LinkError, match="DA_TEST"):
            await link.last_number(STREAM.name)
        await asyncio.gather(link.make_stream(STREAM), other.make_stream(STREAM))
        made, last = await link.last_number(STREAM.name)
        assert (bool(made), last) == (True, 0)
        await link.append("da.v1.t.a", b"1", "a:1:1")
        more = Stream(STREAM.name, (*STREAM.subjects, "da.v1.done"), 7200.0, 2 * STREAM.max_bytes)
        await link.make_stream(more)
        await link.append("da.v1.done", b"2", "done:1")
        assert await other.last_number(STREAM.name) == (made, 2)

    async def test_a_stream_is_heard_from_behind_a_number(self, link: Link, other: Link) -> None:
        await link.make_stream(STREAM)
        for number in range(1, 6):
            await link.append(f"da.v1.t.{'ab'[number % 2]}", b"%d" % number, f"x:1:{number}")
        of_all, of_one, live = Heard(), Heard(), Heard()
        await other.follow(STREAM.name, "da.v1.t.*", 2, of_all)
        await other.follow(STREAM.name, "da.v1.t.b", 0, of_one)
        await other.follow(STREAM.name, "da.v1.t.*", 5, live)
        await link.append("da.v1.t.a", b"6", "x:1:6")
        await of_all.until(4)
        assert of_all.bodies == [b"3", b"4", b"5", b"6"]
        assert [each.sequence for each in of_all.messages] == [3, 4, 5, 6]
        assert of_all.messages[0].subject == "da.v1.t.b"
        assert of_all.messages[0].reply is None
        await live.until(1)
        assert live.bodies == [b"6"]
        await of_one.until(3)
        assert [each.sequence for each in of_one.messages] == [1, 3, 5]

    async def test_a_long_stream_is_heard_whole(self, link: Link, other: Link) -> None:
        await link.make_stream(STREAM)
        count, size = 3000, 2000
        for start in range(0, count, 250):
            await asyncio.gather(
                *(
                    link.append("da.v1.t.a", b"%d " % n + bytes(size), f"a:1:{n}")
                    for n in range(start, start + 250)
                )
            )
        heard = Heard()
        await other.follow(STREAM.name, "da.v1.t.*", 0, heard)
        await heard.until(count)
        assert [int(each.split()[0].rstrip(b"\0")) for each in heard.bodies] == list(range(count))

    async def test_no_stream_can_be_followed(self, link: Link) -> None:
        with pytest.raises(LinkError, match="DA_TEST"):
            await link.follow(STREAM.name, "da.v1.t.*", 0, Heard())

    # Buckets.

    async def test_values_are_set_and_read(self, link: Link, other: Link) -> None:
        await link.make_bucket(BUCKET)
        await other.make_bucket(BUCKET)
        assert await link.get(BUCKET, "rack-3") is None
        first = await link.put(BUCKET, "rack-3", b"one")
        second = await link.put(BUCKET, "rack-3", bytes(300_000))
        assert second > first > 0
        assert await other.get(BUCKET, "rack-3") == Entry(bytes(300_000), second)
        assert await link.get(BUCKET, "rack-4") is None

    async def test_a_value_is_swapped_by_one(self, link: Link, other: Link) -> None:
        await link.make_bucket(BUCKET)
        tries = await asyncio.gather(
            *(each.swap(BUCKET, "leader", b"%d" % n, 0) for n, each in enumerate((link, other)))
        )
        (revision,) = [each for each in tries if each is not None]
        winner = b"%d" % tries.index(revision)
        assert await link.get(BUCKET, "leader") == Entry(winner, revision)
        assert await link.swap(BUCKET, "leader", b"x", 0) is None
        assert await link.swap(BUCKET, "leader", b"x", revision + 1) is None
        after = await other.swap(BUCKET, "leader", b"next", revision)
        assert after is not None
        assert after > revision
        assert await link.swap(BUCKET, "leader", b"x", revision) is None
        assert await link.get(BUCKET, "leader") == Entry(b"next", after)
        await link.put(BUCKET, "elsewhere", b"")
        assert await link.swap(BUCKET, "leader", b"last", after) is not None

    async def test_a_value_is_removed(self, link: Link, other: Link) -> None:
        await link.make_bucket(BUCKET)
        assert await link.remove(BUCKET, "a")
        await link.put(BUCKET, "a", b"1")
        assert await link.remove(BUCKET, "a")
        assert await other.get(BUCKET, "a") is None
        assert await other.remove(BUCKET, "a")
        heard = Heard()
        await other.watch(BUCKET, heard)
        await link.put(BUCKET, "b", b"2")
        await heard.body(b"2")
        assert heard.bodies == [b"2"]
        await link.put(BUCKET, "a", b"3")
        await heard.body(b"3")

    async def test_a_bucket_is_watched(self, link: Link, other: Link) -> None:
        await link.make_bucket(BUCKET)
        await link.put(BUCKET, "a", b"old")
        await link.put(BUCKET, "b", b"1")
        await link.put(BUCKET, "a", b"2")
        heard = Heard()
        await other.watch(BUCKET, heard)
        await heard.until(2)
        assert {(each.subject, each.body) for each in heard.messages} == {("a", b"2"), ("b", b"1")}
        revision = await link.put(BUCKET, "c", b"3")
        await heard.until(3)
        last = heard.messages[-1]
        assert (last.subject, last.body, last.sequence) == ("c", b"3", revision)

    async def test_there_is_no_bucket(self, link: Link) -> None:
        for call in (
            lambda: link.get(BUCKET, "a"),
            lambda: link.put(BUCKET, "a", b""),
            lambda: link.swap(BUCKET, "a", b"", 0),
            lambda: link.remove(BUCKET, "a"),
            lambda: link.watch(BUCKET, Heard()),
        ):
            async with asyncio.timeout(LIMIT):
                with pytest.raises(LinkError, match=BUCKET):
                    await call()

    # Ending.

    async def test_closing_is_idempotent_and_flushes(self, link: Link, other: Link) -> None:
        heard = Heard()
        await other.subscribe("da.v1.hb.a", heard)
        losing = asyncio.ensure_future(link.lost())
        for number in range(100):
            await link.publish("da.v1.hb.a", b"%d" % number)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(link.close(), link.close())
            await link.close()
            assert await losing == await link.lost()
        await heard.until(100)

    async def test_nothing_works_once_it_is_closed(self, link: Link) -> None:
        await link.make_stream(STREAM)
        await link.close()
        for call in _calls(link).values():
            async with asyncio.timeout(LIMIT):
                with pytest.raises(LinkError):
                    await call()

    async def test_closing_ends_what_waits(self, link: Link, other: Link) -> None:
        heard = Heard()
        await other.subscribe("da.v1.h.a.who", heard)
        asking = asyncio.ensure_future(link.request("da.v1.h.a.who", b"", 3600))
        await heard.until(1)
        await link.close()
        with pytest.raises(LinkError):
            async with asyncio.timeout(LIMIT):
                await asking

    async def test_each_call_can_be_cancelled(self, link: Link) -> None:
        """At each of its steps; and the link is as good as before."""
        await link.make_stream(STREAM)
        await link.make_bucket(BUCKET)
        heard = Heard()
        await link.subscribe("da.v1.h.a.who", heard)
        for name, call in _calls(link).items():
            for steps in range(40):
                task = asyncio.ensure_future(call())
                for _ in range(steps):
                    await asyncio.sleep(0)
                done = task.done()
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, LinkError):
                    async with asyncio.timeout(LIMIT):
                        await task
                assert task.cancelled() or done, f"{name} swallowed a cancellation"
        own = Heard()
        await link.subscribe("da.v1.hb.z", own)
        await link.publish("da.v1.hb.z", b"whole")
        await own.body(b"whole")
        assert await link.put(BUCKET, "z", b"1") > 0

    async def test_waiting_for_its_loss_can_be_cancelled(self, link: Link) -> None:
        first, second = asyncio.ensure_future(link.lost()), asyncio.ensure_future(link.lost())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await link.close()
        assert await second


def _calls(link: Link) -> dict[str, Callable[[], Coroutine[None, None, object]]]:
    return {
        "publish": lambda: link.publish("da.v1.hb.a", b"1"),
        "subscribe": lambda: link.subscribe("da.v1.hb.a", Heard()),
        "request": lambda: link.request("da.v1.h.a.who", b"1", LIMIT),
        "make_stream": lambda: link.make_stream(STREAM),
        "make_bucket": lambda: link.make_bucket(BUCKET),
        "append": lambda: link.append("da.v1.t.a", b"1", "a:1:1"),
        "follow": lambda: link.follow(STREAM.name, "da.v1.t.*", 0, Heard()),
        "last_number": lambda: link.last_number(STREAM.name),
        "get": lambda: link.get(BUCKET, "a"),
        "put": lambda: link.put(BUCKET, "a", b"1"),
        "swap": lambda: link.swap(BUCKET, "a", b"1", 0),
        "remove": lambda: link.remove(BUCKET, "a"),
        "watch": lambda: link.watch(BUCKET, Heard()),
    }
