"""The link over NATS, on real servers: that of Debian and a new one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.fleet.broker_link import BrokerLink
from agent.fleet.host import host_of
from agent.fleet.link import LinkError, Stream
from agent.fleet.nats_link import dial
from tests.fleet.conformance import BUCKET, STREAM, LinkConformance
from tests.fleet.heard import Heard
from tests.fleet.linking import api, fleet, linked
from tests.fleet.lossy import lossy
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.fleet.link import Link
    from tests.kit.broker import Broker

    Serve = Callable[..., Awaitable[Broker]]


class _Dialer:
    def __init__(self, server: Broker) -> None:
        self.server = server

    async def dial(self) -> Link:
        return await dial(fleet(self.server.url))


class TestConformance(LinkConformance):
    @pytest.fixture
    async def broker(self, serve: Serve) -> _Dialer:
        return _Dialer(await serve())


# Following.


async def test_a_removed_consumer_is_made_anew(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_stream(STREAM)
        heard = Heard()
        await link.follow(STREAM.name, "da.v1.t.*", 0, heard)
        await link.append("da.v1.t.a", b"1", "a:1:1")
        await heard.until(1)
        for name in (await api(link, f"CONSUMER.NAMES.{STREAM.name}"))["consumers"]:
            await api(link, f"CONSUMER.DELETE.{STREAM.name}.{name}")
        for number in range(2, 100):
            await link.append("da.v1.t.a", b"%d" % number, f"a:1:{number}")
        await heard.until(99)
        await link.append("da.v1.t.a", b"100", "a:1:100")
        await heard.until(100)
        assert heard.bodies == [b"%d" % number for number in range(1, 101)]


async def test_what_was_lost_on_the_way_is_heard_all_the_same(serve: Serve) -> None:
    server = await serve()
    async with (
        lossy(server.port) as wire,
        linked(f"nats://127.0.0.1:{wire.port}") as link,
        linked(server.url) as other,
    ):
        await other.make_stream(STREAM)
        heard = Heard()
        await link.follow(STREAM.name, "da.v1.t.*", 0, heard)
        lose = {b"3", b"4", b"10"}

        def once(body: bytes) -> bool:
            """The last one is told by the heartbeat alone."""
            if body not in lose:
                return False
            lose.discard(body)
            return True

        wire.loses = once
        for number in range(1, 11):
            await other.append("da.v1.t.a", b"%d" % number, f"a:1:{number}")
        await heard.until(10)
        assert not lose
        assert heard.bodies == [b"%d" % number for number in range(1, 11)]


async def test_a_bucket_is_watched_on_without_repeats(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_bucket(BUCKET)
        await link.put(BUCKET, "a", b"1")
        heard = Heard()
        await link.watch(BUCKET, heard)
        await heard.until(1)
        for name in (await api(link, f"CONSUMER.NAMES.KV_{BUCKET}"))["consumers"]:
            await api(link, f"CONSUMER.DELETE.KV_{BUCKET}.{name}")
        await link.put(BUCKET, "b", b"2")
        await link.put(BUCKET, "b", b"3")
        await heard.body(b"3")
        assert heard.bodies == [b"1", b"3"]


async def test_a_stream_made_anew_is_heard_from_its_first(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_stream(STREAM)
        heard = Heard()
        await link.follow(STREAM.name, "da.v1.t.*", 0, heard)
        for number in range(5):
            await link.append("da.v1.t.a", b"%d" % number, f"a:1:{number}")
        await heard.until(5)
        with capture_logs() as lines:
            await api(link, f"STREAM.DELETE.{STREAM.name}")
            await eventually(lambda: lines, "a line that says so")
            await link.make_stream(STREAM)
            await link.append("da.v1.t.a", b"new", "a:2:1")
            await heard.body(b"new")
            await eventually(lambda: len(lines) > 1, "a line that it goes on")
        assert heard.messages[-1].sequence == 1
        assert [line["event"] for line in lines] == ["fleet.not_followed", "fleet.followed_again"]
        assert STREAM.name in lines[0]["reason"]


async def test_a_removed_key_can_be_taken_again(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_bucket(BUCKET)
        heard = Heard()
        await link.watch(BUCKET, heard)
        first = await link.put(BUCKET, "leader", b"1")
        # A bucket keeps a key's last value alone: one that is overtaken may never be heard.
        await heard.until(1)
        assert isinstance(link, BrokerLink)
        await link._wire.ask(f"$KV.{BUCKET}.leader", b"", LIMIT, {"KV-Operation": "DEL"})
        assert await link.get(BUCKET, "leader") is None
        assert await link.swap(BUCKET, "leader", b"x", first) is None
        again = await link.swap(BUCKET, "leader", b"2", 0)
        assert again is not None
        assert again > first
        assert await link.swap(BUCKET, "leader", b"3", 0) is None
        await heard.until(2)
        assert heard.bodies == [b"1", b"2"]


async def test_dialling_can_be_cancelled_at_each_step(serve: Serve) -> None:
    server = await serve()
    for steps in range(60):
        task = asyncio.ensure_future(dial(fleet(server.url)))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            await task.result().close()
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def connections() -> int:
        return int((await server.ask("/connz"))["num_connections"])

    async with asyncio.timeout(LIMIT):
        while await connections():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_nothing_is_left_of_a_link(serve: Serve) -> None:
    server = await serve()
    before = asyncio.all_tasks()
    async with linked(server.url) as link:
        await link.make_stream(STREAM)
        await link.make_bucket(BUCKET)
        await link.follow(STREAM.name, "da.v1.t.*", 0, Heard())
        await link.watch(BUCKET, Heard())
        await link.subscribe("da.v1.hb.a", Heard())
        server.kill()
        await link.lost()
    await eventually(lambda: asyncio.all_tasks() <= before, "the end of its tasks")


async def test_no_jetstream(serve: Serve) -> None:
    server = await serve(jetstream=False)
    async with linked(server.url) as link:
        async with asyncio.timeout(LIMIT):
            for call in (
                lambda: link.make_stream(STREAM),
                lambda: link.make_bucket(BUCKET),
                lambda: link.last_number(STREAM.name),
                lambda: link.get(BUCKET, "a"),
                lambda: link.follow(STREAM.name, "da.v1.t.*", 0, Heard()),
                lambda: link.append("da.v1.t.a", b"", "x"),
                lambda: link.put(BUCKET, "a", b""),
            ):
                with pytest.raises(LinkError, match="JetStream"):
                    await call()


async def test_no_room(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        with pytest.raises(LinkError, match="max_file_store"):
            await link.make_stream(Stream("BIG", ("da.v1.big",), 60.0, 1 << 40))


async def test_a_message_that_is_too_large(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_bucket(BUCKET)
        with pytest.raises(LinkError, match="max_payload"):
            await link.put(BUCKET, "a", bytes(1_100_000))
        assert await link.put(BUCKET, "a", bytes(1_000_000)) == 1


async def test_what_does_not_follow_leaves_nothing(serve: Serve) -> None:
    server = await serve(
        more=(
            "authorization {\n  users: [\n    {user: u, password: p, permissions: {\n"
            '      publish: {deny: ["$JS.API.CONSUMER.>"]}\n'
            "    }}\n  ]\n}"
        )
    )
    async with linked(f"nats://u:p@127.0.0.1:{server.port}") as link:

        async def subscriptions() -> int:
            (connection,) = (await server.ask("/connz"))["connections"]
            return int(connection["subscriptions"])

        before = await subscriptions()
        await link.make_stream(STREAM)
        for name in [STREAM.name, "NONE"] * 10:
            with pytest.raises(LinkError):
                await link.follow(name, "da.v1.t.*", 0, Heard())
        await link.subscribe("da.v1.hb.a", Heard())
        async with asyncio.timeout(LIMIT):
            while await subscriptions() != before + 1:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)


def test_it_says_what_to_install(tmp_path: Path) -> None:
    """Without nats-py."""
    code = (
        "import sys; sys.modules['nats'] = None\n"
        "from agent.fleet.link import LinkError\n"
        "try:\n    import agent.fleet.nats_link\n"
        "except LinkError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'device-agent[fleet]'" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_host_has_a_name() -> None:
    """Ever."""
    assert host_of(fleet(host="rack-3")) == "rack-3"
    assert host_of(fleet(host=""))
    assert "." not in host_of(fleet(host=""))
