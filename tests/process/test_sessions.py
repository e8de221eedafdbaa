"""Sessions, a closed listener and TLS, by the whole agent: what a reload changes in mid-stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fakes.pki import make_pki
from tests.fakes.ports import free_port
from tests.fakes.sse import Stream
from tests.kit.agent import AgentProcess, cli
from tests.kit.configs import NO_SOURCES
from tests.kit.waiting import LIMIT
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Desk:
    """An agent that serves TCP at a port of its own, asked over it."""

    def __init__(self, agent: AgentProcess, client: aiohttp.ClientSession) -> None:
        self.agent = agent
        self.client = client
        self.base = ""
        self.listen = f"127.0.0.1:{free_port()}"
        self.trust: ssl.SSLContext | bool = True

    def write(self, *keys: str) -> None:
        self.agent.write(NO_SOURCES)
        text = self.agent.path.read_text()
        said = "\n".join((f'listen = "{self.listen}"', *keys))
        self.agent.path.write_text(text.replace('listen = ""', said))

    async def start(self, *keys: str, scheme: str = "http") -> None:
        """Start it."""
        self.write(*keys)
        await self.agent.start()
        self.base = f"{scheme}://{self.listen}"

    async def reload(self, *keys: str) -> tuple[int, str]:
        self.write(*keys)
        code, _, err = await self.agent.cli("reload")
        return code, err

    async def log_in(self) -> tuple[str, str]:
        """By the command's link, as a browser takes it apart: token and id."""
        code, out, err = await self.agent.cli("ui", "--no-open")
        assert code == 0, err
        base, mark, secret = out.strip().partition("#code=")
        assert (base, mark) == (f"{self.base}/", "#code=")
        assert "works once, within 60 s" in err
        status, row = await self.ask("POST", "/v1/sessions", {"code": secret})
        assert status == 201
        return row["token"], row["session"]["id"]

    async def ask(
        self, method: str, path: str, body: Any = None, bearer: str | None = None
    ) -> tuple[int, Any]:
        """Status, and the error's code or the answer."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        async with self.client.request(
            method, f"{self.base}{path}", json=body, headers=headers, ssl=self.trust
        ) as response:
            answer = json.loads(await response.text())
            return response.status, answer["error"]["code"] if "error" in answer else answer

    @contextlib.asynccontextmanager
    async def follow(self, bearer: str | None = None) -> AsyncIterator[Stream]:
        """`/v1/events` over TCP, as `fetch` reads it; past its first snapshot."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        async with self.client.get(
            f"{self.base}/v1/events", headers=headers, ssl=self.trust
        ) as response:
            assert response.status == 200, await response.text()
            stream = Stream(response)
            await stream.until("snapshot")
            yield stream


async def ends(stream: Stream) -> None:
    """It ends, whatever it has still to say."""
    async with asyncio.timeout(LIMIT):
        async for _ in stream.all():
            pass


async def goes_on(stream: Stream) -> None:
    """It tells of the reload: all rows may be others."""
    await stream.until("snapshot")


@pytest.fixture
async def desk(place: Path) -> AsyncIterator[Desk]:
    async with (
        AgentProcess(place, NO_SOURCES) as agent,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * LIMIT)) as client,
    ):
        yield Desk(agent, client)


