"""TLS, authentication and signatures of callbacks, by the whole agent against real HTTPS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB
from tests.kit.waiting import LIMIT
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

CONFIG = (
    """
[hold]
online = "0s"
unplugged = "0s"
"""
    + ONLY_ADB
    + """\
probe_interval = "0s"
[[webhooks]]
id = 7
name = "Board of rack 1"
url = "{url}"
events = ["online", "unplugged"]
{keys}
"""
)


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as it:
        yield it


@pytest.fixture
async def agent(place: Path) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(place, "") as it:
        yield it


def write(agent: AgentProcess, host: FakeAdbHost, url: str, *keys: str) -> None:
    """The configuration with these keys of its one webhook; nobody else may read it."""
    agent.write(CONFIG.format(adb=host.address, url=url, keys="\n".join(keys)))
    agent.path.chmod(0o600)


def warnings(agent: AgentProcess) -> list[str]:
    return [line for line in agent.log if "config.warning" in line]


async def first_tried(agent: AgentProcess) -> dict[str, Any]:
    """The one callback, once the store knows of an attempt: it is a moment behind the log."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIMIT):
            while not rows or not rows[0]["attempts"]:
                await asyncio.sleep(0.02)
                rows = (await agent.api("GET", "/v1/deliveries"))[1]["deliveries"]
    (row,) = rows
    return row


async def test_own_authority_with_bearer_token_and_own_headers(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver, pki: Path, place: Path
) -> None:
    (place / "token").write_text("a-token\n")
    (place / "token").chmod(0o600)
    write(
        agent,
        host,
        secure.url("/hook?rack=1"),
        f'tls.ca = "{pki}/ca.pem"',
        'auth = { type = "bearer", token = { file = "token" } }',
        'headers = { X-Rack = "1", X-Room = { env = "ROOM" } }',
    )
    await agent.start({"ROOM": "cellar ü"})
    host.set(Listed("phone"))
    await secure.until(lambda: len(secure.requests) == 1, "online")
    request = secure.requests[0]
    assert request.target == "/hook?rack=1"
    assert request.headers["authorization"] == "Bearer a-token"
    assert request.headers["x-rack"] == "1"
    assert request.headers["x-room"].encode("latin-1").decode() == "cellar ü"
    assert request.headers["content-type"] == "application/json"
    await agent.until_delivered()
    assert not warnings(agent)
    assert await agent.stop() == 0


@pytest.mark.parametrize("by", ["auth", "url"])
async def test_basic_auth_is_the_same_by_auth_and_by_url(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver, pki: Path, by: str
) -> None:
    keys = [f'tls.ca = "{pki}/ca.pem"']
    if by == "auth":
        keys.append(
            'auth = { type = "basic", username = "böard", password = { env = "PASSWORD" } }'
        )
    userinfo = "b%C3%B6ard:p%40ss%E2%82%AC@" if by == "url" else ""
    write(agent, host, secure.url(userinfo=userinfo), *keys)
    await agent.start({"PASSWORD": "p@ss€"})
    host.set(Listed("phone"))
    await secure.until(lambda: len(secure.requests) == 1, "online")
    expected = base64.b64encode("böard:p@ss€".encode()).decode()
    assert secure.requests[0].headers["authorization"] == f"Basic {expected}"


async def test_mutual_tls_and_what_is_said_without_a_certificate(
    agent: AgentProcess, host: FakeAdbHost, mutual: Receiver, pki: Path
) -> None:
    ca = f'tls.ca = "{pki}/ca.pem"'
    write(agent, host, mutual.url(), ca)
    await agent.start()
    host.set(Listed("phone"))
    await agent.until(lambda: any("callback.failed" in line for line in agent.log), "a refusal")
    assert not mutual.requests
    write(
        agent,
        host,
        mutual.url(),
        ca,
        f'tls.cert = "{pki}/client.pem"',
        f'tls.key = "{pki}/client.key"',
    )
    assert (await agent.api("POST", "/v1/reload"))[0] == 200
    await mutual.until(lambda: len(mutual.requests) == 1, "online")
    certificate = mutual.requests[0].peer_certificate
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "client"),),)
    assert await agent.stop() == 0
    vault = Vault()
    for name in ("client", "server"):
        vault.keep(name, (pki / f"{name}.key").read_text())
    stored = b"".join(path.read_bytes() for path in (agent.directory / "state").glob("state.db*"))
    assert b"phone" in stored
    assert not vault.found_in(stored + "\n".join(agent.log).encode())


async def test_an_authority_that_is_not_the_servers_is_retried_and_told(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver, pki: Path
) -> None:
    write(agent, host, secure.url(), f'tls.ca = "{pki}/stranger.pem"')
    await agent.start()
    host.set(Listed("phone"))
    await agent.until(lambda: any("callback.failed" in line for line in agent.log), "a refusal")
    (line,) = [line for line in agent.log if "callback.failed" in line]
    for word in ("Board of rack 1", "certificate of 127.0.0.1", "again_in"):
        assert word in line
    row = await first_tried(agent)
    assert (row["state"], row["attempts"]) == ("pending", 1)
    assert row["due"] is not None
    assert "certificate of 127.0.0.1" in row["error"]
    assert not secure.requests
    # By the next attempt, in seconds, the file holds the right one; a reload reads it.
    write(agent, host, secure.url(), f'tls.ca = "{pki}/ca.pem"')
    assert (await agent.api("POST", "/v1/reload"))[0] == 200
    await agent.until_delivered()
    assert secure.requests[0].headers["webhook-id"] == row["id"]


