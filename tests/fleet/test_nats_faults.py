"""The link over NATS, where servers die, hang, lose what they had, or are too fast."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.fleet.link import LinkError, NoAnswerError
from agent.fleet.nats_link import dial
from tests.fleet.conformance import BUCKET, STREAM
from tests.fleet.heard import Heard
from tests.fleet.linking import api, fleet, insisted, linked, refusal, socket_of
from tests.kit.broker import Broker, Cluster
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.fleet.link import Link

    Serve = Callable[..., Awaitable[Broker]]


async def test_a_killed_server_is_noticed_at_once(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_stream(STREAM)
        await link.subscribe("da.v1.h.a.who", Heard())
        asking = asyncio.ensure_future(link.request("da.v1.h.a.who", b"", 3600))
        losing = asyncio.ensure_future(link.lost())
        await link.append("da.v1.t.a", b"1", "a:1:1")
        server.kill()
        async with asyncio.timeout(2):
            reason = await losing
            with pytest.raises(LinkError) as caught:
                await asking
        assert reason == str(caught.value)
        assert server.url in reason
        with pytest.raises(LinkError, match=server.url):
            await link.append("da.v1.t.a", b"2", "a:1:2")


async def test_what_was_kept_is_there_after_a_restart(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_stream(STREAM)
        await link.make_bucket(BUCKET)
        await link.append("da.v1.t.a", b"1", "a:1:1")
        await link.put(BUCKET, "a", b"one")
        made = await link.last_number(STREAM.name)
    server.end()
    await server.start()
    async with linked(server.url) as link:
        assert await link.last_number(STREAM.name) == made
        assert await link.append("da.v1.t.a", b"2", "a:1:2") == 2
        entry = await link.get(BUCKET, "a")
        assert entry is not None
        assert entry.value == b"one"
        heard = Heard()
        await link.follow(STREAM.name, "da.v1.t.*", 0, heard)
        await heard.until(2)


async def test_a_lost_store_is_told_by_when_the_stream_was_made(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_stream(STREAM)
        await link.append("da.v1.t.a", b"1", "a:1:1")
        made, last = await link.last_number(STREAM.name)
        assert last == 1
    await server.restart(wipe=True)
    async with linked(server.url) as link:
        with pytest.raises(LinkError, match=STREAM.name):
            await link.last_number(STREAM.name)
        with pytest.raises(LinkError, match=r"da\.v1\.t\.a"):
            await link.append("da.v1.t.a", b"1", "a:1:1")
        await link.make_stream(STREAM)
        again, last = await link.last_number(STREAM.name)
        assert again != made
        assert last == 0


async def test_a_silent_server_holds_nothing_up(serve: Serve) -> None:
    """SIGSTOP: connections stand, and nobody answers."""
    server = await serve()
    first, second = await dial(fleet(server.url)), await dial(fleet(server.url))
    await first.make_stream(STREAM)
    server.stop()
    loop = asyncio.get_running_loop()
    began = loop.time()
    losing = asyncio.ensure_future(first.lost())
    appends = [
        asyncio.ensure_future(first.append("da.v1.t.a", bytes(100_000), f"a:1:{n}"))
        for n in range(100)
    ]
    dialling = asyncio.ensure_future(refusal(server.url))
    with pytest.raises(NoAnswerError):
        await second.request("da.v1.h.a.who", b"", 0.05)
    hearing = asyncio.ensure_future(second.subscribe("da.v1.hb.a", Heard()))
    results = await asyncio.gather(*appends, hearing, return_exceptions=True)
    assert all(isinstance(each, LinkError) for each in results), results[-1]
    assert "does not answer" in await dialling
    assert server.url in await losing
    assert loop.time() - began < LIMIT
    closing = loop.time()
    await asyncio.gather(first.close(), second.close())
    assert loop.time() - closing < 5
    server.go_on()
    async with linked(server.url) as link:
        await link.last_number(STREAM.name)


async def test_the_server_that_was_lost_last_is_tried_after_all_others(serve: Serve) -> None:
    """It may hang, and cost its whole limit; the others are tried in any order."""
    lost, *others = [await serve() for _ in range(3)]
    servers = fleet(lost.url, *[each.url for each in others])
    met = set()
    for _ in range(40):
        link = await dial(servers, lost.url)
        met.add(link.where)
        await link.close()
    assert met == {each.url for each in others}
    for each in others:
        each.kill()
    link = await dial(servers, lost.url)
    assert link.where == lost.url
    await link.close()


async def test_closing_does_not_wait_for_a_silent_server(serve: Serve) -> None:
    server = await serve()
    link = await dial(fleet(server.url))
    server.stop()
    for _ in range(100):
        await link.publish("da.v1.hb.a", bytes(100_000))
    async with asyncio.timeout(5):
        await link.close()


async def test_what_waits_to_be_sent_has_a_limit(serve: Serve) -> None:
    server = await serve()
    link = await dial(fleet(server.url))
    server.stop()

    async def much() -> None:
        for _ in range(1000):
            await link.publish("da.v1.hb.a", bytes(100_000))

    with pytest.raises(LinkError, match="takes nothing"):
        await much()
    await link.close()


async def test_a_slow_reader_loses_nothing(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link, linked(server.url) as other:
        await link.make_stream(STREAM)
        heard = Heard()
        await link.follow(STREAM.name, "da.v1.t.*", 0, heard)
        socket_of(link).pause_reading()
        count = 2000
        for start in range(0, count, 100):
            await asyncio.gather(
                *(
                    other.append("da.v1.t.a", b"%d " % n + b"x" * 20_000, f"a:1:{n}")
                    for n in range(start, start + 100)
                )
            )
        socket_of(link).resume_reading()
        await heard.until(count)
        assert [int(each.split()[0]) for each in heard.bodies] == list(range(count))


async def test_a_reader_that_is_cut_off_knows_it(serve: Serve) -> None:
    """A slow consumer, as NATS calls it: what waits for it on the server has a limit."""
    server = await serve(more="max_pending: 1MB")
    async with linked(server.url) as link, linked(server.url) as other:
        await link.subscribe("da.v1.hb.a", Heard())
        losing = asyncio.ensure_future(link.lost())
        socket_of(link).pause_reading()
        for _ in range(150):  # more than both kernels' buffers, less than we let wait
            await other.publish("da.v1.hb.a", bytes(100_000))
        await eventually(lambda: "Slow Consumer" in server.log, "the server's line")
        socket_of(link).resume_reading()
        async with asyncio.timeout(LIMIT):
            assert server.url in await losing


# Three servers.


@pytest.fixture
async def cluster(tmp_path: Path, binary: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path, binary)
    try:
        yield await made.start()
    finally:
        made.close()


async def _appended(link: Link, number: int) -> None:
    """As often as it takes: it is taken once."""
    await insisted(lambda: link.append("da.v1.t.a", b"%d" % number, f"a:1:{number}"))


async def test_three_servers_keep_three_copies(cluster: Cluster) -> None:
    async with linked(*cluster.servers) as link:
        await insisted(lambda: link.make_stream(STREAM))
        await insisted(lambda: link.make_bucket(BUCKET))
        for name in (f"STREAM.INFO.{STREAM.name}", f"STREAM.INFO.KV_{BUCKET}"):
            info = await insisted(partial(api, link, name))
            assert info["config"]["num_replicas"] == 3


async def test_what_is_appended_outlives_its_leader(cluster: Cluster) -> None:
    """Killed, then the next one stopped: heard is all of it, in order, once."""
    async with linked(cluster["n1"].url) as link:
        await insisted(lambda: link.make_stream(STREAM))
    leader = await cluster.leader(STREAM.name)
    away = next(each for each in cluster.brokers.values() if each is not leader)
    async with linked(away.url) as link, linked(away.url) as following:
        heard = Heard()
        await insisted(lambda: following.follow(STREAM.name, "da.v1.t.*", 0, heard))
        for number in range(20):
            await _appended(link, number)
        await cluster.copied(STREAM.name)
        leader.kill()
        for number in range(20, 40):
            await _appended(link, number)
        await leader.start()
        await cluster.ready()
        second = await cluster.leader(STREAM.name)
        stopped = [second] if second is not away else []
        for each in stopped:
            each.stop()
        for number in range(40, 60):
            await _appended(link, number)
        for each in stopped:
            each.go_on()
        # Who followed at the one that stopped asks again, and again while three elect.
        await heard.until(60, 3 * LIMIT)
        assert heard.bodies == [b"%d" % number for number in range(60)]


async def test_copies_are_made_up_for(cluster: Cluster) -> None:
    """A stream that is made while a server is away is there at once, and on all three later."""
    cluster["n3"].kill()
    async with linked(cluster["n1"].url) as link:

        async def make() -> int:
            await link.make_stream(STREAM)
            info = await api(link, f"STREAM.INFO.{STREAM.name}")
            return int(info["config"]["num_replicas"])

        assert await insisted(make) in {1, 3}  # the one that is away may have been the leader
        assert await insisted(lambda: link.append("da.v1.t.a", b"1", "a:1:1")) == 1
        await cluster["n3"].start()
        await cluster.ready()
        assert await insisted(make) == 3

        async def last() -> int:
            return (await link.last_number(STREAM.name))[1]

        # Whoever leads the three may still be catching up.
        async with asyncio.timeout(2 * LIMIT):
            while await insisted(last) != 1:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