async def test_from_the_command_to_the_audit_line_and_a_restart_ends_it(desk: Desk) -> None:
    vault = Vault()
    await desk.start()
    token, id_ = await desk.log_in()
    vault.keep("token", token)
    assert await desk.ask("POST", "/v1/reload", bearer=token) == (
        200,
        {"changed": [], "restarted_sources": [], "needs_restart": []},
    )
    code, out, _ = await desk.agent.cli("ui", "--json")
    row = json.loads(out)
    assert code == 0
    vault.keep("code", row["code"])
    assert (await desk.ask("POST", "/v1/sessions", {"code": row["code"]}))[0] == 201
    assert await desk.ask("POST", "/v1/sessions", {"code": row["code"]}) == (401, "bad_code")
    assert re.search(r"^device_agent_api_sessions 2\.0$", await desk.agent.metrics(), re.MULTILINE)
    assert "device_agent_api_wrong_tokens_total 1.0" in await desk.agent.metrics()

    async with desk.follow(token) as stream, desk.follow() as other:
        status, ended = await desk.ask("DELETE", "/v1/sessions/current", bearer=token)
        assert (status, ended) == (200, {"ended": id_})
        await ends(stream)
        assert await desk.reload() == (0, "")
        await goes_on(other)

    again, _ = await desk.log_in()
    vault.keep("again", again)
    listed = (await desk.agent.api("GET", "/v1/sessions"))[1]
    assert len(listed["sessions"]) == 2
    log = "\n".join(desk.agent.log)
    assert await desk.agent.stop() == 0
    begun = [line for line in desk.agent.log if f"session={id_}" in line]
    assert ["path=/v1/sessions " in begun[0], "path=/v1/reload" in begun[1]] == [True, True]
    assert all("uid=" in line and "user=" in line and "address=127" in line for line in begun)
    state = b"".join(p.read_bytes() for p in desk.agent.directory.rglob("*") if p.is_file())
    assert vault.found_in(log + json.dumps(listed)) == set()
    assert vault.found_in(state) == set()

    await desk.start()
    assert await desk.ask("POST", "/v1/reload", bearer=again) == (401, "session_ended")
    token, _ = await desk.log_in()
    assert (await desk.ask("POST", "/v1/reload", bearer=token))[0] == 200
    assert await desk.agent.stop() == 0


async def test_what_a_session_does_is_its_users(desk: Desk) -> None:
    """A silence of the page names who asked for the session, not the browser's port."""
    await desk.start()
    token, id_ = await desk.log_in()
    user = pwd.getpwuid(os.getuid()).pw_name
    wanted = {"all": True, "seconds": 60, "reason": "cables"}
    status, row = await desk.ask("POST", "/v1/silences", wanted, bearer=token)
    assert (status, row["by"]) == (201, user)
    assert (await desk.ask("DELETE", f"/v1/silences/{row['id']}", bearer=token))[0] == 200
    assert await desk.agent.stop() == 0
    for name in ("silence.begun", "silence.ended"):
        assert [f"by={user}" in line for line in desk.agent.log if name in line] == [True]
    changes = [line for line in desk.agent.log if "api.change" in line and "/silences" in line]
    assert [f"session={id_} " in line and f"user={user}" in line for line in changes] == [True] * 2


async def test_a_session_begins_over_the_socket_too(desk: Desk) -> None:
    """As through a proxy in front of it, or `ssh -L`."""
    await desk.start()
    code = (await desk.agent.api("POST", "/v1/sessions/code"))[1]["code"]
    status, row = await desk.agent.api("POST", "/v1/sessions", {"code": code})
    assert status == 201, row
    id_ = row["session"]["id"]
    assert await desk.agent.stop() == 0
    (line,) = [line for line in desk.agent.log if f"session={id_}" in line]
    assert f" uid={os.getuid()} " in f"{line} "
    assert "status=201" in line


async def test_streams_end_with_what_lets_them_be_read(desk: Desk) -> None:
    right, closed = 'token = "right"', 'read = "token"'
    await desk.start(right)
    token, id_ = await desk.log_in()
    async with desk.follow() as open_one, desk.follow(token) as of_session:
        assert await desk.reload(right, closed) == (0, "")
        await ends(open_one)
        await goes_on(of_session)
        assert await desk.ask("GET", "/v1/devices") == (401, "token_needed")
        async with desk.follow("right") as of_token:
            assert await desk.reload(right, closed, 'hosts = ["x"]') == (0, "")
            await goes_on(of_token)
            await goes_on(of_session)
            assert await desk.reload('token = "other"', closed) == (0, "")
            await ends(of_token)
            await goes_on(of_session)
            assert await desk.ask("GET", "/v1/devices", bearer="right") == (401, "bad_token")
            assert (await desk.ask("GET", "/v1/devices", bearer="other"))[0] == 200
        assert (await desk.agent.api("DELETE", f"/v1/sessions/{id_}"))[0] == 200
        await ends(of_session)
        assert await desk.ask("GET", "/v1/events", bearer=token) == (401, "session_ended")
    assert (await desk.ask("GET", "/-/healthy"))[0] == 200
    assert await desk.agent.stop() == 0


