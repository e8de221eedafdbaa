"""The link over NATS, on real servers: that of Debian and a new one."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.config.model import Fleet
from agent.fleet.broker_link import BrokerLink
from agent.fleet.host import host_of
from agent.fleet.link import LinkError, NoAnswerError, Stream
from agent.fleet.nats_link import NatsWire, dial
from tests.fleet.conformance import BUCKET, STREAM, LinkConformance
from tests.fleet.heard import Heard
from tests.fleet.lossy import lossy
from tests.kit.broker import BUNDLED, Broker, Cluster, free_ports, packaged
from tests.kit.nats_jwt import USER, Key, Operator
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.fleet.link import Link

    Serve = Callable[..., Awaitable[Broker]]

SECRET = "hunter22"


def fleet(*servers: str, host: str = "rack-1", **more: Any) -> Fleet:
    """Its section of the configuration."""
    return Fleet.model_validate({"servers": list(servers), "host": host, **more})


@contextlib.asynccontextmanager
async def linked(*servers: str, **more: Any) -> AsyncIterator[Link]:
    """A link, closed at the end."""
    link = await dial(fleet(*servers, **more))
    try:
        yield link
    finally:
        await link.close()


async def refusal(*servers: str, **more: Any) -> str:
    """Why there is no link; no secret is in it, nor in what led to it."""
    with pytest.raises(LinkError) as caught:
        await dial(fleet(*servers, **more))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__context__
    return str(caught.value)


async def api(link: Link, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A call of JetStream that links do not make."""
    assert isinstance(link, BrokerLink)
    return await link._jetstream.call("a test", name, body or {})


def socket_of(link: Link) -> asyncio.ReadTransport:
    """To be paused: a reader that is too slow."""
    assert isinstance(link, BrokerLink)
    assert isinstance(link._wire, NatsWire)
    writer = link._wire._transport._io_writer
    assert writer is not None
    transport = writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    return transport


@pytest.fixture(params=["bundled", "packaged"])
def binary(request: pytest.FixtureRequest) -> Path:
    """Both servers, one after the other."""
    return BUNDLED if request.param == "bundled" else packaged()


@pytest.fixture
async def serve(tmp_path: Path, binary: Path) -> AsyncIterator[Callable[..., Awaitable[Broker]]]:
    """Starts servers."""
    servers: list[Broker] = []

    async def start(**more: Any) -> Broker:
        made = Broker(tmp_path / f"server{len(servers)}", binary, **more)
        servers.append(made)
        return await made.start()

    yield start
    for each in servers:
        each.close()


class _Dialer:
    def __init__(self, server: Broker) -> None:
        self.server = server

    async def dial(self) -> Link:
        return await dial(fleet(self.server.url))


class TestConformance(LinkConformance):
    @pytest.fixture
    async def broker(self, serve: Serve) -> _Dialer:
        return _Dialer(await serve())


# A server that goes away.


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
        assert heard.messages[-1].sequence == 1
        assert [line["event"] for line in lines] == ["fleet.not_followed", "fleet.followed_again"]
        assert STREAM.name in lines[0]["reason"]


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


async def test_a_removed_key_can_be_taken_again(serve: Serve) -> None:
    server = await serve()
    async with linked(server.url) as link:
        await link.make_bucket(BUCKET)
        heard = Heard()
        await link.watch(BUCKET, heard)
        first = await link.put(BUCKET, "leader", b"1")
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


# Who is let in.


async def test_user_and_password(serve: Serve) -> None:
    server = await serve(
        more=f'authorization {{\n  users: [\n    {{user: "a@b", password: "{SECRET}/@:%"}}\n  ]\n}}'
    )
    address = f"127.0.0.1:{server.port}"
    async with linked(f"nats://a%40b:{SECRET}%2F%40%3A%25@{address}") as link:
        await link.publish("da.v1.hb.a", b"")
        assert SECRET not in repr(link)
        server.kill()
        assert SECRET not in await link.lost()
    await server.start()
    for url in (f"nats://a%40b:{SECRET}@{address}", f"nats://{SECRET}@{address}", server.url):
        said = await refusal(url)
        assert "does not let us in" in said
        assert server.url in said


async def test_a_token(serve: Serve) -> None:
    server = await serve(more=f'authorization {{\n  token: "{SECRET}"\n}}')
    async with linked(f"nats://{SECRET}@127.0.0.1:{server.port}"):
        pass
    assert "does not let us in" in await refusal(server.url)


