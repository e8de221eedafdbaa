"""Clients that send slowly, much, or nonsense: answered in the API's words, within a limit."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import pwd
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from structlog.testing import capture_logs

from agent.api.limits import Limits
from agent.api.server import ApiServer
from tests.api.nobody import Nobody
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.service.services import Services

SHORT = Limits(idle=0.3, body=0.3, linger=0.3, unread=0.5, slow=0.3, tcp=3, unix=3)
JSON = b"Content-Type: application/json\r\n"
POST = b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\n"


class Client:
    """Sends bytes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the agent hangs up."""
        async with asyncio.timeout(LIMIT):
            return await self.reader.read()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """One answer: its status and its JSON."""
        async with asyncio.timeout(LIMIT):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert "content-type: application/json" in head, head
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = json.loads(await self.reader.readexactly(length))
        return int(head.split()[1]), body


@asynccontextmanager
async def served(
    unix: Path | None = None, limits: Limits = SHORT
) -> AsyncIterator[tuple[Nobody, Any]]:
    agent = Nobody()
    server = ApiServer(cast("Services", agent), limits)
    if unix is None:
        server.use_tcp(await server.open_tcp("127.0.0.1:0"))
    else:
        server.use_unix(await server.open_unix(unix))
    clients: list[Client] = []

    async def connect() -> Client:
        if unix is None:
            host, _, port = server.address.partition(":")
            client = Client(*await asyncio.open_connection(host, int(port)))
        else:
            client = Client(*await asyncio.open_unix_connection(str(unix)))
        clients.append(client)
        return client

    try:
        yield agent, connect
    finally:
        for client in clients:
            client.writer.close()
        await server.close()


@pytest.mark.parametrize("sent", [b"", b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\nX-A: "])
async def test_a_head_that_does_not_come_whole_is_hung_up_on(sent: bytes) -> None:
    async with served() as (_, connect):
        client = await connect()
        client.send(sent)
        assert await client.rest() == b""


async def test_a_head_that_comes_a_byte_at_a_time_gains_no_time() -> None:
    async with served() as (_, connect):
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                client.send(b"X-Slow: 1\r\n")
                await asyncio.sleep(0.02)  # slower than any client, faster than the limit

        dripping = asyncio.create_task(drip())
        try:
            assert await client.rest() == b""
        except ConnectionError:
            pass  # hung up on while we wrote
        finally:
            dripping.cancel()


async def test_a_connection_that_is_kept_is_hung_up_on_when_idle() -> None:
    async with served() as (_, connect):
        client = await connect()
        client.send(b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


async def test_a_body_that_does_not_come_is_said_and_hung_up_on() -> None:
    async with served() as (agent, connect):
        agent.token = "right"
        client = await connect()
        head = b"Host: localhost\r\nAuthorization: Bearer right\r\nContent-Length: 50\r\n\r\n{"
        client.send(b"POST /v1/leases HTTP/1.1\r\n" + JSON + head)
        status, body = await client.answer()
        assert (status, body["error"]["code"]) == (408, "too_slow")
        assert await client.rest() == b""


async def test_who_asks_and_never_reads_is_hung_up_on() -> None:
    limits = Limits(unread=0.5, tcp=1)
    async with served(limits=limits) as (agent, connect):
        agent.devices.content = [{"name": "x" * 20_000_000}]
        client = await connect()
        client.writer.transport.pause_reading()
        client.send(b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            while True:
                other = await connect()
                other.send(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    if (await other.answer())[0] == 200:
                        break
                await asyncio.sleep(0.05)  # the kernel's clock decides


async def test_one_connection_too_many_is_told_so_and_the_next_one_is_served(
    place: Path,
) -> None:
    for unix in (None, place / "s"):
        async with served(unix, Limits(tcp=3, unix=3)) as (_, connect):
            clients = [await connect() for _ in range(3)]
            for client in clients:
                client.send(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await client.answer())[0] == 200
            status, body = await (await connect()).answer()
            assert (status, body["error"]["code"]) == (503, "busy")
            clients[0].send(
                b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            await clients[0].rest()
            client = await connect()
            client.send(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
        (b"PUT /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method_not_allowed"),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/9\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
            400,
            "bad_request",
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400, "bad_request"),
        (POST + JSON + b"Content-Length: 3\r\n\r\n{x}", 400, "bad_request"),
        (POST + JSON + b"Content-Length: 2\r\n\r\n\xff\xfe", 400, "bad_request"),
        (POST + JSON + b"Content-Length: 400001\r\n\r\n" + b"[" * 400_001, 413, "too_large"),
        (POST + JSON + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000, 400, "bad_request"),
        (POST + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (
            POST + JSON + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
            400,
            "bad_request",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_is_wrong_is_said_in_one_shape(
    place: Path, request_: bytes, status: int, code: str
) -> None:
    async with served(place / "s") as (_, connect):
        client = await connect()
        client.send(request_)
        got, body = await client.answer()
        assert (got, body["error"]["code"]) == (status, code)
        assert isinstance(body["error"]["message"], str)
        assert body["error"]["message"]
        assert body.keys() == {"error"}


async def test_a_small_body_that_unpacks_to_a_large_one_is_too_large(place: Path) -> None:
    body = gzip.compress(b'{"udid": "' + b"a" * 5_000_000 + b'"}')
    head = f"Host: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    async with served(place / "s") as (_, connect):
        client = await connect()
        client.send(b"POST /v1/leases HTTP/1.1\r\n" + JSON + head.encode() + body)
        assert (await client.answer())[0] == 413


async def test_405_says_what_is_taken(place: Path) -> None:
    async with served(place / "s") as (_, connect):
        client = await connect()
        client.send(b"PUT /v1/leases HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"Allow: GET,HEAD,POST" in await client.rest()


async def test_who_changes_something_over_the_socket_is_in_the_log(place: Path) -> None:
    structlog.reset_defaults()
    with capture_logs() as lines:
        async with served(place / "s") as (_, connect):
            client = await connect()
            client.send(b"POST /v1/deliveries/replay HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 200
            client.send(b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 200
    (line,) = [line for line in lines if line["event"] == "api.change"]
    line.pop("log_level")
    assert line == {
        "event": "api.change",
        "method": "POST",
        "path": "/v1/deliveries/replay",
        "status": 200,
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "uid": os.getuid(),
        "pid": os.getpid(),
    }


async def test_over_tcp_the_address_is_in_the_log_of_what_was_refused_too() -> None:
    structlog.reset_defaults()
    with capture_logs() as lines:
        async with served() as (_, connect):
            client = await connect()
            client.send(b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 403
            name = client.writer.get_extra_info("sockname")
    (line,) = [line for line in lines if line["event"] == "api.change"]
    assert (line["status"], line["address"]) == (403, "{}:{}".format(*name))


async def test_a_long_list_is_written_in_pieces_and_whole() -> None:
    for count in (0, 1, 49, 50, 51, 777):
        rows = [{"name": f"né {number}", "tags": ["a", "b"]} for number in range(count)]
        async with served() as (agent, connect):
            agent.devices.content = [{"host": "rack-1", **row} for row in rows]
            client = await connect()
            client.send(b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
            status, body = await client.answer()
            assert (status, body) == (200, {"devices": agent.devices.content})
