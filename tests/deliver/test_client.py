"""The client against real receivers, good and hostile."""

from __future__ import annotations

import asyncio
import base64
import gc
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import aiohttp.abc
import pytest
import standardwebhooks

import agent
from agent.deliver.client import Client
from agent.deliver.destination import refuse_address
from agent.deliver.endpoint import BODY_LIMIT
from agent.deliver.policy import Answer, ErrorKind
from agent.wire.resolver import ThreadResolver
from tests.fakes.hanging import Hanging
from tests.fakes.ports import free_port
from tests.fakes.proxy import Proxy
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
from tests.kit.deliver import NOW_MS, make_callback, make_webhook
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    it = Client()
    yield it
    await it.close()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    it = Hanging(tmp_path)
    yield it
    it.close()


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    return free_port()


@pytest.fixture
def collected() -> Iterator[Callable[[], int]]:
    """How much garbage that refers to itself there is since the last call; only it collects."""
    gc.disable()
    yield gc.collect
    gc.enable()


async def send(client: Client, url: str, limit: float = LIMIT, **webhook: Any) -> Answer:
    return await client.attempt(make_webhook(url, **webhook), make_callback(), NOW_MS, limit=limit)


class Names(aiohttp.abc.AbstractResolver):
    """A resolver with a table."""

    def __init__(self, **table: list[str]) -> None:
        self.table = table

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the protocol's
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            aiohttp.abc.ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self.table[host]
        ]

    async def close(self) -> None:
        """Nothing is open."""


# --- what is sent ------------------------------------------------------------------------------


async def test_the_request(receiver: Receiver, client: Client) -> None:
    callback = make_callback(headers=(("Content-Type", "application/json"), ("ce-id", "x")))
    webhook = make_webhook(receiver.url("/a/b?c=d%20e"))
    sent = await client.attempt(webhook, callback, NOW_MS)
    assert sent.status == 200
    assert sent.kind is None
    assert sent.started_ms == NOW_MS
    assert 0 <= sent.duration_ms < LIMIT * 1000
    (request,) = receiver.requests
    assert (request.method, request.target) == ("POST", "/a/b?c=d%20e")
    assert request.body == callback.body
    headers = dict(request.headers)
    assert headers.pop("host") == f"127.0.0.1:{receiver.port}"
    assert headers == {
        "content-type": "application/json",
        "ce-id": "x",
        "webhook-id": callback.message_id,
        "webhook-timestamp": str(NOW_MS // 1000),
        "user-agent": f"device-agent/{agent.__version__}",
        "accept-encoding": "identity",
        "accept": "*/*",
        "content-length": str(len(callback.body)),
    }


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/hook?sig=a%2Fb%7Ec", "/hook?sig=a%2Fb%7Ec"),
        ("/%7Euser/a%2fb;v=1", "/%7Euser/a%2fb;v=1"),
        ("/a/../b/./c//d", "/a/../b/./c//d"),
        ("/hook?", "/hook?"),
        ("?sig=x", "/?sig=x"),
        ("", "/"),
        ("/x?a=1&a=1&&b=+%20&c", "/x?a=1&a=1&&b=+%20&c"),
        ("/x?y=\"<>{}|^`[]\\'", "/x?y=\"<>{}|^`[]\\'"),
        ("/x%zz%", "/x%zz%"),
        ("/x?sig=%F6%ff", "/x?sig=%F6%ff"),
        ("/x?y=1#fragment?z", "/x?y=1"),
        ("/büro?q=ü", "/b%C3%BCro?q=%C3%BC"),
        ("/x?redirect=http://u:p@h/?q#f", "/x?redirect=http://u:p@h/?q"),
    ],
)
async def test_a_url_is_sent_byte_for_byte_as_written(
    receiver: Receiver, client: Client, written: str, sent: str
) -> None:
    for userinfo, proxy in (("", None), ("u:p%40w@", None), ("", receiver.url(""))):
        answered = await send(client, receiver.url(written, userinfo=userinfo), proxy=proxy)
        assert answered.status == 200
        target = receiver.requests[-1].target
        assert target == (receiver.url(sent) if proxy else sent)


