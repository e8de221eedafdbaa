"""What all peers are measured by: phones, the adb server's own word, the receiver, the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from benchmarks.processes import ENVIRON, LIMIT
from benchmarks.report import TICK, rss_mb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from tests.fakes.adb_server import RealAdbServer

_STATES = {
    "device.status.online": "device",
    "device.status.offline": "offline",
    "device.state.utilizing": "utilizing",
    "device.state.unplugged": "unplugged",
}


def _rough(state: str) -> str:
    """Adb goes through several states of a phone that is not ready: `offline` is any of them."""
    return state if state in {"device", "unplugged"} else "offline"


class Watch:
    """When the adb server tells what: its `track-devices` as we read it ourselves."""

    def __init__(self, server: RealAdbServer) -> None:
        self._server = server
        self.states: dict[str, str] = {}
        self.since: dict[str, float] = {}
        """Serial → when it came into that state; `perf_counter`."""
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While it is read."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, state: str, serials: Iterable[str]) -> None:
        """Wait until all of them are in that state; "unplugged": not listed."""
        wanted = set(serials)
        async with asyncio.timeout(LIMIT):
            while any(self.states.get(each, "unplugged") != state for each in wanted):
                self._news.clear()
                await self._news.wait()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError):
                await self._read()
            await asyncio.sleep(0.01)

    async def _read(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            service = b"host:track-devices"
            writer.write(b"%04x%s" % (len(service), service))
            await reader.readexactly(4)
            while True:
                size = int(await reader.readexactly(4), 16)
                self._take((await reader.readexactly(size)).decode())
        finally:
            writer.close()

    def _take(self, text: str) -> None:
        now = time.perf_counter()
        rows = (line.split("\t", 1) for line in text.splitlines())
        listed = {serial: _rough(state) for serial, state in rows}
        gone = dict.fromkeys(self.states.keys() - listed.keys(), "unplugged")
        for serial, state in {**gone, **listed}.items():
            if self.states.get(serial) != state:
                self.states[serial] = state
                self.since[serial] = now
        self._news.set()


class Arrival(NamedTuple):
    """One POST that was answered 200."""

    at: float
    serial: str
    state: str
    """`device`, `offline` or `unplugged`; see `_rough`."""


class Board:
    """The receiver of them all."""

    def __init__(self) -> None:
        self.port = 0
        self.arrived: list[Arrival] = []
        self._latest: dict[str, list[Arrival]] = defaultdict(list)
        self._runner: web.AppRunner | None = None
        self._news = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it is posted to."""
        return f"http://127.0.0.1:{self.port}/"

    async def open(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Nobody listens there any more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def clear(self) -> None:
        """Forget what has arrived."""
        self.arrived.clear()
        self._latest.clear()

    def of(self, serial: str, state: str, since: float = 0.0) -> Arrival | None:
        """The first arrival of that, from then on."""
        for each in self._latest[serial]:
            if each.state == state and each.at >= since:
                return each
        return None

    async def until(self, state: str, serials: Iterable[str], limit: float) -> set[str]:
        """Wait for that news of all of them; those of which it did not come."""
        missing = set(serials)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while missing := {each for each in missing if self.of(each, state) is None}:
                    self._news.clear()
                    await self._news.wait()
        return missing

    async def until_told_of(self, count: int) -> None:
        """Wait until something has arrived of that many phones."""
        async with asyncio.timeout(LIMIT):
            while len(self._latest) < count:
                self._news.clear()
                await self._news.wait()

    async def _post(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        serial = body.get("serial") or body["deviceUdid"]
        state = body.get("state") or _STATES[body["eventActivity"]]
        arrival = Arrival(time.perf_counter(), serial, _rough(state))
        self.arrived.append(arrival)
        self._latest[serial].append(arrival)
        self._news.set()
        return web.Response()


class Process:
    """A peer's process, in a group of its own: what it starts ends with it.

    Args:
        command: what is run.
        log: where its output goes.
        environ: variables besides our own.
    """

    def __init__(self, command: Sequence[str], log: Path, **environ: str) -> None:
        self._command = command
        self._log = log
        self._environ = environ

    async def start(self) -> None:
        """Run it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**ENVIRON, **self._environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def kill(self) -> None:
        """SIGKILL, to all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and of its ended children (proc(5): utime to cstime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def memory_of(pid: int) -> float:
    """MB resident of a process and of those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = rss_mb(pid)
    for child in children:
        with contextlib.suppress(OSError, LookupError):
            total += memory_of(int(child))
    return total
