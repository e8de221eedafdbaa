"""Who may, over real sockets: codes and sessions, a closed listener, who guesses, headers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import aiohttp
import pytest
from aiohttp import hdrs

from agent.api.certificate import context_of
from agent.api.headers import ALWAYS, DATA_POLICY, PAGE_POLICY, put
from agent.api.limits import Limits
from agent.api.routes import MATTERS
from agent.api.server import ApiServer
from agent.config import Api
from agent.errors import SecretError
from agent.service.attempts import BURST, SECONDS
from agent.service.sessions import CODE_SECONDS, IDLE_SECONDS, MOST, PREFIX
from tests.api.nobody import Nobody
from tests.kit.clock import StubClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.service.services import Services

REPLAY = "/v1/deliveries/replay"
"""Changes something, and needs no more than Nobody has."""


class Desk:
    """Both listeners of an agent without devices, under a clock that is turned."""

    def __init__(self, unix: aiohttp.ClientSession, tcp: aiohttp.ClientSession) -> None:
        self.unix = unix
        self.tcp = tcp
        self.clock = StubClock()
        self.agent = Nobody(self.clock)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        bearer: str | None = None,
        *,
        unix: bool = False,
        **headers: str,
    ) -> tuple[int, Any]:
        """Status, and the error's code or the answer."""
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        client = self.unix if unix else self.tcp
        async with client.request(method, path, json=body, headers=headers) as response:
            answer = json.loads(await response.text())
            if response.status == 401:
                assert response.headers["WWW-Authenticate"] == "Bearer"
            return response.status, answer["error"]["code"] if "error" in answer else answer

    async def code(self) -> str:
        status, row = await self.ask("POST", "/v1/sessions/code", unix=True)
        assert status == 200
        return str(row["code"])

    async def log_in(self) -> tuple[str, str]:
        """A session's token and id."""
        status, row = await self.ask("POST", "/v1/sessions", {"code": await self.code()})
        assert status == 201
        return row["token"], row["session"]["id"]


@pytest.fixture
async def desk(place: Path) -> AsyncIterator[Desk]:
    async with made(place) as it:
        yield it


@asynccontextmanager
async def made(place: Path) -> AsyncIterator[Desk]:
    desk = Desk(cast("Any", None), cast("Any", None))
    server = ApiServer(cast("Services", desk.agent))
    server.use_unix(await server.open_unix(place / "s"))
    server.use_tcp(await server.open_tcp("127.0.0.1:0"))
    desk.unix = aiohttp.ClientSession(
        "http://localhost", connector=aiohttp.UnixConnector(str(place / "s"))
    )
    desk.tcp = aiohttp.ClientSession(f"http://{server.address}")
    try:
        yield desk
    finally:
        await desk.unix.close()
        await desk.tcp.close()
        await server.close()


async def test_a_code_from_the_socket_becomes_a_session_that_may_change_things(desk: Desk) -> None:
    assert await desk.ask("POST", REPLAY, {}) == (403, "no_token")
    status, row = await desk.ask("POST", "/v1/sessions/code", unix=True)
    assert status == 200
    assert row["expires_in"] == CODE_SECONDS
    assert row["url"] == f"http://127.0.0.1:{desk.tcp._base_url.port}/#code={row['code']}"  # type: ignore[union-attr]  # it has one
    assert row["exposed"] is False
    status, begun = await desk.ask("POST", "/v1/sessions", {"code": row["code"]})
    assert status == 201
    token = begun["token"]
    assert (await desk.ask("POST", REPLAY, {}, token))[0] == 200
    assert begun["session"]["address"] == "127.0.0.1"
    assert await desk.ask("GET", "/v1/sessions") == (401, "token_needed"), "it names people"
    for unix in (True, False):
        status, listed = await desk.ask("GET", "/v1/sessions", bearer=token, unix=unix)
        assert status == 200
        assert [each["id"] for each in listed["sessions"]] == [begun["session"]["id"]]
        assert token not in json.dumps(listed)
    status, asker = await desk.ask("GET", "/v1/sessions/current", bearer=token)
    assert (status, asker["by"], asker["may_change"]) == (200, "session", True)
    status, ended = await desk.ask("DELETE", "/v1/sessions/current", bearer=token)
    assert (status, ended) == (200, {"ended": begun["session"]["id"]})
    assert await desk.ask("POST", REPLAY, {}, token) == (401, "session_ended")
    assert await desk.ask("GET", "/v1/sessions/current", bearer=token) == (401, "session_ended")
    assert (await desk.ask("GET", "/v1/sessions", unix=True))[1] == {"sessions": []}


