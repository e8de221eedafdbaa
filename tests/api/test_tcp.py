"""The API over TCP: reading only, and only when asked by address."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest

from agent.api.server import ApiServer
from agent.errors import StartError
from tests.api.nobody import Nobody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agent.service.services import Services


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Nobody, ApiServer, aiohttp.ClientSession]]:
    agent = Nobody()
    server = ApiServer(cast("Services", agent))
    server.use_tcp(await server.open_tcp("127.0.0.1:0"))
    try:
        async with aiohttp.ClientSession(f"http://{server.address}") as session:
            yield agent, server, session
    finally:
        await server.close()


CHANGES = (
    ("POST", "/v1/leases"),
    ("POST", "/v1/reload"),
    ("POST", "/v1/deliveries/replay"),
    ("POST", "/v1/webhooks/x/test"),
    ("DELETE", "/v1/leases/1"),
    ("POST", "/v1/leases/1/renew"),
)


async def test_reading_is_served_and_changing_is_not() -> None:
    async with served() as (_, _, session):
        async with session.get("/v1/devices") as response:
            assert await response.json() == {"devices": []}
        for method, path in CHANGES:
            async with session.request(method, path, json={}) as response:
                assert response.status == 403, path
                assert (await response.json())["error"]["code"] == "no_token"


async def test_a_preview_is_for_whoever_may_read() -> None:
    async with served() as (agent, _, session):
        draft = {"payload": "custom"}
        async with session.post("/v1/preview", json=draft) as response:
            assert (response.status, await response.json()) == (200, draft)
        foreign = {"Sec-Fetch-Site": "cross-site"}
        async with session.post("/v1/preview", json={}, headers=foreign) as response:
            assert response.status == 403
        agent.is_shut, agent.token = True, "right"
        for header, status in (("Bearer right", 200), ("Bearer wrong", 401), ("", 401)):
            headers = {"Authorization": header}
            async with session.post("/v1/preview", json={}, headers=headers) as response:
                assert response.status == status


@pytest.mark.parametrize(
    ("header", "status"),
    [("Bearer right", 200), ("Bearer wrong", 401), ("right", 401), ("", 401), ("Bearer é", 401)],
)
async def test_with_a_token_changes_are_served_to_who_bears_it(header: str, status: int) -> None:
    async with served() as (agent, _, session):
        agent.token = "right"
        headers = {"Authorization": header}
        async with session.post("/v1/deliveries/replay", json={}, headers=headers) as response:
            assert response.status == status
            assert "right" not in await response.text()


async def test_readiness_is_200_or_503_with_the_reasons() -> None:
    async with served() as (agent, _, session):
        async with session.get("/-/ready") as response:
            assert response.status == 200
        agent.is_ready = False
        async with session.get("/-/ready") as response:
            assert (response.status, (await response.json())["problems"]) == (503, ["adb: down"])
        async with session.get("/-/healthy") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9178", 200),
        ("localhost", 200),
        ("[::1]:9178", 200),
        ("10.1.2.3", 200),
        ("evil.example", 403),
        ("evil.example:9178", 403),
        ("localhost.evil.example", 403),
    ],
)
async def test_a_page_that_rebinds_its_name_gets_nothing(host: str, status: int) -> None:
    async with (
        served() as (_, _, session),
        session.get("/v1/devices", headers={"Host": host}) as response,
    ):
        assert response.status == status


async def test_a_bad_filter_is_the_askers_mistake() -> None:
    async with served() as (_, _, session), session.get("/v1/deliveries?x=1") as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"] == "unknown filter 'x'"


async def test_a_bug_is_500_and_tells_nothing_outside(tmp_path: Path) -> None:
    server = ApiServer(cast("Services", Nobody()))
    server.use_unix(await server.open_unix(tmp_path / "s"))
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(tmp_path / "s"))
        ) as session:
            body = {"udid": "ce09", "holder": "alice"}
            async with session.post("http://localhost/v1/leases", json=body) as response:
                assert response.status == 500
                assert "secret" not in await response.text()
            bodies: list[Any] = [{"udid": 1}, [], {"udid": "a", "holder": "b", "ttl": True}]
            for bad in bodies:
                async with session.post("http://localhost/v1/leases", json=bad) as response:
                    assert response.status == 400
            huge = {"udid": "a" * 100_000, "holder": "b"}
            async with session.post("http://localhost/v1/leases", json=huge) as response:
                assert response.status == 413
    finally:
        await server.close()


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def umask_now() -> str:
    status = Path("/proc/self/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Umask"))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_the_umask_decides_nothing_and_stays(
    tmp_path: Path, umask: Callable[[int], int], mask: int
) -> None:
    """It is the whole process's: whoever makes a file meanwhile would get another mode."""
    umask(mask)
    path = tmp_path / "s"
    modes, masks = set(), set()

    async def look() -> None:
        while True:
            if path.exists():
                modes.add(path.stat().st_mode & 0o777)
            masks.add(umask_now())
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    server = ApiServer(cast("Services", Nobody()))
    server.use_unix(await server.open_unix(path))
    looking.cancel()
    await asyncio.wait({looking})
    assert oct(path.stat().st_mode & 0o777) == "0o660"
    assert (modes | {0o660}, masks) == ({0o660}, {f"{mask:04o}"})
    await server.close()
    assert not path.exists()


