"""Which servers the link over NATS takes, and who is let in there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.fleet.link import LinkError
from tests.fakes.ports import free_ports
from tests.fleet.conformance import BUCKET, STREAM
from tests.fleet.heard import Heard
from tests.fleet.linking import SECRET, linked, refusal
from tests.kit.nats_jwt import USER, Key, Operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.kit.broker import Broker

    Serve = Callable[..., Awaitable[Broker]]


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


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_hung_up_after_tls(how: str, pki: Path) -> None:
    """So a broker does that refuses our certificate: the client of TLS 1.3 is done by then."""
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(pki / "server.pem", pki / "server.key")

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id":"x","version":"2.10.0","max_payload":1,"tls_required":true}\r\n'
        )
        await writer.start_tls(ours)
        if how == "closed":
            writer.close()
            return
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with _served(meet) as port:
        said = await refusal(f"nats://127.0.0.1:{port}", tls={"ca": str(pki / "ca.pem")})
    assert "client's certificate" in said


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