async def test_codes_are_given_on_the_socket_alone(desk: Desk) -> None:
    desk.agent.token = "right"
    token, _ = await desk.log_in()
    for bearer, answer in (
        (None, (401, "bad_token")),
        ("right", (403, "socket_only")),
        (token, (403, "socket_only")),
    ):
        assert await desk.ask("POST", "/v1/sessions/code", bearer=bearer) == answer


async def test_without_tcp_there_is_no_page_to_link_to(place: Path) -> None:
    agent = Nobody()
    server = ApiServer(cast("Services", agent))
    server.use_unix(await server.open_unix(place / "s"))
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place / "s"))) as client,
        client.post("http://localhost/v1/sessions/code") as response,
    ):
        assert (await response.json())["url"] is None
    await server.close()


async def test_a_code_works_once_of_two_at_once_too(desk: Desk) -> None:
    for _ in range(5):
        code = await desk.code()
        answers = await asyncio.gather(
            *(desk.ask("POST", "/v1/sessions", {"code": code}) for _ in range(4))
        )
        assert sorted(status for status, _ in answers) == [201, 401, 401, 401]
        assert {code for status, code in answers if status == 401} == {"bad_code"}
        assert await desk.ask("POST", "/v1/sessions", {"code": code}) == (401, "bad_code")


async def test_a_code_is_void_after_a_minute(desk: Desk) -> None:
    code = await desk.code()
    desk.clock.advance(CODE_SECONDS)
    assert await desk.ask("POST", "/v1/sessions", {"code": code}) == (401, "bad_code")


@pytest.mark.parametrize("body", [{}, {"code": 1}, {"code": None}, {"code": "\ud800"}])
async def test_what_is_no_code_is_a_mistake_of_the_asker(desk: Desk, body: dict[str, Any]) -> None:
    assert await desk.ask("POST", "/v1/sessions", body) == (400, "bad_request")


async def test_no_foreign_page_brings_a_code(desk: Desk) -> None:
    answer = await desk.ask(
        "POST", "/v1/sessions", {"code": await desk.code()}, Origin="https://evil.example"
    )
    assert answer == (403, "cross_site")


async def test_sessions_end_idle_and_the_26th_ends_the_one_that_was_idle_longest(
    desk: Desk,
) -> None:
    first, _ = await desk.log_in()
    desk.clock.advance(1)
    second, _ = await desk.log_in()
    desk.clock.advance(1)
    assert (await desk.ask("POST", REPLAY, {}, first))[0] == 200
    for _ in range(MOST - 1):
        desk.clock.advance(1)
        await desk.log_in()
    assert await desk.ask("POST", REPLAY, {}, second) == (401, "session_ended")
    assert (await desk.ask("POST", REPLAY, {}, first))[0] == 200
    desk.clock.set_wall(-1e6)
    desk.clock.advance(IDLE_SECONDS)
    assert await desk.ask("POST", REPLAY, {}, first) == (401, "session_ended")
    assert (await desk.ask("GET", "/v1/sessions", unix=True))[1] == {"sessions": []}


async def test_an_operator_ends_a_session_by_its_id(desk: Desk) -> None:
    token, id_ = await desk.log_in()
    assert await desk.ask("DELETE", f"/v1/sessions/{id_}") == (403, "no_token")
    assert (await desk.ask("DELETE", f"/v1/sessions/{id_}", unix=True))[0] == 200
    assert await desk.ask("DELETE", f"/v1/sessions/{id_}", unix=True) == (404, "unknown_session")
    assert await desk.ask("DELETE", "/v1/sessions/current", unix=True) == (404, "unknown_session")
    assert await desk.ask("POST", REPLAY, {}, token) == (401, "session_ended")


async def test_an_open_listener_reads_to_everybody_and_minds_no_header_of_a_proxy(
    desk: Desk,
) -> None:
    for headers in (
        {},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {PREFIX}old"},
    ):
        async with desk.tcp.get("/v1/devices", headers=headers) as response:
            assert response.status == 200
    assert desk.agent.attempts.wrong == 0


READS = [
    served.route.path
    for matter in MATTERS
    for served in matter.all
    if not served.route.changes and "{" not in served.route.path and served.route.path != "/"
]
"""But for the page, which is for everybody (tests/page) and tells nothing by itself."""