async def test_a_socket_that_is_another_s_by_now_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, second = (ApiServer(cast("Services", Nobody())) for _ in range(2))
    first.use_unix(await first.open_unix(path))
    path.rename(tmp_path / "moved")
    second.use_unix(await second.open_unix(path))
    await first.close()
    assert path.exists()
    await second.close()
    assert not path.exists()


async def test_the_socket_is_for_owner_and_group_only(tmp_path: Path) -> None:
    server = ApiServer(cast("Services", Nobody()))
    path = tmp_path / "run" / "s"
    server.use_unix(await server.open_unix(path))
    assert oct(path.stat().st_mode & 0o777) == "0o660"
    assert path.parent.stat().st_mode & 0o700 == 0o700, "its owner may enter"
    with pytest.raises(StartError, match="another agent answers"):
        await ApiServer(cast("Services", Nobody())).open_unix(path)
    # A request that is answered has the probe's connection behind it.
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://localhost/-/healthy") as response,
    ):
        assert response.status == 200
    await server.close()
    assert not path.exists()


async def test_a_socket_left_by_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = ApiServer(cast("Services", Nobody()))
    server.use_unix(await server.open_unix(path))
    await server.close()


async def test_a_file_in_the_sockets_place_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(StartError, match="is no socket"):
        await ApiServer(cast("Services", Nobody())).open_unix(path)
    assert path.read_text() == "precious"


async def test_an_address_of_ipv6_is_told_in_brackets() -> None:
    server = ApiServer(cast("Services", Nobody()))
    try:
        server.use_tcp(await server.open_tcp("[::1]:0"))
    except StartError:
        pytest.skip("this machine has no IPv6")
    assert re.fullmatch(r"\[::1\]:\d+", server.address)
    async with (
        aiohttp.ClientSession(f"http://{server.address}") as session,
        session.get("/-/healthy") as response,
    ):
        assert response.status == 200
    await server.close()


async def test_an_address_that_cannot_be_bound_leaves_the_old_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with served() as (_, server, session):
            with pytest.raises(StartError, match="in use"):
                await server.open_tcp(f"127.0.0.1:{other.getsockname()[1]}")
            async with session.get("/-/healthy") as response:
                assert response.status == 200


async def test_it_moves_to_all_addresses_of_its_port_and_back_without_a_gap() -> None:
    async with served() as (_, server, session):
        port = int(server.address.rpartition(":")[2])
        for address in (f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
            new = await server.open_tcp(address)
            async with session.get("/-/healthy") as response:
                assert response.status == 200, "while both serve"
            server.use_tcp(new)
            assert server.address == address
            async with session.get("/-/healthy") as response:
                assert response.status == 200
        with pytest.raises(StartError, match="in use"):
            await ApiServer(cast("Services", Nobody())).open_tcp(server.address)


async def test_one_that_was_opened_for_nothing_leaves_no_trace(tmp_path: Path) -> None:
    async with served() as (_, server, session):
        unix = await server.open_unix(tmp_path / "other")
        tcp = await server.open_tcp("127.0.0.1:0")
        await unix.discard()
        await tcp.discard()
        assert not (tmp_path / "other").exists()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(tcp.address.rpartition(":")[2])))
        async with session.get("/-/healthy") as response:
            assert response.status == 200
