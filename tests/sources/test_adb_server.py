"""Starting a real adb server: the right binary, on the right port, and never another one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.model import Down, Snapshot
from agent.sources import adb_server
from tests.fakes.adb_server import BINARIES, RealAdbServer, request
from tests.fakes.ports import free_port
from tests.fakes.recorder import Recorder
from tests.kit.sources import adb_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.sources.adb import AdbSource


def servers_on(port: int) -> list[int]:
    """Pids of adb servers that were started for the port."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"server" in words and f"tcp:localhost:{port}".encode() in words:
                    found.append(int(entry.name))
    return found


def listeners(port: int) -> list[str]:
    """Local addresses (as the kernel prints them) that listen on the port."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
    ]
    return [line[1] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A free port; whatever was started there is killed, and nothing may start on 5037."""
    before = listeners(5037)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ADB_USB", "0")
    monkeypatch.setenv("ADB_LIBUSB", "0")
    monkeypatch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "5554")
    chosen = free_port()
    yield chosen
    for pid in servers_on(chosen):
        os.kill(pid, signal.SIGKILL)
    assert listeners(5037) == before, "a stray adb server on 5037"


def source(port: int, home: Path | None = None, **changes: Any) -> AdbSource:
    keys = {"start_server": True, "probe_timeout": 1.0, **changes}
    return adb_source(f"127.0.0.1:{port}", home, **keys)


@contextlib.asynccontextmanager
async def running(watched: AdbSource) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    task = asyncio.create_task(watched.run(recorder))
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