async def test_a_closed_one_reads_to_bearers_alone(desk: Desk) -> None:
    desk.agent.is_shut = True
    assert {"/metrics", "/-/ready", "/v1/events", "/v1/openapi.json"} < set(READS)
    for path in [*READS, "/v1/devices/x", "/no/such"]:
        for bearer in (None, "wrong"):
            answer = await desk.ask("GET", path, bearer=bearer)
            if path == "/-/healthy":
                assert answer == (200, {"status": "ok"})
            elif path == "/v1/sessions/current" and bearer is None:
                assert answer[1] | {"page": None} == {
                    "by": "nobody",
                    "may_read": False,
                    "may_change": False,
                    "session": None,
                    "page": None,
                    "exposed": False,
                }
            else:
                assert answer == (401, "bad_token" if bearer else "token_needed"), path
    for path in ("/v1/devices", "/v1/webhooks"):
        async with desk.tcp.head(path) as response:
            assert response.status == 401
    desk.agent.token = "right"
    assert await desk.ask("GET", "/v1/devices", bearer="wrong") == (401, "bad_token")
    assert await desk.ask("GET", "/v1/devices?token=right") == (401, "token_needed")
    token, _ = await desk.log_in()
    for bearer in ("right", token):
        assert (await desk.ask("GET", "/v1/devices", bearer=bearer))[0] == 200
    async with desk.tcp.get("/v1/devices", headers={"Authorization": "bearer  right "}) as response:
        assert response.status == 200
    assert (await desk.ask("GET", "/v1/devices", unix=True))[0] == 200


async def test_two_tokens_are_none(desk: Desk) -> None:
    desk.agent.token = "right"
    headers = [("Authorization", "Bearer right"), ("Authorization", "Bearer wrong")]
    async with desk.tcp.post(REPLAY, json={}, headers=headers) as response:
        assert response.status == 401


async def test_who_guesses_is_slowed_and_a_session_never_is(desk: Desk) -> None:
    desk.agent.token = "right"
    token, _ = await desk.log_in()
    code = await desk.code()
    for number in range(BURST):
        if number % 2:
            assert await desk.ask("POST", REPLAY, {}, f"wrong{number}") == (401, "bad_token")
        else:
            answer = await desk.ask("POST", "/v1/sessions", {"code": f"wrong{number}"})
            assert answer == (401, "bad_code")
    for bearer in ("wrong", "right"):
        assert await desk.ask("POST", REPLAY, {}, bearer) == (429, "too_many_attempts")
    assert await desk.ask("POST", REPLAY, {}, f"{PREFIX}wrong") == (401, "session_ended")
    assert await desk.ask("POST", "/v1/sessions", {"code": "x"}) == (429, "too_many_attempts")
    assert (await desk.ask("POST", REPLAY, {}, token))[0] == 200
    assert (await desk.ask("POST", "/v1/sessions", {"code": code}))[0] == 201
    assert (await desk.ask("GET", "/v1/devices"))[0] == 200
    assert (await desk.ask("POST", REPLAY, {}, unix=True))[0] == 200
    async with desk.tcp.post(
        REPLAY, json={}, headers={"Authorization": "Bearer right"}
    ) as response:
        assert response.headers["Retry-After"] == f"{SECONDS:.0f}"
        assert f"again in {SECONDS:.0f} s" in (await response.json())["error"]["message"]
    desk.clock.advance(SECONDS - 0.1)
    async with desk.tcp.post(REPLAY, json={}, headers={"Authorization": "Bearer x"}) as response:
        assert "again in 1 s" in (await response.json())["error"]["message"]
        assert response.headers["Retry-After"] == "1"
    desk.clock.advance(0.1)
    assert (await desk.ask("POST", REPLAY, {}, "right"))[0] == 200
    assert desk.agent.attempts.wrong == BURST


async def test_browsers_whose_sessions_have_ended_slow_nobody(desk: Desk) -> None:
    """After a restart each of them goes on asking, all by the address of one proxy."""
    desk.agent.token = "right"
    desk.agent.is_shut = True
    token, id_ = await desk.log_in()
    assert (await desk.ask("DELETE", f"/v1/sessions/{id_}", bearer=token))[0] == 200
    for _ in range(2 * BURST):
        assert await desk.ask("GET", "/v1/devices", bearer=token) == (401, "session_ended")
        assert await desk.ask("GET", "/v1/sessions/current", bearer=token) == (401, "session_ended")
    assert (await desk.ask("GET", "/v1/devices", bearer="right"))[0] == 200
    assert desk.agent.attempts.wrong == 0
    desk.agent.token = f"{PREFIX}like-one"
    for _ in range(BURST):
        assert (await desk.ask("GET", "/v1/devices", bearer=f"{PREFIX}guess"))[0] == 401
    assert (await desk.ask("GET", "/v1/devices", bearer=f"{PREFIX}guess"))[0] == 429


