"""Processes beside the benchmark: helpers that end with it, and the agent itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path
    from typing import Any, Self

LIMIT = 150.0
"""Seconds for a process to start or to end."""
ENVIRON = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""What the agent is run with: compiling it anew at each start is not what an operator sees."""


class Helper(NamedTuple):
    """A process beside us."""

    port: int
    pid: int


@contextlib.asynccontextmanager
async def helper(module: str, *arguments: str) -> AsyncIterator[Helper]:
    """Run `python -m MODULE` beside us, which prints its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{module} ended before it was up")
        yield Helper(int(line), process.pid)
    finally:
        process.stdin.close()
        async with asyncio.timeout(LIMIT):
            await process.wait()


class Agent:
    """One `device-agent run`; `async with` starts it and ends it.

    Args:
        directory: its state, socket and configuration; short (unix sockets: 107 bytes).
        config: TOML without [agent] state_dir and [api] socket, which are set here.
        command: what runs the agent's command line.
        listen: HOST:PORT of the API over TCP; "": none.
        environ: variables besides our own.
    """

    def __init__(
        self,
        directory: Path,
        config: str,
        command: Sequence[str],
        *,
        listen: str = "",
        **environ: str,
    ) -> None:
        self._directory = directory
        self._command = command
        self._environ = environ
        self._socket = directory / "s"
        directory.mkdir(exist_ok=True)
        (directory / "agent.toml").write_text(
            f'[agent]\nstate_dir = "{directory}/state"\n'
            f'[api]\nsocket = "{self._socket}"\nlisten = "{listen}"\n{config}'
        )
        self.start_seconds = 0.0
        """From exec to READY=1."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def __aenter__(self) -> Self:
        path = self._directory / "n"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
            notify.bind(str(path))
            with (self._directory / "log").open("wb") as log:
                began = time.perf_counter()
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    "run",
                    "--config",
                    str(self._directory / "agent.toml"),
                    env={**ENVIRON, **self._environ, "NOTIFY_SOCKET": str(path)},
                    stdout=log,
                    stderr=log,
                )
            ready = asyncio.create_task(_ready(notify))
            ended = asyncio.create_task(self._process.wait())
            await asyncio.wait({ready, ended}, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
            self.start_seconds = time.perf_counter() - began
            ended.cancel()
            if not ready.done():
                ready.cancel()
                await self._end()
                raise RuntimeError((self._directory / "log").read_text())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def kill(self) -> None:
        """SIGKILL; it may be entered again."""
        self._process.kill()
        await self._process.wait()

    async def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(15):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def states(self) -> list[str]:
        """The state of each of its devices."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket))) as session,
            session.get("http://localhost/v1/devices") as response,
        ):
            answer: dict[str, list[dict[str, Any]]] = await response.json()
            return [row["state"] for row in answer["devices"]]

    async def until_online(self, count: int) -> None:
        """Wait until that many devices are online."""
        async with asyncio.timeout(LIMIT):
            while (await self.states()).count("online") < count:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.5)


async def _ready(notify: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while b"READY=1" not in (await loop.sock_recv(notify, 65536)).split(b"\n"):
        pass