async def test_signatures_verify_with_each_secret(receiver: Receiver, client: Client) -> None:
    webhook = make_webhook(receiver.url(), secret=[VECTOR, "plain text"])
    callback = make_callback(body='{"name":"ü"}'.encode())
    await client.attempt(webhook, callback, int(time.time() * 1000))
    (request,) = receiver.requests
    for secret in (VECTOR, b"plain text"):
        standardwebhooks.Webhook(secret).verify(request.body, request.headers)
    assert len(request.headers["webhook-signature"].split(" ")) == 2


async def test_a_retry_is_the_same_message_with_a_new_timestamp(
    receiver: Receiver, client: Client
) -> None:
    webhook = make_webhook(receiver.url(), secret="s3cret text")
    callback = make_callback()
    await client.attempt(webhook, callback, NOW_MS)
    await client.attempt(webhook, callback, NOW_MS + 5000)
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 5
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


async def test_a_rotated_secret_file_counts_from_the_next_attempt(
    receiver: Receiver, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    token = tmp_path / "token"
    webhook = make_webhook(
        receiver.url(),
        secret={"file": str(file)},
        auth={"type": "bearer", "token": {"file": str(token)}},
    )
    for secret in ("first secret", "second secret"):
        file.write_text(secret + "\n")
        token.write_text(f"token of {secret.split()[0]}\n")
        await client.attempt(webhook, make_callback(), int(time.time() * 1000))
        request = receiver.requests[-1]
        standardwebhooks.Webhook(secret.encode()).verify(request.body, request.headers)
        assert request.headers["authorization"] == f"Bearer token of {secret.split()[0]}"
    file.unlink()
    lost = await client.attempt(webhook, make_callback(), NOW_MS)
    assert lost.kind is ErrorKind.SECRET
    assert str(file) in lost.detail
    assert "second" not in lost.detail
    assert len(receiver.requests) == 2


async def test_basic_auth_and_own_headers(receiver: Receiver, client: Client) -> None:
    await send(
        client,
        receiver.url(),
        auth={"type": "basic", "username": "bob", "password": "pä ss:word"},
        headers={"X-Rack": "1", "x-key": "k" * 2000},
    )
    headers = receiver.requests[0].headers
    assert (
        headers["authorization"] == "Basic " + base64.b64encode("bob:pä ss:word".encode()).decode()
    )
    assert headers["x-rack"] == "1"
    assert headers["x-key"] == "k" * 2000


async def test_connections_are_kept_and_cookies_are_not(receiver: Receiver, client: Client) -> None:
    receiver.default = answer(200, ("Set-Cookie: a=b; Path=/",), b"fine")
    webhook = make_webhook(receiver.url())
    for _ in range(3):
        await client.attempt(webhook, make_callback(), NOW_MS)
    assert [r.connection for r in receiver.requests] == [1, 1, 1]
    assert not any("cookie" in r.headers for r in receiver.requests)


async def test_userinfo_of_the_url_is_basic_auth(receiver: Receiver, client: Client) -> None:
    receiver.default = answer(500)
    sent = await send(client, receiver.url(userinfo="bob:hunter22@"))
    assert sent.status == 500
    expected = "Basic " + base64.b64encode(b"bob:hunter22").decode()
    assert receiver.requests[0].headers["authorization"] == expected


async def test_netrc_is_none_of_our_business(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client = Client()
    await send(client, receiver.url())
    await client.close()
    assert "authorization" not in receiver.requests[0].headers


async def test_a_secret_on_a_hanging_file_system_holds_up_its_webhook_only(
    receiver: Receiver, client: Client, hanging: Hanging
) -> None:
    stuck = make_webhook(receiver.url(), secret={"file": str(hanging.file("secret"))})
    before = set(threading.enumerate())  # one of another test may be about to end
    flying = [
        asyncio.create_task(client.attempt(stuck, make_callback(), NOW_MS, limit=0.4))
        for _ in range(20)
    ]
    await eventually(lambda: set(threading.enumerate()) - before, "the read")
    assert (await send(client, receiver.url(), number=2)).status == 200
    for each in flying:
        sent = await each
        assert sent.kind is ErrorKind.SECRET
        assert f"secret file {hanging.file('secret')}" in sent.detail
        assert "0.4 s" in sent.detail
    assert len(set(threading.enumerate()) - before) <= 1
    assert len(receiver.requests) == 1


async def test_certificates_on_a_hanging_file_system_hold_up_their_webhook_only(
    receiver: Receiver, client: Client, hanging: Hanging
) -> None:
    stuck = make_webhook(
        receiver.url().replace("http", "https"), tls={"ca": str(hanging.file("ca.pem"))}
    )
    before = set(threading.enumerate())  # one of another test may be about to end
    flying = [
        asyncio.create_task(client.attempt(stuck, make_callback(), NOW_MS, limit=0.4))
        for _ in range(20)
    ]
    await eventually(lambda: set(threading.enumerate()) - before, "the read")
    assert (await send(client, receiver.url(), number=2)).status == 200
    for each in flying:
        sent = await each
        assert sent.kind is ErrorKind.CONFIG
        assert "within 0.4 s" in sent.detail
    assert len(set(threading.enumerate()) - before) <= 1


# --- what comes back ---------------------------------------------------------------------------


async def test_a_refused_attempt_leaves_no_garbage_behind(
    client: Client, closed_port: int, collected: Callable[[], int]
) -> None:
    """A hundred webhooks that are down would have Python stop the loop to look for it."""
    url = f"http://127.0.0.1:{closed_port}/"
    await send(client, url)  # what is made once
    left = []
    for _ in range(5):
        collected()
        for _ in range(5):
            assert (await send(client, url)).kind is ErrorKind.REFUSED
        left.append(collected())
    # An attempt would leave some each time; threads of the tests' runner may, at one time.
    assert min(left) == 0


async def test_the_excerpt_is_bounded_text(receiver: Receiver, client: Client) -> None:
    receiver.script += [
        answer(500, body=b"queue full"),
        answer(200, body=b"x" * BODY_LIMIT),
        answer(200, body="é".encode() * 2000),
        answer(200, body=b"\x1b[2Jclear\x00\nand \xff more"),
        answer(204),
    ]
    sent = [await send(client, receiver.url()) for _ in range(5)]
    assert [s.status for s in sent] == [500, 200, 200, 200, 204]
    assert sent[0].excerpt == "queue full"
    assert sent[1].excerpt == "x" * 1024
    assert sent[2].excerpt == "é" * 512
    assert sent[3].excerpt == "\ufffd[2Jclear\ufffd\nand \ufffd more"
    assert sent[4].excerpt == ""


async def test_a_redirect_is_not_followed_and_named_bare(
    receiver: Receiver, client: Client
) -> None:
    port = receiver.port
    receiver.script += [
        answer(302, (f"Location: http://u:pw@127.0.0.1:{port}/new?token=t#f",)),
        answer(308, ("Location: ../other?token=t",)),
        answer(307),
        answer(301, ("Location: http://[::1/",)),
    ]
    sent = [await send(client, receiver.url("/a/b?key=k")) for _ in range(4)]
    assert [s.target for s in sent] == [
        f"http://127.0.0.1:{port}/new",
        f"http://127.0.0.1:{port}/other",
        "",
        "an unreadable address",
    ]
    assert len(receiver.requests) == 4


async def test_retry_after_is_handed_on(receiver: Receiver, client: Client) -> None:
    receiver.default = answer(429, ("Retry-After: 120",))
    assert (await send(client, receiver.url())).retry_after == "120"


async def test_an_echo_gives_no_secret_away(receiver: Receiver, client: Client) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        lines = "".join(f"{name}: {value}\n" for name, value in request.fields)
        body = f"{request.target}\n{lines}".encode()
        await answer(400, (), body)(request, writer)

    receiver.default = echo
    sent = await send(
        client,
        receiver.url("/x?key=qu%C3%A9ry-key"),
        auth={"type": "basic", "username": "bob", "password": "pass-word"},
        headers={"X-Key": "header-key"},
        secret="signing-key",
    )
    assert "X-Key: ***" in sent.excerpt
    encoded = base64.b64encode(b"bob:pass-word").decode()
    for private in ("ry-key", "pass-word", encoded, "header-key", "signing-key"):
        assert private not in sent.excerpt
    bearer = await send(client, receiver.url(), auth={"type": "bearer", "token": 'to"ken-1'})
    assert "Bearer ***" in bearer.excerpt


# --- hostile answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    "framing", ["Content-Length: 1073741824", "Transfer-Encoding: chunked", "Connection: close"]
)
async def test_an_endless_answer_is_cut_off(
    receiver: Receiver, client: Client, status: int, framing: str
) -> None:
    data = b"z" * 65536
    chunk = b"10000\r\n" + data + b"\r\n" if "chunked" in framing else data
    receiver.default = endless(f"HTTP/1.1 {status} X\r\n{framing}\r\n\r\n".encode(), chunk)
    sent = await send(client, receiver.url())
    assert sent.status == status
    assert sent.excerpt == "z" * 1024
    await receiver.until(lambda: receiver.open == 0, "the connection's end")
    assert receiver.lost == 1


async def test_a_dripping_body_does_not_undo_a_success(receiver: Receiver) -> None:
    receiver.default = endless(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b".", 0.02)
    client = Client()
    sent = await send(client, receiver.url(), limit=0.3)
    assert sent.status == 200
    assert set(sent.excerpt) == {"."}
    assert sent.duration_ms < LIMIT * 1000
    await client.close()


@pytest.mark.parametrize("status", [200, 503])
async def test_dripping_headers_leave_the_status(
    receiver: Receiver, client: Client, status: int
) -> None:
    receiver.default = endless(f"HTTP/1.1 {status} OK\r\n".encode(), b"X: y\r\n", 0.05)
    sent = await send(client, receiver.url(), limit=0.3)
    assert (sent.status, sent.kind) == (status, None)
    assert len(receiver.requests) == 1


async def test_a_silent_endpoint_is_too_slow(receiver: Receiver, client: Client) -> None:
    receiver.default = hang()
    sent = await send(client, receiver.url(), limit=LIMIT, timeout="200ms")
    assert sent.kind is ErrorKind.TOO_SLOW
    assert 200 <= sent.duration_ms < LIMIT * 1000


@pytest.mark.parametrize("status", [200, 503])
async def test_a_reset_in_mid_body_leaves_the_status(
    receiver: Receiver, client: Client, status: int
) -> None:
    receiver.default = reset(f"HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\nhalf".encode())
    sent = await send(client, receiver.url())
    assert sent.status in {status, None}
    # The reset may overtake the bytes before it: then no status was ever seen.
    assert sent.status == status or sent.kind is ErrorKind.RESET


async def test_a_body_that_ends_early_leaves_the_status(receiver: Receiver, client: Client) -> None:
    receiver.default = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", close=True)
    assert (await send(client, receiver.url())).status == 200


async def test_bad_chunking_leaves_the_status(receiver: Receiver, client: Client) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def in_two_steps(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head + b"4\r\nhalf\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        await raw(b"no-hex\r\nrest", close=True)(request, writer)

    receiver.default = in_two_steps
    sent = await send(client, receiver.url())
    assert (sent.status, sent.excerpt) == (200, "half")


async def test_reset_without_an_answer(receiver: Receiver, client: Client) -> None:
    receiver.default = reset()
    sent = await send(client, receiver.url())
    assert (sent.status, sent.kind) == (None, ErrorKind.RESET)
    assert f"127.0.0.1:{receiver.port}" in sent.detail


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1  " + b" " * 1_000_000,
        b"ICY 200 OK\r\n\r\n",
        b"X: HTTP/1.1 200 OK\r\n\r\n",
        b"\x00" * 1000,
    ],
    ids=lambda data: data[:24].decode("latin-1").encode("unicode_escape").decode(),
)
async def test_what_is_no_http_is_no_answer(
    receiver: Receiver, client: Client, data: bytes
) -> None:
    receiver.default = raw(data, close=True)
    sent = await send(client, receiver.url())
    assert (sent.status, sent.kind) == (None, ErrorKind.BAD_HTTP)
    assert len(sent.detail) < 200


