"""Which phone or webhook is meant: the exact one first, and nobody where it may be another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.kit.agent import AgentProcess, cli
from tests.kit.configs import ONLY_ADB

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = (
    ONLY_ADB
    + """\
probe_interval = "0s"
"""
)
HOOKS = """
[[webhooks]]
id = 7
name = "129"
url = "http://127.0.0.1:9/a"
events = ["online"]
[[webhooks]]
id = 129
name = "board"
url = "http://127.0.0.1:9/b"
events = ["online"]
[[webhooks]]
id = 8
name = "twice"
url = "http://127.0.0.1:9/c"
events = ["online"]
[[webhooks]]
id = 9
org_id = 5
name = "twice"
url = "http://127.0.0.1:9/d"
events = ["online"]
[[webhooks]]
name = "given"
url = "http://127.0.0.1:9/e"
events = ["online"]
"""


async def test_a_phone_is_the_very_one_or_none(place: Path) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, CONFIG.format(adb=host.address)) as agent:
        await agent.start()
        # Three of one serial, two at ports that differ in a dash; two whose serials differ in case.
        host.set(Listed("TWIN", port="2-9"))
        await agent.until_device("TWIN", "state", "online")
        host.set(Listed("TWIN", port="1-11"), Listed("TWIN", port="11-1"))
        host.set(Listed("abc1", port="2-1"), Listed("ABC1", port="2-2"))
        host.set(Listed("Only-1", port="2-3"))
        for udid in ("TWIN@1-11", "TWIN@11-1", "abc1", "ABC1", "Only-1"):
            await agent.until_device(udid, "state", "online")

        async def shown(text: str) -> str:
            status, answer = await agent.api("GET", f"/v1/devices/{text}")
            if status == 200:
                return str(answer["udid"])
            assert (status, answer["error"]["code"]) == (404, "unknown_device")
            return str(answer["error"]["message"])

        for text, udid in (
            ("TWIN", "TWIN"),
            ("TWIN@1-11", "TWIN@1-11"),
            ("twin@11-1", "TWIN@11-1"),
            ("abc1", "abc1"),
            ("ABC1", "ABC1"),
            ("only1", "Only-1"),
            ("ONLY-1", "Only-1"),
        ):
            assert await shown(text) == udid
            code, out, err = await agent.cli("devices", text, "--json")
            assert code == 0, err
            assert f'"udid": "{udid}"' in out
            assert out.count('"udid"') == (3 if text == "TWIN" else 1), "a serial means all twins"
        for text, candidates in (
            ("Abc1", ("abc1", "ABC1")),
            ("a-bc1", ("abc1", "ABC1")),
            ("twin", ("TWIN (", "TWIN@1-11", "TWIN@11-1")),
        ):
            message = await shown(text)
            assert "may be" in message
            assert all(each in message for each in candidates)
            lease = {"udid": text, "holder": "alice"}
            assert (await agent.api("POST", "/v1/leases", lease))[0] == 404
        for text in ("TWIN@111", "TWIN@1-1-1", "TWIN@1-1", "TWIN@"):
            assert "no device" in await shown(text)
            assert (await agent.api("POST", "/v1/leases", {"udid": text, "holder": "a"}))[0] == 404
        for path in ("/v1/deliveries?device=Abc1", "/v1/events?device=Abc1"):
            assert (await agent.api("GET", path))[0] == 404
        assert await agent.stop() == 0


async def test_a_webhook_is_the_very_one_or_none(place: Path) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, CONFIG.format(adb=host.address) + HOOKS) as agent,
    ):
        before = agent.path.read_text()
        await agent.start()
        for text, id_ in (("board", 129), ("7", 7), ("8", 8), ("9", 9)):
            status, answer = await agent.api("GET", f"/v1/webhooks/{text}")
            assert (status, answer["id"]) == (200, id_)
        for text, candidates in (
            ("129", ("'129' (id 7)", "'board' (id 129)")),
            ("twice", ("(id 8)", "(id 9)")),
        ):
            for method, path in (
                ("GET", f"/v1/webhooks/{text}"),
                ("DELETE", f"/v1/webhooks/{text}"),
                ("PATCH", f"/v1/webhooks/{text}"),
                ("POST", f"/v1/webhooks/{text}/test"),
                ("GET", f"/v1/deliveries?webhook={text}"),
            ):
                status, answer = await agent.api(method, path, {} if method != "GET" else None)
                assert (status, answer["error"]["code"]) == (404, "unknown_webhook"), path
                assert all(each in answer["error"]["message"] for each in candidates)
        assert agent.path.read_text() == before
        await commands(agent, before)
        assert await agent.stop() == 0


async def commands(agent: AgentProcess, before: str) -> None:
    """The same of the commands, which read the file."""
    given = next(
        row["id"]
        for row in (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        if row["name"] == "given"
    )

    async def run(*words: str) -> tuple[int, str]:
        code, out, err = await cli_webhooks(agent, *words)
        return code, out + err

    unknown: list[tuple[str, ...]] = [
        ("show", "129"),
        ("delete", "129", "--yes"),
        ("disable", "129"),
    ]
    for words in unknown:
        code, said = await run(*words)
        assert code == 1
        assert "129" in said
        assert "board" in said
    twice: list[tuple[str, ...]] = [
        ("show", "twice"),
        ("delete", "twice", "--yes"),
        ("edit", "twice", "--url", "x"),
    ]
    for words in twice:
        code, said = await run(*words)
        assert code == 1
        assert "twice" in said
    assert agent.path.read_text() == before
    for word, name in (("7", "129"), ("board", "board"), ("9", "twice"), (str(given), "given")):
        code, said = await run("disable", word)
        assert code == 0, said
        assert f"webhook {name!r}" in said
    rows = {row["id"]: row for row in (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]}
    assert {id_ for id_, row in rows.items() if not row["enabled"]} == {7, 129, 9, given}


async def cli_webhooks(agent: AgentProcess, *words: str) -> tuple[int, str, str]:
    return await cli("webhooks", words[0], "--config", agent.path, *words[1:])


PATHS = [
    "/v1/devices/%FF",
    "/v1/devices/%ED%A0%80",
    "/v1/devices/%00",
    "/v1/devices/%0a%0d%1b",
    "/v1/devices/%zz",
    "/v1/devices/%",
    "/v1/devices/%E2%80%A8",
    "/v1/devices/%2F..%2F",
    "/v1/webhooks/%FF",
    "/v1/webhooks/%C3%28",
    "/v1/webhooks/%D9%A1",
    "/v1/deliveries/%FF%00",
    "/v1/deliveries?device=%FF",
    "/v1/deliveries?webhook=%ED%B0%80",
    "/v1/deliveries?id=%FF%00",
    "/v1/deliveries?%FF=%FF",
    "/v1/deliveries?limit=%D9%A1",
    "/v1/deliveries?limit=%C2%B2",
    "/v1/deliveries?limit=" + "9" * 5000,
    "/v1/deliveries?since=" + "9" * 4000 + "d",
    "/v1/deliveries?since=99999999999999d",
    "/v1/deliveries?since=0001-01-01",
    "/v1/deliveries?since=0001-01-01T00:00:00%2B23:59",
    "/v1/deliveries?since=9999-12-31T23:59:59-23:59",
    "/v1/deliveries?since=%FF",
    "/v1/deliveries?state=%FF",
    "/v1/events?device=%FF",
    "/v1/events?tag=%FF&platform=%FF",
    "/v1/events?last_event_id=%FF",
    "/v1/events?last_event_id=" + "9" * 5000,
    "/v1/events?last_event_id=99999999999999999999-1",
    "/v1/nothing/%FF%0d%0a",
    "/%FF",
]
HEADERS: list[dict[str, str]] = [
    {"Authorization": "Bearer \udcff"},
    {"Authorization": "Bearer r\udcc3\udca9ght"},
    {"Authorization": "\udcff"},
    {"Last-Event-ID": "\udcff"},
    {"Origin": "http://\udcff"},
    {"Sec-Fetch-Site": "\udcff"},
    {"Content-Type": "\udcff"},
    {"Content-Type": "application/json; charset=\udcff"},
    {"Content-Type": "application/json; charset=rot13"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/json; charset=undefined"},
    {"Content-Encoding": "\udcff"},
    {"User-Agent": "\udcff\x7f"},
]
BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/leases", b'{"udid": "\\ud800", "holder": "a"}'),
    ("POST", "/v1/leases", b'{"udid": "ce09", "holder": "\\udfff"}'),
    ("POST", "/v1/leases", b'{"udid": "ce09", "holder": "a", "purpose": "\\ud800"}'),
    ("POST", "/v1/leases", b'{"udid": "ce09", "holder": "a", "\\ud800": 1}'),
    ("POST", "/v1/leases", b'{"any": {"tags": ["\\ud800"]}, "holder": "a"}'),
    ("POST", "/v1/leases", b'{"udid": "ce09", "holder": "a", "ttl": 1e999}'),
    ("POST", "/v1/leases", b'{"udid": "ce09", "holder": "a", "ttl": NaN}'),
    ("POST", "/v1/deliveries/replay", b'{"id": "\\ud800"}'),
    ("POST", "/v1/deliveries/replay", b'{"webhook": "\\ud800"}'),
    ("POST", "/v1/deliveries/replay", b'{"\\ud800": "x"}'),
    ("POST", "/v1/deliveries/replay", b'{"id": "\\u0000"}'),
    ("POST", "/v1/deliveries/replay", b'{"since": "99999999999999d"}'),
    ("POST", "/v1/webhooks", b'{"name": "\\ud800", "url": "http://a/", "events": ["online"]}'),
    ("PATCH", "/v1/webhooks/board", b'{"description": "\\ud800"}'),
    ("PATCH", "/v1/webhooks/board", b'{"\\ud800": 1}'),
]


@pytest.mark.parametrize("over", ["socket", "tcp"])
async def test_no_garbage_is_a_failure_of_the_agents(place: Path, over: str) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, CONFIG.format(adb=host.address) + HOOKS) as agent,
    ):
        api = '[api]\ntoken = "right"\n'
        text = agent.path.read_text().replace("[api]\n", api)
        agent.path.write_text(text.replace('listen = ""', 'listen = "127.0.0.1:0"'))
        host.set(Listed("ce09"))
        await agent.start()
        await agent.until(lambda: any("agent.ready" in line for line in agent.log), "its line")
        ready = next(line for line in agent.log if "agent.ready" in line)
        address = ready.partition("api=")[2].split()[0]
        connect = aiohttp.UnixConnector(str(agent.socket)) if over == "socket" else None
        base = f"http://{'localhost' if over == 'socket' else address}"
        good = {"Authorization": "Bearer right", "Content-Type": "application/json"}
        async with aiohttp.ClientSession(connector=connect) as session:
            for path in PATHS:
                async with session.get(URL(base + path, encoded=True)) as response:
                    assert 200 <= response.status < 500, path
            for method, path, body in BODIES:
                async with session.request(
                    method, base + path, data=body, headers=good
                ) as response:
                    assert response.status < 500, body
            for headers in HEADERS:
                status = await raw(agent, address if over == "tcp" else "", good | headers)
                if "Authorization" in headers and over == "tcp":
                    assert status == 401, headers
                assert status < 500, headers
        assert await agent.stop() == 0
        assert not [line for line in agent.log if "api.failed" in line or "Traceback" in line]


async def raw(agent: AgentProcess, address: str, headers: dict[str, str]) -> int:
    """Headers that no client sends; the status."""
    if address:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    else:
        reader, writer = await asyncio.open_unix_connection(str(agent.socket))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    text = f"POST /v1/deliveries/replay HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 2\r\n"
    writer.write((text + "Connection: close\r\n\r\n{}").encode(errors="surrogateescape"))
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return int(answer.split()[1])