async def test_without_verification_it_works_and_every_start_and_reload_warns(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver
) -> None:
    write(agent, host, secure.url(), "tls.verify = false")
    await agent.start()
    host.set(Listed("phone"))
    await secure.until(lambda: len(secure.requests) == 1, "online")

    async def warned(count: int) -> None:
        await agent.until(lambda: len(warnings(agent)) == count, f"{count} warnings")
        assert "Board of rack 1" in warnings(agent)[-1]
        assert "certificates are not checked" in warnings(agent)[-1]

    await warned(1)
    assert (await agent.api("POST", "/v1/reload"))[0] == 200
    await warned(2)
    agent.signal(signal.SIGHUP)
    await warned(3)
    assert await agent.stop() == 0
    await agent.start()
    await warned(4)
    code, _, err = await agent.cli("check")
    assert code == 0
    assert "certificates are not checked" in err


async def test_loose_permissions_of_secret_files_warn_in_check_and_at_start(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver, pki: Path, place: Path
) -> None:
    for name in ("signing", "header", "password", "key.pem"):
        (place / name).write_bytes((pki / "client.key").read_bytes() if "." in name else b"value")
        (place / name).chmod(0o640 if name == "header" else 0o644)
    write(
        agent,
        host,
        secure.url(),
        'secret = { file = "signing" }',
        'headers = { X-A = { file = "header" } }',
        'auth = { type = "basic", username = "a", password = { file = "password" } }',
        f'tls = {{ ca = "{pki}/ca.pem", cert = "{pki}/client.pem", key = "key.pem" }}',
    )
    await agent.start()
    code, _, err = await agent.cli("check")
    assert code == 0
    for name, mode in (("signing", 644), ("header", 640), ("password", 644), ("key.pem", 644)):
        says = f"others can read {place / name} (mode 0{mode}): chmod 0600 {place / name}"
        assert says in err
        assert any(says in line for line in warnings(agent)), name
        (place / name).chmod(0o600)
    assert len(warnings(agent)) == 4
    assert (await agent.api("POST", "/v1/reload"))[0] == 200
    # An inline secret makes the configuration itself one to keep.
    write(agent, host, secure.url(), 'secret = "value"', f'tls.ca = "{pki}/ca.pem"')
    agent.path.chmod(0o644)
    assert (await agent.api("POST", "/v1/reload"))[0] == 200
    await agent.until(lambda: len(warnings(agent)) == 5, "a warning of the configuration")
    assert "holds secrets and others can read it" in warnings(agent)[-1]


async def test_a_rotated_secret_file_counts_from_the_next_attempt(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver, pki: Path, place: Path
) -> None:
    """The same callback, tried before and after, without a reload between."""
    old, new = (
        f"whsec_{base64.b64encode(word * 4).decode()}" for word in (b"12345678", b"abcdefgh")
    )
    for name, content in (("signing", old), ("token", "token-1")):
        (place / name).write_text(content)
        (place / name).chmod(0o600)
    write(
        agent,
        host,
        secure.url(),
        f'tls.ca = "{pki}/ca.pem"',
        'secret = { file = "signing" }',
        'auth = { type = "bearer", token = { file = "token" } }',
    )
    secure.script.append(answer(401))
    await agent.start()
    host.set(Listed("phone"))
    await secure.until(lambda: len(secure.requests) == 1, "the first attempt")
    (place / "signing").write_text(new)
    (place / "token").write_text("token-2")
    await secure.until(lambda: len(secure.requests) == 2, "the second attempt")
    first, second = secure.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    for request, secret, token in ((first, old, "token-1"), (second, new, "token-2")):
        assert request.headers["authorization"] == f"Bearer {token}"
        verified(secret)(request.body, request.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verified(old)(second.body, second.headers)


async def test_two_secrets_give_two_signatures_that_verify(
    agent: AgentProcess, host: FakeAdbHost, secure: Receiver, pki: Path, place: Path
) -> None:
    old, new = (
        f"whsec_{base64.b64encode(word * 4).decode()}" for word in (b"12345678", b"abcdefgh")
    )
    (place / "new").write_text(new)
    (place / "new").chmod(0o600)
    write(
        agent,
        host,
        secure.url(),
        f'tls.ca = "{pki}/ca.pem"',
        f'secret = ["{old}", {{ file = "new" }}]',
    )
    await agent.start()
    host.set(Listed("phone"))
    await secure.until(lambda: len(secure.requests) == 1, "online")
    (request,) = secure.requests
    signatures = request.headers["webhook-signature"].split(" ")
    assert len(signatures) == 2
    for secret, signature in zip((old, new), signatures, strict=True):
        body = verified(secret)(request.body, request.headers)
        assert body["deviceUdid"] == "phone"
        alone = {**request.headers, "webhook-signature": signature}
        assert verified(secret)(request.body, alone) == body
    stranger = f"whsec_{base64.b64encode(b'x' * 32).decode()}"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verified(stranger)(request.body, request.headers)


def verified(secret: str) -> Callable[[bytes, dict[str, str]], dict[str, Any]]:
    """What the standard's own library makes of a request; it raises where nothing fits."""

    def verify(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        standardwebhooks.Webhook(secret).verify(body, headers)
        found: dict[str, Any] = json.loads(body)
        return found

    return verify
