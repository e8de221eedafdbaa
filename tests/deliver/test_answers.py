"""A received status is the answer, whatever follows it; and nothing else is one."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from agent.deliver.answers import HEAD_LIMIT, Connection, HeadReader
from agent.deliver.client import Client
from agent.deliver.policy import Answer, ErrorKind
from tests.fakes.proxy import Proxy
from tests.fakes.receiver import Receiver, Request, answer, endless, hang_up, raw, reset
from tests.kit.deliver import NOW_MS, make_callback, make_webhook
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.receiver import Behaviour

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    it = Client()
    yield it
    await it.close()


async def send(client: Client, url: str, limit: float = LIMIT, **webhook: Any) -> Answer:
    return await client.attempt(make_webhook(url, **webhook), make_callback(), NOW_MS, limit=limit)


def in_pieces(data: bytes, size: int, *, close: bool = False) -> Behaviour:
    """The bytes, so many in each segment."""

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            await asyncio.sleep(0.001)
        if close:
            writer.close()

    return behave


ODD: dict[str, bytes] = {
    "a header of 9 KB": OK + b"X: " + b"y" * 9_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a header of 60 KB": OK + b"X: " + b"y" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a header of 10 MB": OK + b"X: " + b"y" * 10_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a cookie of 20 KB": OK
    + b"Set-Cookie: a="
    + b"y" * 20_000
    + b"; Path=/\r\nContent-Length: 0\r\n\r\n",
    "150 headers": OK + b"X: y\r\n" * 150 + b"Content-Length: 0\r\n\r\n",
    "1,500,000 headers": OK + b"X: y\r\n" * 1_500_000 + b"\r\n",
    "lengths that are equal": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "lengths in one line": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "lengths that differ": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a length below nothing": OK + b"Content-Length: -1\r\n\r\n",
    "a length that is none": OK + b"Content-Length: two\r\n\r\nok",
    "a length without end": OK + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\nok",
    "a length and chunks": OK
    + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: squeezed\r\n\r\nok",
    "a blank in a name": OK + b"X Rack: 1\r\nContent-Length: 0\r\n\r\n",
    "a blank behind a name": OK + b"Content-Length : 0\r\n\r\n",
    "a line without colon": OK + b"no colon\r\nContent-Length: 0\r\n\r\n",
    "a name that is empty": OK + b": x\r\nContent-Length: 0\r\n\r\n",
    "a folded line": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a folded first line": OK + b" X: a\r\nContent-Length: 0\r\n\r\n",
    "NUL in a header": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "control characters": OK + b"X\x01: \x1b[2J\x7f\r\nContent-Length: 0\r\n\r\n",
    "8-bit characters": OK + b"X-\xfc: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "CR alone": OK + b"X: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "LF alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "CR alone everywhere": b"HTTP/1.1 200 OK\rContent-Length: 0\r\r",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "an empty reason": b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
    "an odd reason": b"HTTP/1.1 200 \xff\x00\x1b tr\xe8s bien\r\nContent-Length: 0\r\n\r\n",
    "a reason of 1 MB": b"HTTP/1.1 200 " + b"O" * 1_000_000,
    "a cut reason": b"HTTP/1.1 200 O",
    "two blanks": b"HTTP/1.1  200  OK\r\nContent-Length: 0\r\n\r\n",
    "a tab": b"HTTP/1.1\t200\tOK\r\nContent-Length: 0\r\n\r\n",
    "line breaks before it": b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "blanks before it": b"  \t" + OK + b"Content-Length: 0\r\n\r\n",
    "a byte order mark before it": b"\xef\xbb\xbf" + OK + b"Content-Length: 0\r\n\r\n",
    "a byte order mark and a line": b"\r\n\xef\xbb\xbf\n" + OK + b"X Y: z\r\n\r\n",
    "lower case": b"http/1.1 200 ok\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1": b"HTTP/1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.10": b"HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 \r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 and 9 KB": b"HTTP/2.0 200 OK\r\nX: " + b"y" * 9_000 + b"\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/1.0 kept": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "201": b"HTTP/1.1 201 Created\r\nContent-Length: two\r\n\r\n",
    "299": b"HTTP/1.1 299 Odd\r\nno colon\r\n\r\n",
    "204 with chunks": b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "204 with a length": b"HTTP/1.1 204 X\r\nContent-Length: 2\r\n\r\nok",
    "204 and a body": b"HTTP/1.1 204 X\r\n\r\nok",
    "205 and a body": b"HTTP/1.1 205 X\r\n\r\nok",
    "more than its length": OK + b"Content-Length: 0\r\n\r\nmore",
    "bytes behind a closing answer": OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nokmore",
    "a second answer behind it": OK
    + b"Content-Length: 2\r\n\r\nok"
    + b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    "a body cut": OK + b"Content-Length: 100\r\n\r\nhalf",
    "chunks cut": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nha",
    "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nno-hex\r\n",
    "a chunk too big": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n",
    "bad trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    "bad gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
    "an unknown encoding": OK + b"Content-Encoding: \xff, x\r\nContent-Length: 4\r\n\r\nnone",
    "an upgrade": OK + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
    "100 before it": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "a bad 103 before it": b"HTTP/1.1 103 X\r\nno colon\r\nX Y: z\r\n\r\n"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "a huge 103 before it": b"HTTP/1.1 103 X\r\nLink: "
    + b"y" * 200_000
    + b"\r\n\r\n"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "100 times 102 before it": b"HTTP/1.1 102 X\nX: y\n\n" * 100 + OK + b"\r\n",
    "100 without its empty line": b"HTTP/1.1 100 Continue\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "103 with a header and no empty line": b"HTTP/1.1 103 X\r\nLink: x\r\nhTTP/1: y\r\n"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "only the line": OK,
    "the head cut in a header": OK + b"Content-Len",
}


@pytest.mark.parametrize("end", ["left open", "closed"])
@pytest.mark.parametrize("name", ODD)
async def test_a_received_2xx_is_the_success_of_one_request(
    receiver: Receiver, name: str, end: str
) -> None:
    client = Client(patience=0.05)
    receiver.script += [raw(ODD[name], close=end == "closed"), answer(500), answer(201)]
    webhook = make_webhook(receiver.url())
    sent = [await client.attempt(webhook, make_callback(), NOW_MS) for _ in range(3)]
    assert sent[0].status in {200, 201, 204, 205, 299}
    assert (sent[0].kind, sent[0].detail) == (None, "")
    # What is left of it on a connection is never the answer to a later request.
    assert [each.status for each in sent[1:]] == [500, 201]
    assert len({r.headers["webhook-id"] for r in receiver.requests}) == 3
    assert len(receiver.requests) == 3
    await client.close()


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize(
    "name",
    [
        "100 before it",
        "100 without its empty line",
        "a bad 103 before it",
        "a byte order mark before it",
        "LF alone",
        "a bad chunk",
    ],
)
async def test_in_tiny_segments(receiver: Receiver, client: Client, name: str, size: int) -> None:
    receiver.default = in_pieces(ODD[name], size, close=True)
    assert (await send(client, receiver.url())).status == 200
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("head", [OK, b"HTTP/1.1 202 ", OK + b"Content-Length: 5\r\n"])
async def test_a_reset_behind_the_status(receiver: Receiver, client: Client, head: bytes) -> None:
    arrived = asyncio.Event()

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        # The reset could overtake what was sent before it: then nothing was received.
        await asyncio.sleep(0.05)
        await reset()(request, writer)
        arrived.set()

    receiver.default = behave
    assert (await send(client, receiver.url())).status in {200, 202}
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("limit", [0.2, LIMIT])
async def test_a_head_that_never_ends_is_not_waited_for(
    receiver: Receiver, client: Client, limit: float
) -> None:
    receiver.default = endless(OK, b"X: y\r\n", 0.01)
    sent = await send(client, receiver.url(), limit=limit)
    assert (sent.status, sent.detail) == (200, "")
    assert sent.duration_ms < LIMIT * 1000 / 2
    await receiver.until(lambda: receiver.open == 0, "the connection's end")


@pytest.mark.parametrize(
    "begun",
    [
        b"H",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200",
        b"HTTP/1.1 103 X\r\n\r\n",
        b"HTTP/1.1 100 X\r\n",
        b"\r\n",
    ],
)
@pytest.mark.parametrize("kept", [False, True])
async def test_half_a_status_is_none(
    receiver: Receiver, client: Client, begun: bytes, kept: bool
) -> None:
    if kept:
        receiver.script.append(answer())
        await send(client, receiver.url())
    receiver.default = raw(begun, close=True)
    sent = await send(client, receiver.url())
    assert (sent.status, sent.kind) == (None, ErrorKind.RESET)
    # A part of an answer came: the endpoint has the request, and gets it again when it is due.
    assert len(receiver.requests) == 1 + kept


async def test_an_answer_that_nobody_asked_for_is_none(receiver: Receiver, client: Client) -> None:
    """A second answer arrives while the connection is idle; the next request is refused."""
    unasked = asyncio.Event()

    async def twice(request: Request, writer: asyncio.StreamWriter) -> None:
        await answer(200)(request, writer)
        await unasked.wait()
        await answer(200)(request, writer)

    receiver.script += [twice]
    receiver.default = answer(503)
    assert (await send(client, receiver.url())).status == 200
    unasked.set()
    await receiver.until(lambda: receiver.open == 0)
    await asyncio.sleep(0.02)
    assert (await send(client, receiver.url())).status == 503


async def test_what_was_said_before_the_request_is_no_answer() -> None:
    """An endpoint that speaks first, to everybody who connects."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    with theirs:
        transport, connection = await loop.create_connection(
            lambda: Connection(loop, 1.0), sock=ours
        )
        connection.data_received(OK + b"Content-Length: 0\r\n\r\n")
        connection.set_response_params()
        assert connection.answered is None
        assert transport.is_closing()
        assert not connection.heard


