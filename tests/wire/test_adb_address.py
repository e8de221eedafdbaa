"""Where an adb server is said to be."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from agent.errors import AgentError
from agent.wire.adb import AdbClient
from tests.fakes.fake_adb_host import FakeAdbHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("/run/adb.socket", "", 0),
        ("127.0.0.1:5037", "127.0.0.1", 5037),
        ("localhost:5037", "127.0.0.1", 5037),
        ("[::1]:5037", "::1", 5037),
        ("rack.lab:5038", "rack.lab", 5038),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    client = AdbClient(address)
    assert (client.host, client.port) == (host, port)


@pytest.mark.parametrize("address", ["5037", "127.0.0.1:", ":5037", "127.0.0.1:adb", ""])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(AgentError, match="neither HOST:PORT nor the path"):
        AdbClient(address)


async def test_the_version_over_a_path_and_over_localhost(tmp_path: Path) -> None:
    async with FakeAdbHost(str(tmp_path / "adb")) as host:
        assert await AdbClient(host.address).version() == 41
    async with FakeAdbHost() as host:
        assert await AdbClient(f"localhost:{host.port}").version() == 41


async def test_a_name_without_an_address() -> None:
    with pytest.raises(socket.gaierror):
        await AdbClient("nowhere.invalid:5037").version()
