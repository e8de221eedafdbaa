"""How far the doctor comes towards real endpoints, good and bad; and that it asks them nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.config import Tls, Webhook
from agent.doctor.gather.reach import reach_all
from tests.fakes.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.facts import Reach
    from tests.fakes.receiver import Receiver


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def hook(url: str, name: str = "Board", **more: Any) -> Webhook:
    return Webhook.model_validate({"name": name, "url": url, "events": ["online"], **more})


async def reach(url: str, **more: Any) -> Reach:
    (found,) = await reach_all([hook(url, **more)])
    return found


async def test_plain_http(receiver: Receiver) -> None:
    found = await reach(receiver.url("/hook?key=hunter2", userinfo="a:hunter2@"))
    assert (found.error, found.where, found.tls) == ("", f"127.0.0.1:{receiver.port}", False)
    assert found.expires == 0.0
    assert receiver.requests == []


async def test_tls_and_when_its_certificate_expires(secure: Receiver, pki: Path) -> None:
    found = await reach(secure.url(), tls=Tls(ca=str(pki / "ca.pem")))
    assert (found.error, found.tls) == ("", True)
    assert 86400 < found.expires - time.time() < 3 * 86400
    assert secure.requests == []


async def test_a_certificate_of_a_stranger(secure: Receiver, pki: Path) -> None:
    for tls in (Tls(), Tls(ca=str(pki / "stranger.pem"))):
        found = await reach(secure.url(), tls=tls)
        assert (
            "certificate" in found.error or "self-signed" in found.error or "issuer" in found.error
        )
        assert found.expires == 0.0
    found = await reach(secure.url(), tls=Tls(verify=False))
    assert (found.error, found.expires) == ("", 0.0)


async def test_mutual_tls(mutual: Receiver, pki: Path) -> None:
    cert, key = str(pki / "client.pem"), str(pki / "client.key")
    found = await reach(mutual.url(), tls=Tls(ca=str(pki / "ca.pem"), cert=cert, key=key))
    assert found.error == ""


async def test_files_that_cannot_be_used(secure: Receiver, tmp_path: Path) -> None:
    found = await reach(secure.url(), tls=Tls(ca=str(tmp_path / "none.pem")))
    assert "tls.ca" in found.error


async def test_where_nothing_listens_or_speaks_tls() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        found = await reach(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert "refuses connections" in found.error
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        found = await reach(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert "TLS with" in found.error


async def test_names_without_an_address() -> None:
    assert "cannot resolve" in (await reach("https://nowhere.invalid/")).error


async def test_link_local_addresses_are_refused_unless_allowed() -> None:
    assert "link-local" in (await reach("http://169.254.169.254/")).error
    found = await reach("http://169.254.169.254/", proxy="http://127.0.0.1:9")
    assert "link-local" in found.error


async def test_silence_is_given_up_and_all_go_side_by_side(receiver: Receiver) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hooks = [hook(f"https://127.0.0.1:{port}/", f"silent {n}") for n in range(8)]
        found = await reach_all([*hooks, hook(receiver.url(), "good")])
    assert [each.name for each in found] == [*(each.name for each in hooks), "good"]
    assert {each.error for each in found[:-1]} == {
        f"no TLS handshake with 127.0.0.1:{port} within 3 s"
    }
    assert found[-1].error == ""
    assert sum(each.took for each in found[:-1]) > 20, "each had its limit, at the same time"


async def test_a_proxy_is_reached_instead_and_not_asked() -> None:
    async with Proxy() as proxy:
        found = await reach("https://board.example/", proxy=proxy.url("a:hunter2@"))
        assert (found.error, found.proxy, found.tls) == ("", True, False)
        assert found.where == f"127.0.0.1:{proxy.port}"
        assert proxy.asked == []


async def test_disabled_ones_are_left_alone(receiver: Receiver) -> None:
    assert await reach_all([hook(receiver.url(), enabled=False)]) == ()
    assert receiver.connections == 0