async def test_credentials(serve: Serve, tmp_path: Path) -> None:
    operator = Operator()
    server = await serve(more=operator.config)
    path = tmp_path / "fleet.creds"
    more: dict[str, Any] = {"credentials": {"file": str(path)}}
    path.write_text(operator.user("rack-1"))
    async with linked(server.url, **more) as link:
        await link.make_stream(STREAM)
    async with linked(server.url, credentials=path.read_text()):
        pass
    path.write_text(Operator().user("rack-1"))
    said = await refusal(server.url, **more)
    assert "does not let us in" in said
    assert "credentials" in said
    path.write_text(operator.user("rack-1", pub={"deny": [">"]}, sub={"allow": ["nothing"]}))
    said = await refusal(server.url, **more)
    assert "subscribe to _INBOX.agent.rack-1." in said
    assert "permissions" in said


async def test_a_key_alone(serve: Serve) -> None:
    key = Key(USER)
    server = await serve(more=f"authorization {{\n  users: [\n    {{nkey: {key.public}}}\n  ]\n}}")
    async with linked(server.url, credentials=key.seed):
        pass
    assert "does not let us in" in await refusal(server.url, credentials=Key(USER).seed)


async def test_what_is_no_credentials(tmp_path: Path) -> None:
    url = "nats://127.0.0.1:1"
    path = tmp_path / "fleet.creds"
    more: dict[str, Any] = {"credentials": {"file": str(path)}}
    assert f"{path} does not exist" in await refusal(url, **more)
    path.write_text(SECRET)
    said = await refusal(url, **more)
    assert f"{path} holds no NATS credentials" in said
    assert "nsc generate creds" in said
    good = Key(USER).seed
    other = good[:20] + ("A" if good[20] != "A" else "B") + good[21:]
    for seed in (Key(0).seed, other):
        path.write_text(f"--- BEGIN USER NKEY SEED ---\n{seed}\n--- END USER NKEY SEED ---\n")
        said = await refusal(url, **more)
        assert "a seed that is none of a user's" in said
        assert seed not in said


async def test_what_is_not_allowed_is_said_at_once(serve: Serve) -> None:
    server = await serve(
        more=(
            "authorization {\n  users: [\n    {user: u, password: p, permissions: {\n"
            '      publish: ["da.v1.t.rack-1"]\n'
            '      subscribe: ["_INBOX.agent.rack-1.>"]\n'
            "    }}\n  ]\n}"
        )
    )
    async with linked(f"nats://u:p@127.0.0.1:{server.port}") as link:
        async with asyncio.timeout(4):
            for call in (
                lambda: link.append("da.v1.t.RACK-2", b"", "x"),
                lambda: link.request("da.v1.t.RACK-2", b"", 3600),
                lambda: link.last_number(STREAM.name),
                lambda: link.get(BUCKET, "a"),
                lambda: link.subscribe("da.v1.t.RACK-2", Heard()),
            ):
                with pytest.raises(LinkError, match=f"{server.url} does not allow.*permissions"):
                    await call()
            with capture_logs() as lines:
                for _ in range(100):
                    await link.publish("da.v1.hb.rack-2", b"")
                with pytest.raises(LinkError, match=r"da\.v1\.t\.rack-1"):  # all before it is told
                    await link.append("da.v1.t.rack-1", b"", "x")
        assert {line["event"] for line in lines} == {"fleet.not_allowed"}
        assert 0 < len(lines) <= 20


# TLS.

_TLS = """tls {{
  cert_file: "{pki}/server.pem"
  key_file: "{pki}/server.key"
  {more}
}}"""


async def test_tls(serve: Serve, pki: Path) -> None:
    server = await serve(more=_TLS.format(pki=pki, more=""))
    ours = {"ca": str(pki / "ca.pem")}
    for url in (server.url, server.url.replace("nats:", "tls:")):
        async with linked(url, tls=ours) as link:
            await link.make_stream(STREAM)
        said = await refusal(url, tls={"ca": str(pki / "stranger.pem")})
        assert f"certificate of {url} refused" in said
        assert "tls.ca" in said
        assert "certificate of" in await refusal(url)


async def test_mutual_tls(serve: Serve, pki: Path) -> None:
    server = await serve(more=_TLS.format(pki=pki, more=f'ca_file: "{pki}/ca.pem"\n  verify: true'))
    ours = {"ca": str(pki / "ca.pem")}
    client = {"cert": str(pki / "client.pem"), "key": str(pki / "client.key")}
    async with linked(server.url, tls={**ours, **client}):
        pass
    said = await refusal(server.url, tls=ours)
    assert "client's certificate" in said
    said = await refusal(server.url, tls={**ours, **client, "key": str(pki / "locked.key")})
    assert "passphrase" in said
    said = await refusal(server.url, tls={"ca": str(pki / "nothing.pem")})
    assert "tls.ca" in said