async def test_an_answer_for_ever_informational_is_too_slow(
    receiver: Receiver, client: Client
) -> None:
    receiver.default = endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.01)
    assert (await send(client, receiver.url(), limit=0.3)).kind is ErrorKind.TOO_SLOW


async def test_compressed_answers_are_not_unpacked(receiver: Receiver, client: Client) -> None:
    receiver.default = answer(200, ("Content-Encoding: gzip",), b"no gzip at all")
    sent = await send(client, receiver.url())
    assert (sent.status, sent.excerpt) == (200, "no gzip at all")


# --- connections -------------------------------------------------------------------------------


async def test_a_kept_connection_that_died_is_replaced_at_once(
    receiver: Receiver, client: Client
) -> None:
    receiver.script += [answer(), hang_up(), answer(201)]
    first = await send(client, receiver.url())
    second = await send(client, receiver.url())
    assert (first.status, second.status) == (200, 201)
    assert [r.connection for r in receiver.requests] == [1, 1, 2]
    assert receiver.requests[1].headers["webhook-id"] == receiver.requests[2].headers["webhook-id"]


async def test_the_resend_goes_over_a_new_connection_however_many_kept_ones_died(
    receiver: Receiver, client: Client
) -> None:
    together = asyncio.Event()
    receiver.default = after(together)
    webhook = make_webhook(receiver.url())
    first = [
        asyncio.create_task(client.attempt(webhook, make_callback(), NOW_MS)) for _ in range(4)
    ]
    await receiver.until(lambda: receiver.open == 4)
    together.set()
    assert [(await each).status for each in first] == [200] * 4

    async def dead(request: Request, writer: asyncio.StreamWriter) -> None:
        await (hang_up() if request.connection <= 4 else answer(201))(request, writer)

    receiver.default = dead
    for number in range(1, 5):
        sent = await client.attempt(webhook, make_callback(), NOW_MS)
        assert (sent.status, sent.detail) == (201, "")
        # One over a dead connection, one over a new one.
        assert len(receiver.requests) == 4 + 2 * number
        assert receiver.requests[-1].connection == 4 + number


