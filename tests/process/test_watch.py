"""`devices --watch` against a whole agent that restarts: on a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT, announced
from tests.kit.warm import DEVICE_AGENT
from tests.process.test_events import CONFIG, plug, until_stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as made:
        yield made


@pytest.fixture
async def agent(place: Path, host: FakeAdbHost) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(place, CONFIG.format(adb=host.address)) as made:
        await made.start()
        plug(host, "ce09", "r58m")
        for udid in ("ce09", "r58m"):
            await until_stored(made, udid, "online")
        yield made


@asynccontextmanager
async def watching(
    agent: AgentProcess, *options: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Callable[[], Any]]]:
    """The process, and its next line."""
    process = await asyncio.create_subprocess_exec(
        DEVICE_AGENT,
        "devices",
        "--watch",
        "--config",
        agent.path,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    out = process.stdout

    async def line() -> str:
        async with asyncio.timeout(LIMIT):
            return (await out.readline()).decode().rstrip("\n")

    try:
        yield process, line
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_json_lines_go_on_over_a_restart_without_a_gap(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    async with watching(agent, "--json", "CE-09") as (process, line):
        first = json.loads(await line())
        assert first["event"] == "snapshot"
        assert [row["udid"] for row in first["devices"]] == ["ce09"]
        plug(host, "r58m")
        await until_stored(agent, "ce09", "unplugged")
        await agent.kill()
        plug(host, "ce09", "r58m")
        await agent.start()
        moves: list[tuple[str, str, str]] = []
        while len(moves) < 2:
            message = json.loads(await line())
            if message["event"] == "transition":
                moves.append((message["udid"], message["from"], message["to"]))
        assert moves == [("ce09", "online", "unplugged"), ("ce09", "unplugged", "online")]
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 0
        assert re.search(r"waiting for it\n.*the agent is back\n", err.decode())


async def test_in_a_pipe_each_transition_is_a_line(agent: AgentProcess, host: FakeAdbHost) -> None:
    async with watching(agent, "--state", "unplugged", "--tag", "rack-1") as (process, line):
        reading = asyncio.create_task(line())
        while not reading.done():  # until it follows, it hears of none of them
            plug(host)
            await until_stored(agent, "ce09", "unplugged")
            plug(host, "ce09")
            await until_stored(agent, "ce09", "online")
        text = await reading
        moves = "online -> unplugged|unplugged -> online"  # out of that state counts, too
        assert re.fullmatch(rf"\S+Z  Galaxy  ce09  ({moves})", text), text
        process.terminate()
        await process.communicate()
        assert process.returncode == 128 + signal.SIGTERM


async def test_without_an_agent_it_says_so_and_ends(place: Path) -> None:
    agent = AgentProcess(place, "")
    async with watching(agent) as (process, _):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert "no agent runs with this configuration" in err.decode()


class Terminal:
    """A pseudo terminal, and what was written to it."""

    def __init__(self, wide: int, high: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(wide, high)
        self._raw = b""
        self._news = asyncio.Event()
        os.set_blocking(self.ours, False)
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            self._raw += os.read(self.ours, 65536)
        self._news.set()

    @property
    def text(self) -> str:
        # The terminal puts a return before each line's end, ours or not.
        return self._raw.decode(errors="replace").replace("\r\r\n", "\n")

    def resize(self, wide: int, high: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", high, wide, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    async def until(self, pattern: str) -> str:
        """Wait for the pattern in what is written from now on; what was written."""
        self._raw = b""
        await announced(
            self._news,
            lambda: re.search(pattern, self.text, re.DOTALL),
            repr(pattern),
            lambda: f"written: {self.text!r}",
        )
        return self.text

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)
        os.close(self.theirs)


@asynccontextmanager
async def on_a_terminal(
    agent: AgentProcess, *options: str
) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    terminal = Terminal(100, 24)
    process = await asyncio.create_subprocess_exec(
        *("setsid", "--ctty", "--wait", DEVICE_AGENT, "devices", "--watch"),
        "--config",
        agent.path,
        *options,
        stdin=terminal.theirs,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    try:
        yield terminal, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.close()


async def test_on_a_terminal_the_table_is_drawn_as_it_changes_and_all_is_left_whole(
    agent: AgentProcess, host: FakeAdbHost
) -> None:
    async with on_a_terminal(agent) as (terminal, process):
        shown = await terminal.until("2 devices: 2 online.*r58m.*\x1b\\[J")
        assert shown.startswith(ENTER)
        assert "Galaxy" in shown
        plug(host, "r58m")
        await terminal.until("2 devices: 1 online, 1 unplugged.*unplugged.*\x1b\\[J")
        terminal.resize(40, 24)
        await terminal.until("1 online, 1 unplugged  [0-9:]+…\x1b\\[K\n.*\x1b\\[J")
        await agent.kill()
        await terminal.until("the agent went away")
        await agent.start()
        await terminal.until("H2 devices[^\n]*\n\x1b\\[K\n.*\x1b\\[J")
        terminal.press(b"\x03")
        await terminal.until(re.escape(LEAVE) + "$")
        async with asyncio.timeout(LIMIT):
            assert await process.wait() == 0