async def test_nothing_is_told_without_tls_where_that_is_wanted(serve: Serve, pki: Path) -> None:
    server = await serve(
        more=f'authorization {{\n  user: u\n  password: "{SECRET}"\n}}\ntrace: true'
    )
    for url, tls in (
        (f"tls://u:{SECRET}@127.0.0.1:{server.port}", {}),
        (f"nats://u:{SECRET}@127.0.0.1:{server.port}", {"ca": str(pki / "ca.pem")}),
    ):
        assert "offers no TLS" in await refusal(url, tls=tls)
    server.end()
    assert "CONNECT" not in server.log


# What is no broker of ours.


@contextlib.asynccontextmanager
async def _served(
    meet: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server of another kind; its port."""
    writers: list[asyncio.StreamWriter] = []

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            await meet(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for each in writers:
        each.transport.abort()
        with contextlib.suppress(OSError):
            await each.wait_closed()


def _foreign(greeting: bytes, *, close: bool = False) -> AbstractAsyncContextManager[int]:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        if not close:
            await reader.read()

    return _served(meet)


@pytest.mark.parametrize(
    ("greeting", "close"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", False),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", True),
        (b"", True),
        (b"\0" * 300_000, False),
        (b"INFO {nonsense\r\n", False),
        (b"INFO []\r\n", False),
    ],
    ids=["ssh", "http", "nothing", "endless", "half", "other"],
)
async def test_something_else_answers(greeting: bytes, close: bool) -> None:
    async with _foreign(greeting, close=close) as port:
        said = await refusal(f"nats://u:{SECRET}@127.0.0.1:{port}")
    assert f"nats://127.0.0.1:{port}" in said
    assert "no NATS server" in said or "closed the connection" in said


async def test_nothing_answers() -> None:
    async with _foreign(b"") as port:
        said = await refusal(f"nats://127.0.0.1:{port}")
    assert "does not answer" in said


async def test_an_old_server() -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.8.4","max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")

    async with _served(meet) as port:
        said = await refusal(f"nats://127.0.0.1:{port}")
    assert "2.8" in said
    assert "2.9 or newer" in said


async def test_nobody_listens_and_no_such_name() -> None:
    (port,) = free_ports(1)
    assert "nothing listens there" in await refusal(f"nats://127.0.0.1:{port}")
    said = await refusal(f"nats://u:{SECRET}@no-such-host.invalid:4222")
    assert said.startswith("cannot connect to nats://no-such-host.invalid:4222: ")


async def test_one_of_several_servers_is_enough(serve: Serve) -> None:
    server = await serve()
    first, second = (f"nats://127.0.0.1:{port}" for port in free_ports(2))
    for _ in range(4):  # they are tried in any order
        async with linked(first, server.url, second):
            pass
    said = await refusal(first, second)
    assert first in said
    assert second in said


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
    async with asyncio.timeout(2 * LIMIT):
        while True:
            try:
                await link.append("da.v1.t.a", b"%d" % number, f"a:1:{number}")
            except LinkError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_three_servers_keep_three_copies(cluster: Cluster) -> None:
    async with linked(*cluster.servers) as link:
        await link.make_stream(STREAM)
        await link.make_bucket(BUCKET)
        for name in (STREAM.name, f"KV_{BUCKET}"):
            assert (await api(link, f"STREAM.INFO.{name}"))["config"]["num_replicas"] == 3


async def test_what_is_appended_outlives_its_leader(cluster: Cluster) -> None:
    """Killed, then the next one stopped: heard is all of it, in order, once."""
    async with linked(cluster["n1"].url) as link:
        await link.make_stream(STREAM)
    leader = await cluster.leader(STREAM.name)
    away = next(each for each in cluster.brokers.values() if each is not leader)
    async with linked(away.url) as link, linked(away.url) as following:
        heard = Heard()
        await following.follow(STREAM.name, "da.v1.t.*", 0, heard)
        for number in range(20):
            await _appended(link, number)
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
        await heard.until(60)
        assert heard.bodies == [b"%d" % number for number in range(60)]


async def test_copies_are_made_up_for(cluster: Cluster) -> None:
    """A stream that is made while a server is away is there at once, and on all three later."""
    cluster["n3"].kill()
    async with linked(cluster["n1"].url) as link:

        async def make() -> int:
            await link.make_stream(STREAM)
            info = await api(link, f"STREAM.INFO.{STREAM.name}")
            return int(info["config"]["num_replicas"])

        async with asyncio.timeout(2 * LIMIT):
            while True:
                try:
                    assert await make() in {1, 3}
                except LinkError:  # it may have been the leader
                    await asyncio.sleep(0.05)
                else:
                    break
        assert await link.append("da.v1.t.a", b"1", "a:1:1") == 1
        await cluster["n3"].start()
        await cluster.ready()
        assert await make() == 3
        assert (await link.last_number(STREAM.name))[1] == 1


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