async def test_a_dead_connection_is_told_from_a_new_one_while_others_are_opened(
    receiver: Receiver, client: Client
) -> None:
    """What another attempt does meanwhile says nothing of this one."""
    webhook = make_webhook(receiver.url())
    await client.attempt(webhook, make_callback(), NOW_MS)
    gate = asyncio.Event()
    receiver.script += [after(gate, hang_up()), answer(202), answer(201)]
    over_kept = asyncio.create_task(client.attempt(webhook, make_callback(), NOW_MS))
    await receiver.until(lambda: receiver.open == 1)
    assert (await client.attempt(webhook, make_callback(), NOW_MS)).status == 202  # a new one
    gate.set()
    assert (await over_kept).status == 201


async def test_an_attempt_and_its_resend_have_one_limit(receiver: Receiver, client: Client) -> None:
    webhook = make_webhook(receiver.url())
    await client.attempt(webhook, make_callback(), NOW_MS)
    gate = asyncio.Event()
    receiver.script += [after(gate, hang_up()), hang()]
    flying = asyncio.create_task(client.attempt(webhook, make_callback(), NOW_MS, limit=1.0))
    await receiver.until(lambda: receiver.open == 1)
    asyncio.get_running_loop().call_later(0.7, gate.set)
    sent = await flying
    assert sent.kind is ErrorKind.TOO_SLOW
    assert sent.duration_ms < 1600