@pytest.mark.parametrize(
    "behind",
    [
        "Retry-After: 77\r\nno colon\r\n\r\n",
        "no colon\r\nRetry-After: 77\r\n\r\n",
        "X Y: z\r\nRetry-After : 77\r\n\r\n",
        "X: " + "y" * 9_000 + "\r\nRETRY-AFTER:77\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\nRetry-After:\r\n 77\r\n\r\n",
        "X: y\r\n" * 200 + "Retry-After: 77\r\nRetry-After: 78\r\n\r\n",
        "Retry-After: 77\r\nX: cut",
        "Retry-After: 77\r\nX: " + "y" * HEAD_LIMIT,
    ],
    ids=range(8),
)
async def test_a_refusal_in_an_odd_head_is_told_with_its_retry_after(
    receiver: Receiver, client: Client, behind: str
) -> None:
    receiver.default = raw(b"HTTP/1.1 429 X\r\n" + behind.encode(), close=True)
    sent = await send(client, receiver.url())
    assert (sent.status, sent.retry_after) == (429, "77")


async def test_a_redirect_in_an_odd_head_names_its_target(
    receiver: Receiver, client: Client
) -> None:
    receiver.default = raw(b"HTTP/1.1 302 X\r\nno colon\r\nLocation: /new?k=1\r\n\r\n", close=True)
    sent = await send(client, receiver.url())
    assert (sent.status, sent.target) == (302, receiver.url("/new"))