async def test_a_renewed_certificate_is_shown_and_what_is_under_way_goes_on(
    desk: Desk, tmp_path: Path
) -> None:
    old, new, mine = (tmp_path / name for name in ("old", "new", "mine"))
    for each in (old, new, mine):
        each.mkdir()
    make_pki(old)
    make_pki(new)

    def put(pki: Path, key: Path) -> None:
        (mine / "page.pem").write_text((pki / "server.pem").read_text())
        (mine / "page.key").write_text(key.read_text())
        (mine / "page.key").chmod(0o600)

    tls = (f'cert = "{mine}/page.pem"', f'key = "{mine}/page.key"')
    put(old, old / "server.key")
    desk.trust = trust_old = ssl.create_default_context(cafile=str(old / "ca.pem"))
    trust_new = ssl.create_default_context(cafile=str(new / "ca.pem"))
    await desk.start(*tls, scheme="https")
    token, _ = await desk.log_in()
    async with desk.follow(token) as stream:
        put(new, new / "server.key")
        assert await desk.reload(*tls) == (0, "")
        await goes_on(stream)
        desk.trust = trust_new
        assert await fresh(desk, token) == 200
        desk.trust = trust_old
        with pytest.raises(aiohttp.ClientSSLError):
            await fresh(desk, token)

        put(new, old / "server.key")  # of another certificate
        desk.write(*tls)
        code, out, err = await cli("check", desk.agent.path)
        assert code == 2, out
        assert f"{desk.agent.path}:" in err
        assert "api.key" in err
        assert "is not the key of the certificate" in err
        code, refused = await desk.reload(*tls)
        assert code == 2
        assert "is not the key of the certificate" in refused
        desk.trust = trust_new
        assert await fresh(desk, token) == 200
        put(new, new / "server.key")
        assert await desk.reload(*tls) == (0, "")
        await goes_on(stream)

    # To plain HTTP, and back, at the same port.
    assert await desk.reload() == (0, "")
    desk.base = desk.base.replace("https", "http")
    assert (await desk.ask("POST", "/v1/reload", bearer=token))[0] == 200
    assert await desk.reload(*tls) == (0, "")
    desk.base = desk.base.replace("http", "https")
    assert await fresh(desk, token) == 200
    assert await desk.agent.stop() == 0
    assert not [line for line in desk.agent.log if "Traceback" in line]
    vault = Vault()
    vault.keep("old", (old / "server.key").read_text())
    vault.keep("new", (new / "server.key").read_text())
    assert vault.found_in("\n".join(desk.agent.log) + err + refused) == set()


async def fresh(desk: Desk, token: str) -> int:
    """The status of a request over a connection of its own."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(
            f"{desk.base}/v1/sessions/current",
            headers={"Authorization": f"Bearer {token}"},
            ssl=desk.trust,
        ) as response,
    ):
        return response.status


async def test_a_pair_that_is_none_keeps_the_agent_from_starting_with_its_place(
    desk: Desk,
) -> None:
    desk.write('cert = "nowhere.pem"')
    await desk.agent.start(ready=False)
    assert await desk.agent.ended() == 2
    assert any(
        re.search(r"agent\.toml:\d+:1: api\.cert: .*nowhere\.pem does not exist", line)
        for line in desk.agent.log
    ), desk.agent.log


async def test_the_command_says_where_there_is_no_page(place: Path) -> None:
    async with AgentProcess(place, NO_SOURCES) as agent:
        await agent.start()
        code, out, err = await agent.cli("ui")
        assert (code, out) == (1, "")
        assert "set [api] listen" in err
        assert await agent.stop() == 0


async def test_a_browser_is_opened_where_one_is_wanted(desk: Desk, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/opened\n')
    browser.chmod(0o755)
    await desk.start()
    code, out, err = await desk.agent.cli("ui", BROWSER=str(browser))
    assert code == 0, err
    opened = tmp_path / "opened"
    if os.geteuid() == 0:
        assert not opened.exists(), "no browser runs as root"
    else:
        assert opened.read_text() == out
    assert await desk.agent.stop() == 0