async def test_a_new_connection_that_is_hung_up_is_no_reason_to_send_again(
    receiver: Receiver, client: Client
) -> None:
    receiver.default = hang_up()
    sent = await send(client, receiver.url())
    assert sent.kind is ErrorKind.RESET
    assert len(receiver.requests) == 1


async def test_nobody_listens(client: Client) -> None:
    port = free_port()
    sent = await send(client, f"http://user:hunter22@127.0.0.1:{port}/p?token=abcd")
    assert (sent.status, sent.kind) == (None, ErrorKind.REFUSED)
    assert f"127.0.0.1:{port}" in sent.detail
    assert not {"hunter22", "abcd", "token"} & set(sent.detail.replace("/", " ").split())
    assert "hunter22" not in sent.detail


async def test_a_name_that_does_not_exist(client: Client) -> None:
    sent = await send(client, "http://no-such-host.invalid/?token=abcd")
    assert sent.kind is ErrorKind.DNS
    assert "no-such-host.invalid" in sent.detail
    assert "abcd" not in sent.detail


async def test_a_full_backlog_is_a_timeout_of_the_connection(client: Client) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        try:
            for _ in range(3):  # the kernel takes one or two more than it was asked to
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(address)
                fillers.append(filler)
            # The connection's share of the limit ends well before the whole, on a busy machine too.
            sent = await send(client, f"http://127.0.0.1:{address[1]}/", limit=3)
        finally:
            for filler in fillers:
                filler.close()
    assert sent.kind is ErrorKind.TIMEOUT