@pytest.mark.parametrize("location", ["?other=1", "#part", "", ".", "/a/b"])
async def test_a_redirect_to_the_same_path_gives_no_query_away(
    receiver: Receiver, client: Client, location: str
) -> None:
    receiver.default = answer(302, (f"Location: {location}",))
    sent = await send(client, receiver.url("/a/b?key=k9"))
    assert "k9" not in sent.target
    assert "key" not in sent.target


async def test_an_odd_head_keeps_the_text_of_its_body(receiver: Receiver, client: Client) -> None:
    receiver.default = raw(b"HTTP/1.1 400 X\r\nno colon\r\nContent-Length: 4\r\n\r\nwhy?")
    sent = await send(client, receiver.url())
    assert (sent.status, sent.excerpt) == (400, "why?")


async def test_101_is_no_success(receiver: Receiver, client: Client) -> None:
    receiver.default = raw(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n\x81\x00")
    assert (await send(client, receiver.url())).status == 101


# --- a proxy's answer to CONNECT ---------------------------------------------------------------


@pytest.mark.parametrize(
    "then", [hang_up(), raw(b"no TLS at all", close=True), reset()], ids=["eof", "noise", "reset"]
)
async def test_the_200_of_a_connect_is_no_answer(
    receiver: Receiver, client: Client, then: Behaviour
) -> None:
    async def tunnel(request: Request, writer: asyncio.StreamWriter) -> None:
        assert request.method == "CONNECT"
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await then(request, writer)

    receiver.default = tunnel
    sent = await send(client, "https://board.example/", proxy=receiver.url(""), limit=5)
    assert sent.status is None
    assert sent.kind in {ErrorKind.TLS, ErrorKind.RESET}


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\nX Y: z\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: " + b"y" * 9_000 + b"\n\n",
    ],
)
async def test_an_odd_answer_to_connect_opens_the_tunnel(
    secure: Receiver, client: Client, pki: Path, head: bytes
) -> None:
    async with Proxy(established=head) as proxy:
        for _ in range(2):
            tls = {"ca": str(pki / "ca.pem")}
            sent = await send(client, secure.url(), proxy=proxy.url(), tls=tls)
            assert (sent.status, sent.detail) == (200, "")
    assert len(secure.requests) == 2


