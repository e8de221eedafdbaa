"""adb on real servers: who listens, which version, and who else."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config import Android
from agent.doctor.gather import users
from agent.doctor.gather.android import look_at_adb
from agent.doctor.gather.listeners import adb_servers, listeners_at
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.fakes.ports import free_port

if TYPE_CHECKING:
    from agent.doctor.facts import AdbFacts

pytestmark = pytest.mark.skipif("bundled" not in BINARIES, reason="adbutils carries no adb here")


async def look(address: str, tmp_path: Path, *, adb: str = "", local: bool = True) -> AdbFacts:
    android = Android(adb_server=address, adb_path=adb or str(BINARIES["bundled"]))
    return await look_at_adb(android, local=local, state_dir=tmp_path / "state", user=users.own())


async def test_a_server_its_phones_its_owner_and_another_one(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with (
        RealAdbServer(BINARIES["bundled"], tmp_path) as server,
        RealAdbServer(BINARIES["bundled"], tmp_path / "other") as other,
        FakePhone() as phone,
    ):
        serial = await server.register(phone)
        await server.until_listed(serial, "device")
        found = await look(server.address, tmp_path)
    assert (found.error, found.rows) == ("", ((serial, "device"),))
    assert found.version == found.client_version >= 41
    assert found.client_release[:2].isdecimal()
    assert found.owner is not None
    assert found.owner.address == server.address
    assert found.owner.program == str(BINARIES["bundled"])
    assert found.owner_user == users.own()
    pids = {each.pid: each for each in found.others}
    assert found.owner.pid not in pids
    (stray,) = [each for each in found.others if each.port == other.port]
    assert stray.address == other.address
    assert stray.user == users.own().name
    assert found.key == str(tmp_path / ".android" / "adbkey")
    assert found.key_mode == 0o600


async def test_nothing_listens(tmp_path: Path) -> None:
    found = await look(f"127.0.0.1:{free_port()}", tmp_path)
    assert found.error == "nothing listens there"
    assert found.owner is None
    assert found.client_version >= 41
    assert found.key.endswith("/.android/adbkey")
    assert bool(found.key_mode) == Path(found.key).exists()


async def test_a_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    async with RealAdbServer(BINARIES["bundled"], tmp_path) as server:
        server.freeze()
        found = await look(server.address, tmp_path)
        server.thaw()
    assert found.error == "no answer within 4 s"
    assert found.owner is not None
    assert found.owner.port == server.port


async def test_what_listens_may_be_no_adb(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await look(f"127.0.0.1:{port}", tmp_path)
    assert found.error.startswith("what answers is no adb server")
    assert found.owner is not None
    assert found.owner.pid == os.getpid()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\necho what\n", "says 'what'"),
        ("#!/bin/sh\nexec sleep 60\n", "did not end within 3 s"),
        ("no program", "cannot run"),
    ],
)
async def test_a_client_that_is_no_adb(tmp_path: Path, script: str, says: str) -> None:
    adb = tmp_path / "adb"
    adb.write_text(script)
    adb.chmod(0o755)
    found = await look(f"127.0.0.1:{free_port()}", tmp_path, adb=str(adb))
    assert says in found.client_error
    assert found.client_version == 0


async def test_a_client_that_is_not_there(tmp_path: Path) -> None:
    found = await look(f"127.0.0.1:{free_port()}", tmp_path, adb="/none/adb")
    assert "adb_path" in found.client_error


async def test_a_disabled_one_is_not_looked_at(tmp_path: Path) -> None:
    android = Android(enabled=False)
    found = await look_at_adb(android, local=True, state_dir=tmp_path, user=users.own())
    assert (found.enabled, found.client, found.owner) == (False, "", None)


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (("-L", "localfilesystem:/run/adb.sock", "fork-server", "server"), "/run/adb.sock"),
        (("-L", "tcp:localhost:5099", "fork-server", "server"), "127.0.0.1:5099"),
        (("-L", "tcp:5098", "fork-server", "server"), "127.0.0.1:5098"),
        (("-P", "5097", "fork-server", "server"), "127.0.0.1:5097"),
        (("nodaemon", "server"), ""),
    ],
)
async def test_a_server_whose_sockets_cannot_be_seen_is_told_by_its_arguments(
    tmp_path: Path, arguments: tuple[str, ...], address: str
) -> None:
    """It listens nowhere here; another user's server cannot be looked into, and looks the same."""
    adb = tmp_path / "adb"
    adb.symlink_to(sys.executable)
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(
        adb,
        "-c",
        code,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert await process.stdout.readline() == b"up\n"
        (found,) = [each for each in adb_servers() if each.pid == process.pid]
        assert found.address == address
        assert found.user == users.own().name
    finally:
        process.stdin.close()
        await process.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_who_listens_at_a_port(host: str) -> None:
    async with await asyncio.start_server(lambda *_: None, host, 0) as server:
        port = server.sockets[0].getsockname()[1]
        (found,) = listeners_at(port)
    shown = f"[{host}]" if ":" in host else host
    assert (found.address, found.pid) == (f"{shown}:{port}", os.getpid())
    assert Path(found.program).resolve() == Path(sys.executable).resolve()
    assert listeners_at(port) == []


def test_users_of_processes() -> None:
    assert users.of_process(os.getpid()) == users.own()
    assert users.of_process(2**30) is None
    assert users.by_name("no such user") is None
    assert users.by_name("root") is not None
    assert users.name_of(2**30) == str(2**30)