async def test_the_system_resolver_off_the_loop(receiver: Receiver, client: Client) -> None:
    assert (await send(client, receiver.url(host="localhost"))).status == 200
    with pytest.raises(OSError):
        await ThreadResolver().resolve("a" * 64 + ".example", 80)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "[fe80::1]",
        "[febf::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
    ],
)
async def test_link_local_is_refused(client: Client, host: str) -> None:
    sent = await send(client, f"http://{host}/latest/meta-data", limit=5)
    assert sent.kind is ErrorKind.FORBIDDEN
    assert "link-local" in sent.detail


async def test_link_local_behind_a_name_is_refused_at_the_socket(receiver: Receiver) -> None:
    client = Client(
        resolver=Names(
            metadata=["169.254.169.254"],
            six=["fe80::1", "::ffff:169.254.1.1"],
            mixed=["169.254.169.254", "127.0.0.1"],
        )
    )
    try:
        for name in ("metadata", "six"):
            sent = await send(client, f"http://{name}:{receiver.port}/")
            assert sent.kind is ErrorKind.FORBIDDEN, sent
            assert "link-local" in sent.detail
        assert (await send(client, f"http://mixed:{receiver.port}/")).status == 200
    finally:
        await client.close()
    assert len(receiver.requests) == 1


async def test_a_name_that_is_rebound_is_refused_at_its_next_connection(
    receiver: Receiver,
) -> None:
    names = Names(board=["127.0.0.1"])
    client = Client(resolver=names)
    try:
        assert (await send(client, f"http://board:{receiver.port}/")).status == 200
        names.table["board"] = ["169.254.169.254"]
        client.reconfigure({})  # a new session, with connections and names looked up anew
        sent = await send(client, f"http://board:{receiver.port}/", number=2)
        assert sent.kind is ErrorKind.FORBIDDEN
        names.table["board"] = ["127.0.0.1"]
        client.reconfigure({})
        assert (await send(client, f"http://board:{receiver.port}/", number=3)).status == 200
    finally:
        await client.close()
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "127.0.0.1", "::1", "fd00::1", "name"])
def test_private_addresses_and_names_pass(host: str) -> None:
    refuse_address(host)


