"""A real Appium 3 with its fake driver, which automates a phone that an XML file describes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.fakes.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
LIMIT = 60.0
"""Seconds for a start; it takes 2 on an idle machine."""
DISCOVERY = "--allow-insecure=*:session_discovery"
APP = '<app><title id="title">Rack</title></app>\n'


class RealAppium:
    """One server; it has the port it was made with at every start.

    Args:
        directory: for the app that sessions open.
        arguments: of its command line.
        base: its base path.
    """

    def __init__(self, directory: Path, *arguments: str, base: str = "") -> None:
        self.port = free_port()
        self.base = base
        self.log: list[str] = []
        self.arguments = (*arguments, *([f"--base-path={base}"] if base else []))
        self._app = directory / "app.xml"
        self._app.write_text(APP)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def url(self) -> str:
        """As it is configured."""
        return f"http://127.0.0.1:{self.port}{self.base}"

    async def start(self) -> None:
        """Returns once it listens."""
        self.log.clear()
        # It finds the driver by itself: APPIUM_HOME's package.json names both.
        self._process = await asyncio.create_subprocess_exec(
            HERE / "node_modules" / ".bin" / "appium",
            "--address=127.0.0.1",
            f"--port={self.port}",
            "--log-no-colors",
            *self.arguments,
            env={**os.environ, "APPIUM_HOME": str(HERE)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read(self._process))
        await self.until(lambda: self._has("listener started on"), "its listener")

    async def stop(self) -> None:
        """SIGKILL, as a server that crashes in mid-session; nothing where it does not run."""
        if self._process is None or self._reader is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._reader
        self._process = None

    async def open_session(self, udid: str) -> str:
        """Open a session on that device as any client does; its id."""
        capabilities = {
            "platformName": "Fake",
            "appium:automationName": "Fake",
            "appium:deviceName": "Fake",
            "appium:app": str(self._app),
            "appium:udid": udid,
        }
        body = {"capabilities": {"alwaysMatch": capabilities}}
        status, answer = await self.request("POST", "/session", body)
        assert status == 200, answer
        return str(answer["value"]["sessionId"])

    async def delete_session(self, session: str) -> None:
        """End it."""
        status, answer = await self.request("DELETE", f"/session/{session}")
        assert status == 200, answer

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON)."""
        limit = aiohttp.ClientTimeout(LIMIT)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.request(method, self.url + path, json=body) as response,
        ):
            return response.status, await response.json()

    def listings_since_deletion(self) -> int:
        """How often its sessions were listed after the last session was told to end."""
        last = max(number for number, line in enumerate(self.log) if "--> DELETE" in line)
        return sum("<-- GET" in line and "/sessions 200" in line for line in self.log[last:])

    def refusals(self, begin: int) -> int:
        """How often it refused to list its sessions, from that line of its log on."""
        return sum("<-- GET" in line and "sessions 500" in line for line in self.log[begin:])

    def _has(self, words: str) -> bool:
        return any(words in line for line in self.log)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until its log makes the condition true."""
        try:
            async with asyncio.timeout(LIMIT):
                while not condition():
                    assert self._process is not None
                    assert self._process.returncode is None, self.log
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited {LIMIT} s for {what}:\n" + "\n".join(self.log)) from None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.log.append(line.decode().rstrip())
            self._news.set()
        await process.wait()
        self._news.set()
