"""Web pages are kept out, on both listeners; what is no browser is not held up."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest

from agent.api.certificate import context_of
from agent.api.server import ApiServer
from agent.config import Api
from tests.api.nobody import Nobody
from tests.fakes.fake_adb_host import FakeAdbHost
from tests.fakes.sse import follow
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.service.services import Services

REPLAY = "/v1/deliveries/replay"
"""Changes something, and needs no more than Nobody has."""
JSON = ("Content-Type", "application/json")


@asynccontextmanager
async def served(place: Path, kind: str) -> AsyncIterator[tuple[Nobody, aiohttp.ClientSession]]:
    agent = Nobody()
    agent.token = "right"
    server = ApiServer(cast("Services", agent))
    connector: aiohttp.BaseConnector | None = None
    if kind == "tcp":
        server.use_tcp(await server.open_tcp("127.0.0.1:0"))
        base = f"http://{server.address}"
    else:
        server.use_unix(await server.open_unix(place / "s"))
        connector, base = aiohttp.UnixConnector(str(place / "s")), "http://localhost"
    try:
        async with aiohttp.ClientSession(
            base, connector=connector, headers={"Authorization": "Bearer right"}
        ) as session:
            yield agent, session
    finally:
        await server.close()


async def told(response: aiohttp.ClientResponse) -> tuple[int, str]:
    answer = await response.json()
    return response.status, answer["error"]["code"] if "error" in answer else ""


BOTH = pytest.mark.parametrize("kind", ["tcp", "unix"])


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:9178", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("localhost.", True),
        ("[::1]:9178", True),
        ("[fe80::1]", True),
        ("10.1.2.3", True),
        ("Rack-1.lab:9178", True),
        ("rack-1.lab.", True),
        ("other.lab", False),
        ("evil.rack-1.lab", False),
        ("rack-1.lab.evil.example", False),
        ("evil.example", False),
        ("evil.example:9178", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1@evil.example", False),
        ("localhost:80:evil.example", False),
        ("127.1", False),
        ("0x7f000001", False),
        ("[::1]evil.example", False),
        ("[localhost]", True),
        ("localhost evil", False),
        ("é\xff", False),
        ("", False),
        (":80", False),
    ],
)
async def test_only_names_that_no_page_can_rebind_are_answered(
    place: Path, kind: str, method: str, host: str, ours: bool
) -> None:
    async with served(place, kind) as (agent, session):
        agent.hosts = ("rack-1.lab",)
        path = "/v1/devices" if method == "GET" else REPLAY
        async with session.request(method, path, headers={"Host": host}) as response:
            assert await told(response) == ((200, "") if ours else (403, "bad_host"))


@BOTH
async def test_names_follow_a_reload(place: Path, kind: str) -> None:
    async with served(place, kind) as (agent, session):
        for names, status in (((), 403), (("rack-1.lab",), 200), ((), 403)):
            agent.hosts = names
            async with session.get("/v1/devices", headers={"Host": "rack-1.lab"}) as response:
                assert response.status == status


SITES = [
    ({}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://through.a.proxy"}, True),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:9178"}, False),
    ({"Sec-Fetch-Site": ""}, False),
    ({"Sec-Fetch-Site": "nonsense"}, False),
    ({"Origin": "http://localhost:9178"}, True),
    ({"Origin": "https://LOCALHOST:9178"}, True),
    ({"Origin": "http://localhost:3000"}, False),
    ({"Origin": "http://localhost"}, False),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "http://localhost:9178.evil.example"}, False),
    ({"Origin": "http://evil.example/localhost:9178"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "http://[::1"}, False),
    ({"Origin": "file://"}, False),
    ({"Origin": "file://localhost:9178"}, False),
    ({"Origin": "chrome-extension://localhost:9178"}, False),
    ({"Origin": "//localhost:9178"}, False),
]


@BOTH
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "PUT"])
@pytest.mark.parametrize(("headers", "ours"), SITES, ids=str)
async def test_nothing_is_changed_for_a_page_of_another_origin(
    place: Path, kind: str, method: str, headers: dict[str, str], ours: bool
) -> None:
    async with served(place, kind) as (_, session):
        headers = {"Host": "localhost:9178", **headers}
        async with session.request(method, REPLAY, json={}, headers=headers) as response:
            status = await told(response)
        if not ours:
            assert status == (403, "cross_site")
        else:
            assert status in {(200, ""), (404, "not_found"), (405, "method_not_allowed")}
        async with session.get("/v1/devices", headers=headers) as response:
            assert response.status == 200, "reading changes nothing, and no page reads the answer"
            assert not [name for name in response.headers if name.lower().startswith("access-")]


V4, V6, NAMED = "10.1.2.3:9178", "[2001:db8::7]:9178", "rack-1.lab"
ORIGINS = [
    # Host, Origin, without TLS here, with TLS here
    (V4, f"http://{V4}", True, False),
    (V4, f"https://{V4}", True, True),
    (V4, "http://10.1.2.3", False, False),
    (V4, "http://10.1.2.3:80", False, False),
    (V4, "http://10.1.2.4:9178", False, False),
    (V4, "https://10.1.2.3:443", False, False),
    (V4, f"wss://{V4}", False, False),
    (V4, f"http://{V4}/", False, False),
    (V4, f"http://{V4}?x", False, False),
    (V4, f"http://x@{V4}", False, False),
    (V6, f"http://{V6}", True, False),
    (V6, f"https://{V6.upper()}", True, True),
    (V6, "https://[2001:db8::7]", False, False),
    (V6, "https://[2001:db8::8]:9178", False, False),
    (V6, "https://2001:db8::7:9178", False, False),
    ("[::1]", "http://[::1]", True, False),
    ("[::1]", "http://[::1]:80", True, False),
    ("[::1]", "http://[::1]:443", False, False),
    ("[::1]:443", "https://[::1]", True, True),
    ("[::1]:80", "http://[::1]", True, False),
    (NAMED, f"http://{NAMED}", True, False),
    (NAMED, f"https://{NAMED}", True, True),
    (NAMED, f"https://{NAMED}:443", True, True),
    (f"{NAMED}:443", f"https://{NAMED}", True, True),
    (f"{NAMED}:443", f"http://{NAMED}", False, False),
    (f"{NAMED}:80", f"http://{NAMED}", True, False),
    (f"{NAMED}:80", f"https://{NAMED}", False, False),
    (NAMED, f"https://{NAMED}.evil.example", False, False),
    (NAMED, f"https://evil.example/{NAMED}", False, False),
    (NAMED, f"https://{NAMED}:8443", False, False),
    ("127.0.0.1:9178", "http://localhost:9178", False, False),
]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_an_origin_is_the_host_it_asks_with_its_port_and_not_without_tls_where_there_is(
    pki: Path, secure: bool
) -> None:
    agent = Nobody()
    agent.token, agent.hosts = "right", (NAMED,)
    api = Api(cert=str(pki / "server.pem"), key=str(pki / "server.key")) if secure else Api()
    server = ApiServer(cast("Services", agent))
    server.use_tcp(await server.open_tcp("127.0.0.1:0", context_of(api)))
    base = f"{'https' if secure else 'http'}://{server.address}"
    trust = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    async with aiohttp.ClientSession(base, headers={"Authorization": "Bearer right"}) as session:
        for host, origin, plain, tls in ORIGINS:
            headers = {"Host": host, "Origin": origin}
            # The certificate's name, whatever the header says.
            async with session.post(
                REPLAY, json={}, headers=headers, ssl=trust, server_hostname="127.0.0.1"
            ) as response:
                status = await told(response)
            good = tls if secure else plain
            assert status == ((200, "") if good else (403, "cross_site")), (host, origin)
    await server.close()


@BOTH
@pytest.mark.parametrize(
    ("kind_of_body", "good"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/plain", False),
        ("text/plain; application/json", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("application/octet-stream", False),
        ("application/json, text/plain", False),
        ("application/jsonx", False),
        ("text/json", False),
        ("", False),
    ],
)
async def test_a_body_that_does_not_say_it_is_json_is_not_taken(
    place: Path, kind: str, kind_of_body: str, good: bool
) -> None:
    async with served(place, kind) as (_, session):
        for path in (REPLAY, "/v1/reload", "/v1/leases"):
            async with session.post(
                path, data=b'{"state": 1}', headers={"Content-Type": kind_of_body}
            ) as response:
                status = await told(response)
                assert (status == (415, "unsupported_media_type")) == (not good), status
        # Nothing is no body, whatever clients say of it.
        async with session.post(REPLAY, headers={"Content-Type": kind_of_body}) as response:
            assert response.status == 200


@BOTH
async def test_a_chunked_body_is_one_too(place: Path, kind: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    async with (
        served(place, kind) as (_, session),
        session.post(REPLAY, data=body(), headers={"Content-Type": "text/plain"}) as response,
    ):
        assert await told(response) == (415, "unsupported_media_type")


CONFIG = ONLY_ADB


async def test_the_running_agent_takes_names_from_its_file_and_keeps_pages_out(
    place: Path,
) -> None:
    """A page at another origin, through `ssh -L` of the socket; curl; the commands; a proxy."""
    async with FakeAdbHost() as host, AgentProcess(place, CONFIG.format(adb=host.address)) as agent:
        await agent.start()
        async with aiohttp.ClientSession(
            "http://localhost", connector=aiohttp.UnixConnector(str(agent.socket))
        ) as session:
            page = {"Host": "localhost:9000", "Origin": "https://evil.example"}
            hook = {"name": "spy", "url": "https://evil.example/", "events": ["online"]}
            for more, refusal in (
                ({"Content-Type": "text/plain"}, "cross_site"),
                ({"Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"}, "cross_site"),
                ({"Host": "evil.example:9000", "Origin": "http://evil.example:9000"}, "bad_host"),
            ):
                async with session.post(
                    "/v1/webhooks", data=json.dumps(hook), headers={**page, **more}
                ) as response:
                    assert await told(response) == (403, refusal)
            async with session.get("/v1/devices", headers={"Host": "rack-1.lab"}) as response:
                assert response.status == 403
            assert (await agent.api("GET", "/v1/webhooks"))[1] == {"webhooks": []}
            agent.path.write_text(
                agent.path.read_text().replace("[api]\n", '[api]\nhosts = ["Rack-1.lab"]\n')
            )
            code, _, err = await agent.cli("reload")
            assert code == 0, err
            async with session.get("/v1/devices", headers={"Host": "rack-1.lab:80"}) as response:
                assert response.status == 200
        # nginx asks a unix socket as `localhost`, in HTTP/1.0, and must not keep what comes.
        async with follow(agent.socket) as stream:
            assert stream.response.headers["X-Accel-Buffering"] == "no"
            await stream.until("snapshot")
        reader, writer = await asyncio.open_unix_connection(str(agent.socket))
        writer.write(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"event: snapshot\n")
        assert b"X-Accel-Buffering: no\r\n" in head
        writer.close()
        assert await agent.stop() == 0
        lines = [line for line in agent.log if "api.change" in line and "status=403" in line]
        assert len(lines) == 3, "who tried is in the log"