async def test_a_proxy_of_the_environment(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:pw@127.0.0.1:{receiver.port}")
    monkeypatch.setenv("no_proxy", "direct.example")
    client = Client(resolver=Names(**{"direct.example": ["127.0.0.1"]}))
    try:
        sent = await send(client, "http://board.example/hook?x=1")
        assert sent.status == 200
        forbidden = await send(client, "http://169.254.169.254/", number=2)
        assert forbidden.kind is ErrorKind.FORBIDDEN
        direct = await send(client, f"http://direct.example:{receiver.port}/direct", number=3)
        assert direct.status == 200
    finally:
        await client.close()
    proxied, straight = receiver.requests
    assert proxied.target == "http://board.example/hook?x=1"
    assert proxied.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()
    assert straight.target == "/direct"
    assert "proxy-authorization" not in straight.headers


async def test_a_proxy_that_is_away_or_refuses(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://me:hunter22@127.0.0.1:{port}")
    monkeypatch.setenv("https_proxy", f"http://me:hunter22@127.0.0.1:{receiver.port}")
    receiver.default = answer(407)
    client = Client()
    try:
        away = await send(client, "http://board.example/")
        refused = await send(client, "https://board.example/", number=2)
    finally:
        await client.close()
    for sent in (away, refused):
        assert sent.kind is ErrorKind.PROXY
        assert "hunter22" not in sent.detail
    assert "407" in refused.detail


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("how", ["open", "userinfo", "proxy_auth"])
async def test_a_webhook_has_a_proxy_of_its_own(
    receiver: Receiver,
    secure: Receiver,
    pki: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    how: str,
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # what the webhook says goes first
    monkeypatch.setenv("no_proxy", "*")
    end = secure if scheme == "https" else receiver
    async with Proxy(expects="" if how == "open" else "me:hunter22") as proxy:
        more: dict[str, Any] = {"proxy": proxy.url("me:hunter22@" if how == "userinfo" else "")}
        if how == "proxy_auth":
            more["proxy_auth"] = {"type": "basic", "username": "me", "password": "hunter22"}
        if scheme == "https":
            more["tls"] = {"ca": str(pki / "ca.pem")}
        client = Client()
        try:
            sent = await send(client, end.url(), **more)
            assert (sent.status, sent.detail) == (200, "")
        finally:
            await client.close()
        (first,) = proxy.asked
    (request,) = end.requests
    assert first.split()[0] == ("CONNECT" if scheme == "https" else "POST")
    assert "proxy-authorization" not in request.headers  # that is between us and the proxy


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_knows_nobody_like_us(secure: Receiver, scheme: str) -> None:
    async with Proxy(expects="me:right") as proxy:
        client = Client()
        try:
            auth = {"type": "basic", "username": "me", "password": "wrong-one"}
            sent = await send(
                client,
                secure.url().replace("https", scheme),
                proxy=proxy.url(),
                proxy_auth=auth,
            )
        finally:
            await client.close()
    assert "407" in sent.detail if scheme == "https" else sent.status == 407
    assert "wrong-one" not in repr(sent)


async def test_no_proxy_for_a_webhook_whatever_the_environment_says(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client = Client()
    try:
        assert (await send(client, receiver.url(), proxy="")).status == 200
        assert (await send(client, receiver.url(), number=2)).kind is ErrorKind.PROXY
    finally:
        await client.close()


# --- TLS ---------------------------------------------------------------------------------------


async def test_own_authority(secure: Receiver, client: Client, pki: Path) -> None:
    assert (await send(client, secure.url(), tls={"ca": str(pki / "ca.pem")})).status == 200
    for tls in ({}, {"ca": str(pki / "stranger.pem")}):
        sent = await send(client, secure.url(), tls=tls)
        assert sent.kind is ErrorKind.TLS
        assert "certificate" in sent.detail
    assert (await send(client, secure.url(), tls={"verify": False})).status == 200
    wrong_name = secure.url(host="localhost")
    sent = await send(client, wrong_name, tls={"ca": str(pki / "ca.pem")})
    assert sent.kind is ErrorKind.TLS
    assert "localhost" in sent.detail
    assert len(secure.requests) == 2


async def test_mutual_tls(mutual: Receiver, client: Client, pki: Path) -> None:
    tls = {"ca": str(pki / "ca.pem")}
    named = {**tls, "cert": str(pki / "client.pem"), "key": str(pki / "client.key")}
    assert (await send(client, mutual.url(), tls=named)).status == 200
    assert mutual.requests[0].peer_certificate is not None
    nobody = await send(client, mutual.url(), tls=tls)
    # TLS 1.3: the refusal comes after the handshake, and the reset that follows may overtake it.
    assert nobody.status is None
    assert nobody.kind in {ErrorKind.TLS, ErrorKind.RESET}
    assert len(mutual.requests) == 1


@pytest.mark.parametrize("broken", ["missing", "garbage", "locked"])
async def test_certificates_that_cannot_be_used(
    secure: Receiver, client: Client, pki: Path, tmp_path: Path, broken: str
) -> None:
    file = tmp_path / "file.pem"
    if broken == "garbage":
        file.write_text("no certificate")
    if broken == "locked":
        file.write_bytes((pki / "locked.key").read_bytes())
        tls = {"ca": str(pki / "ca.pem"), "cert": str(pki / "client.pem"), "key": str(file)}
    else:
        tls = {"ca": str(file)}
    sent = await send(client, secure.url(), tls=tls)
    assert sent.kind is ErrorKind.CONFIG
    assert str(file) in sent.detail
    if broken == "locked":
        assert "passphrase" in sent.detail
    assert not secure.requests


async def test_plain_http_on_a_tls_port_and_the_reverse(
    secure: Receiver, receiver: Receiver, client: Client
) -> None:
    plain = await send(client, f"http://127.0.0.1:{secure.port}/")
    assert plain.kind in {ErrorKind.RESET, ErrorKind.BAD_HTTP}
    crossed = await send(client, f"https://127.0.0.1:{receiver.port}/", limit=2)
    assert crossed.kind in {ErrorKind.TLS, ErrorKind.TOO_SLOW, ErrorKind.TIMEOUT}


# --- configurations come and go ----------------------------------------------------------------


async def test_an_edited_webhook_gets_a_new_session(receiver: Receiver, client: Client) -> None:
    before, equal = make_webhook(receiver.url("/1")), make_webhook(receiver.url("/1"))
    await client.attempt(before, make_callback(), NOW_MS)
    await client.attempt(equal, make_callback(), NOW_MS)
    await client.attempt(make_webhook(receiver.url("/2")), make_callback(), NOW_MS)
    assert [(r.target, r.connection) for r in receiver.requests] == [
        ("/1", 1),
        ("/1", 1),
        ("/2", 2),
    ]


async def test_reconfigure_lets_an_attempt_in_flight_end(
    receiver: Receiver, client: Client
) -> None:
    gate = asyncio.Event()
    receiver.default = after(gate, answer(202))
    webhook = make_webhook(receiver.url())
    flying = asyncio.create_task(client.attempt(webhook, make_callback(), NOW_MS))
    await receiver.until(lambda: receiver.open == 1)
    client.reconfigure({})
    gate.set()
    assert (await flying).status == 202
    again = await client.attempt(webhook, make_callback(), NOW_MS)
    assert again.status == 202
    assert [r.connection for r in receiver.requests] == [1, 2]


async def test_reconfigure_keeps_what_did_not_change(receiver: Receiver, client: Client) -> None:
    webhook = make_webhook(receiver.url())
    await client.attempt(webhook, make_callback(), NOW_MS)
    client.reconfigure({1: make_webhook(receiver.url())})
    await client.attempt(webhook, make_callback(), NOW_MS)
    assert receiver.connections == 1


async def test_renewed_certificates_are_read_at_a_reload(
    secure: Receiver, client: Client, pki: Path, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes((pki / "stranger.pem").read_bytes())
    webhook = make_webhook(secure.url(), tls={"ca": str(file)})
    assert (await client.attempt(webhook, make_callback(), NOW_MS)).kind is ErrorKind.TLS
    file.write_bytes((pki / "ca.pem").read_bytes())
    client.reconfigure({1: webhook})
    assert (await client.attempt(webhook, make_callback(), NOW_MS)).status == 200


async def test_cancelling_leaves_nothing_open(receiver: Receiver) -> None:
    receiver.default = hang()
    client = Client()
    flying = asyncio.create_task(send(client, receiver.url()))
    await receiver.until(lambda: receiver.open == 1)
    flying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flying
    await client.close()


def test_the_limits_are_those_of_the_contract() -> None:
    assert BODY_LIMIT == 16 * 1024


async def test_a_part_of_a_path_that_is_secret_is_not_shown_either(receiver: Receiver) -> None:
    receiver.default = answer(400, body=b"no team T00000000: bad token XXXXXXXXabcd")
    client = Client(resolver=Names(**{"hooks.slack.com": ["127.0.0.1"]}))
    try:
        url = f"http://hooks.slack.com:{receiver.port}/services/T00000000/B0/XXXXXXXXabcd"
        sent = await send(client, url)
    finally:
        await client.close()
    assert sent.excerpt == "no team ***: bad token ***"