async def test_without_a_token_nothing_is_counted(desk: Desk) -> None:
    desk.agent.token = "right"
    for _ in range(BURST + 1):
        assert await desk.ask("POST", REPLAY, {}) == (401, "bad_token")
    assert (await desk.ask("POST", REPLAY, {}, "right"))[0] == 200


async def test_every_answer_tells_browsers_to_keep_and_run_nothing(desk: Desk) -> None:
    desk.agent.is_shut = True
    for client in (desk.tcp, desk.unix):
        for method, path in (
            ("GET", "/v1/devices"),
            ("GET", "/-/healthy"),
            ("GET", "/no/such"),
            ("POST", REPLAY),
            ("DELETE", "/v1/devices"),
        ):
            async with client.request(method, path) as response:
                assert response.headers["Content-Security-Policy"] == DATA_POLICY
                assert response.headers["Cache-Control"] == "no-store"
                assert ALWAYS.items() <= dict(response.headers).items()
    host, port = desk.tcp._base_url.host, desk.tcp._base_url.port  # type: ignore[union-attr]  # it has one
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"no HTTP\r\n\r\n")
    answer = await reader.read()
    writer.close()
    for name, value in ALWAYS.items():
        assert f"{name}: {value}".encode() in answer


@pytest.mark.parametrize("kind", ["text/html", "text/javascript", "text/css"])
def test_the_page_runs_its_own_parts_and_nothing_else(kind: str) -> None:
    headers = aiohttp.web.Response().headers
    put(headers, kind)
    policy = headers["Content-Security-Policy"]
    assert policy == PAGE_POLICY
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy.split("; ")
    assert hdrs.CACHE_CONTROL not in headers


async def test_tls_wants_a_pair_and_a_connection_that_begins_nothing_is_given_up(
    pki: Path,
) -> None:
    """Those who only knock are counted no longer than they last."""
    api = Api(cert=str(pki / "server.pem"), key=str(pki / "server.key"))
    limits = Limits(tcp=3, handshake=0.2)
    server = ApiServer(cast("Services", Nobody()), limits)
    server.use_tcp(await server.open_tcp("127.0.0.1:0", context_of(api)))
    host, _, port = server.address.partition(":")
    knocking = [socket.create_connection((host, int(port))) for _ in range(3)]
    trust = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    async with aiohttp.ClientSession(f"https://{server.address}") as client:
        async with asyncio.timeout(20):
            while True:
                async with client.get("/-/healthy", ssl=trust) as response:
                    if response.status == 200:
                        break
                    assert response.status == 503
                await asyncio.sleep(0.05)
    for each in knocking:
        each.close()
    await server.close()


async def test_an_address_that_closes_reading_is_closed_before_it_is_in_use(desk: Desk) -> None:
    """A reload opens it before its configuration is in force: by the old one all may read."""
    server = ApiServer(cast("Services", desk.agent))
    new = await server.open_tcp("127.0.0.1:0", shut=True)
    async with aiohttp.ClientSession(f"http://{new.address}") as client:
        desk.tcp, before = client, desk.tcp
        token, _ = await desk.log_in()
        for path in ("/v1/devices", "/v1/events", "/metrics"):
            assert await desk.ask("GET", path) == (401, "token_needed")
        assert (await desk.ask("GET", "/-/healthy"))[0] == 200
        assert (await desk.ask("GET", "/v1/devices", bearer=token))[0] == 200
        assert (await desk.ask("GET", "/v1/sessions/current"))[1]["may_read"] is False
        server.use_tcp(new)
        assert (await desk.ask("GET", "/v1/devices"))[0] == 200, "as the configuration says"
        assert (await desk.ask("GET", "/v1/sessions/current"))[1]["may_read"] is True
        desk.tcp = before
    await server.close()


async def test_who_shows_no_token_is_told_so_though_the_right_one_cannot_be_read(
    desk: Desk,
) -> None:
    desk.agent.is_shut = True
    desk.agent.token = "right"
    with patch.object(desk.agent, "tcp_token", side_effect=SecretError("secret file /etc/x")):
        assert await desk.ask("GET", "/v1/devices") == (401, "token_needed")
        assert await desk.ask("POST", REPLAY, {}) == (401, "bad_token")
        assert await desk.ask("POST", REPLAY, {}, "right") == (500, "failed")