# --- pure --------------------------------------------------------------------------------------

CUTS = st.lists(st.integers(1, 40), max_size=12)
TAIL_LINES = [
    b"Content-Length: 3\r\n",
    b"Content-Length: x\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: x\r\n",
    b"Retry-After: 3\r\n",
    b"no colon\r\n",
    b" folded\r\n",
    b"X: y\n",
    b"\r\n",
    b"\n",
    b"\x00",
    b"abc",
]
TAIL = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(TAIL_LINES), max_size=12).map(b"".join),
)


def feed(data: bytes, cuts: list[int]) -> tuple[HeadReader, list[Any]]:
    reader = HeadReader()
    heads: list[Any] = []
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        if piece and not heads:
            head = reader.feed(piece)
            if head is not None:
                heads.append(head)
    return reader, heads


@given(
    st.sampled_from([b"", b"\r\n", b"HTTP/1.1 100 X\r\nodd\r\n\r\n", b"HTTP/1.0 103 Y\nZ\n\n"]),
    st.integers(200, 599),
    TAIL,
    CUTS,
)
def test_any_split_and_any_tail_leave_the_status(
    before: bytes, status: int, tail: bytes, cuts: list[int]
) -> None:
    reader, heads = feed(before + b"HTTP/1.1 %d X\r\n" % status + tail, cuts)
    assert reader.status == status
    for head in [*heads, reader.so_far()][:1]:
        assert head.status == status


@given(st.integers(200, 599), TAIL, CUTS)
async def test_whatever_came_aiohttp_gets_a_head_that_it_takes(
    status: int, tail: bytes, cuts: list[int]
) -> None:
    loop = asyncio.get_running_loop()
    reader, heads = feed(b"HTTP/1.1 %d X\r\n" % status + tail, cuts)
    head = heads[0] if heads else reader.so_far()
    parser = HttpResponseParser(BaseProtocol(loop), loop, 2**16, read_until_eof=True)
    messages, upgraded, _ = parser.feed_data(head.clean)
    ((message, _),) = messages
    assert (message.code, upgraded) == (status, False)


@given(st.binary(max_size=80), CUTS)
def test_noise_is_no_status(data: bytes, cuts: list[int]) -> None:
    reader, heads = feed(data, cuts)
    if not re.match(rb"(?i)(?:\s|\xef\xbb\xbf)*HTTP/\d", data):
        assert (reader.status, heads) == (0, [])