@pytest.mark.parametrize("binary", BINARIES)
async def test_starts_the_server_where_it_is_wanted_and_leaves_it_running(
    binary: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An operator's settings that point elsewhere must not move it.
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:localhost:{free_port()}")
    monkeypatch.setenv("BOARD_TOKEN", "do-not-hand-on")
    async with running(source(port, adb_path=str(BINARIES[binary]))) as recorder:
        first = await recorder.next_after(0)
        assert first == Snapshot(first.source, ()), "starting it is no outage"
    assert listeners(port) == [f"0100007F:{port:04X}"]
    (pid,) = servers_on(port)
    assert os.getsid(pid) != os.getsid(0), "a Ctrl-C on the agent would reach it"
    handed_on = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"do-not-hand-on" not in handed_on
    assert b"ADB_SERVER_SOCKET" not in handed_on
    assert (await request(port, "host:version")).startswith(b"OKAY"), "it is left running"


async def test_restarts_a_killed_server(port: int) -> None:
    async with running(source(port, adb_path=str(next(iter(BINARIES.values()))))) as recorder:
        await recorder.until(lambda: recorder.count(Snapshot) == 1, "the first server")
        (pid,) = servers_on(port)
        os.kill(pid, signal.SIGKILL)
        await recorder.until(lambda: recorder.count(Snapshot) == 2, "the second server")
        assert recorder.count(Down) == 1


async def test_a_running_server_is_used_as_it_is(port: int, tmp_path: Path) -> None:
    server = RealAdbServer(next(iter(BINARIES.values())), tmp_path)
    async with server, running(source(server.port, adb_path="/nowhere/adb")) as recorder:
        assert isinstance(await recorder.next_after(0), Snapshot)


async def test_a_missing_binary_is_down_with_the_remedy(port: int) -> None:
    async with running(source(port, adb_path="/nowhere/adb")) as recorder:
        down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "adb_path = '/nowhere/adb'" in down.reason
    assert servers_on(port) == []


async def test_a_binary_that_fails_is_down_with_what_it_said(port: int, tmp_path: Path) -> None:
    broken = tmp_path / "adb"
    broken.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    async with running(source(port, adb_path=str(broken))) as recorder:
        down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "no such luck" in down.reason
        assert f"{broken} -L tcp:localhost:{port} start-server" in down.reason


async def test_nothing_is_started_when_told_not_to(port: int) -> None:
    async with running(source(port, start_server=False)) as recorder:
        down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "adb start-server" in down.reason
    assert servers_on(port) == []


async def test_nothing_is_started_for_another_host_or_a_socket(port: int, tmp_path: Path) -> None:
    for server in (f"127.0.0.2:{port}", f"[::1]:{port}", str(tmp_path / "adb.sock")):
        async with running(source(port, adb_server=server)) as recorder:
            down = await recorder.next_after(0)
            assert isinstance(down, Down)
            assert server in down.reason
    assert servers_on(port) == []


def fake_adb(folder: Path, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adb").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "adb").chmod(0o755)
    return folder / "adb"


def says(version: str) -> str:
    return f"echo Android Debug Bridge version 1.0.{version}"


async def test_the_binary_is_the_given_one_else_the_only_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = BINARIES["bundled"]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert await adb_server.find_adb() == given
    assert await adb_server.find_adb(str(given)) == given
    on_path = fake_adb(tmp_path, says("99"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert await adb_server.find_adb(str(given)) == given, "what is named is taken"
    assert await adb_server.find_adb("adb") == on_path


@pytest.mark.parametrize(
    ("said", "newer"),
    [
        (says("39"), "bundled"),
        (f"{says('41')}; echo Version 29.0.6-debian", "bundled"),
        (f"{says('41')}; echo Version 9.9.9", "bundled"),
        (says("41"), "bundled"),
        (f"{says('41')}; echo Version 99.0.0-1", "on PATH"),
        (f"{says('41')}; echo Version 101", "on PATH"),
        (says("42"), "on PATH"),
        (f"{says('41')}; echo Version the bundled one", "bundled"),
    ],
)
async def test_of_two_the_newer_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, newer: str
) -> None:
    bundled = BINARIES["bundled"]
    on_path = fake_adb(tmp_path, said)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert await adb_server.find_adb() == (on_path if newer == "on PATH" else bundled)


async def test_of_two_of_one_version_that_on_path_is_taken_and_nothing_is_asked_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = (await adb_server.version_of(BINARIES["bundled"])).release
    asked = tmp_path / "asked"
    on_path = fake_adb(tmp_path, f"echo >>{asked}; {says('41')}; echo Version {release}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert [await adb_server.find_adb() for _ in range(3)] == [on_path] * 3
    assert asked.read_text() == "\n"
    fake_adb(tmp_path, f"echo >>{asked}; {says('39')}")
    assert await adb_server.find_adb() == BINARIES["bundled"], "another file is asked anew"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("exit 1", "says ''"),
        ("echo what", "says 'what'"),
        ("exec sleep 60", "did not end within 3 s"),
        ("sleep 60; exit 1", "did not end within 3 s"),
        ("sleep 60 & exit 1", "did not end within 3 s"),
        ("yes", "says 'y"),
        (None, "cannot run"),
    ],
    ids=["fails", "is no adb", "hangs", "wraps what hangs", "leaves it", "babbles", "no program"],
)
async def test_a_broken_binary_is_passed_over_with_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str | None, why: str
) -> None:
    broken = fake_adb(tmp_path, body or "")
    if body is None:
        broken.write_bytes(b"\x7fELF for another machine")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    with capture_logs() as logs:
        assert await adb_server.find_adb() == BINARIES["bundled"]
    (said,) = logs
    assert (said["event"], said["binary"]) == ("adb.binary_passed_over", str(broken))
    assert why in said["reason"]


async def test_with_the_default_path_the_newer_adb_starts_the_server(
    port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = fake_adb(tmp_path / "bin", f"case $1 in version) {says('29')};; *) exit 1;; esac")
    monkeypatch.setenv("PATH", f"{old.parent}:{os.defpath}")
    async with running(source(port)) as recorder:
        assert isinstance(await recorder.next_after(0), Snapshot)
    (pid,) = servers_on(port)
    assert Path(f"/proc/{pid}/exe").resolve() == BINARIES["bundled"].resolve()


def test_the_server_looks_for_usb_itself_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With libusb, one that starts before the kernel has a USB bus never sees a phone."""
    monkeypatch.delenv("ADB_LIBUSB", raising=False)
    assert adb_server.environment(tmp_path)["ADB_LIBUSB"] == "0"
    monkeypatch.setenv("ADB_LIBUSB", "1")
    assert adb_server.environment(tmp_path)["ADB_LIBUSB"] == "1"


def test_home_is_the_callers_if_it_can_hold_the_key_else_the_agents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, agents = tmp_path / "own", tmp_path / "state" / "adb"
    own.mkdir()
    monkeypatch.setenv("HOME", str(own))
    assert adb_server.environment(agents)["HOME"] == str(own)
    for unusable in ("/nonexistent", ""):
        monkeypatch.setenv("HOME", unusable)
        assert adb_server.environment(agents)["HOME"] == str(agents)
    assert agents.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("HOME")
    with pytest.raises(adb_server.AdbStartError, match="not set"):
        adb_server.environment(None)
    taken = tmp_path / "file"
    taken.touch()
    with pytest.raises(adb_server.AdbStartError, match="file/adb"):
        adb_server.environment(taken / "adb")
