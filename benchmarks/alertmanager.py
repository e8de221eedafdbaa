"""The agent beside Prometheus Alertmanager's webhook receiver, on the same receiver.

Alertmanager (Debian's `prometheus-alertmanager`, group_wait 0, one group per alert) is what an
operator has who wants webhooks today. It is made for clients that send every alert again until it
is over; here each change is told once, as a phone tells it. Three questions:

- *latency*: 10 changes a second, from the change to its arrival at the receiver;
- *throughput*: bursts of changes, until all have arrived;
- *loss*: changes are handed in while the receiver answers 503, the process is killed (SIGKILL),
  started again on its storage, and the receiver is well again: what arrives in 60 s?

The agent (`device-agent run`) is fed by an adb server that tells of phones going offline and coming
back; Alertmanager by `POST /api/v2/alerts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from benchmarks.processes import LIMIT, Agent
from benchmarks.report import Figure, percentile, table
from benchmarks.sample import NO_HOLDS, NO_PROBE, behind_adb, webhook_toml
from benchmarks.start import command
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BINARY = "prometheus-alertmanager"
PHONES = 250
PER_SECOND = 10
LOST_AFTER = 60.0
"""Seconds after the receiver is well again in which a change counts as delivered."""
_ALERTMANAGER = """
route:
  receiver: board
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 24h
receivers:
- name: board
  webhook_configs:
  - url: 'http://127.0.0.1:{port}/alertmanager'
    send_resolved: false
"""


class Board:
    """The receiver: which changes of which phone arrived; a change's name sorts by its time."""

    def __init__(self) -> None:
        self.port = 0
        self.well = True
        self.arrived: dict[str, list[str]] = defaultdict(list)
        self.refused = 0
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """While it listens."""
        app = web.Application(client_max_size=10 << 20)
        app.router.add_post("/agent", self._agent)
        app.router.add_post("/alertmanager", self._alertmanager)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            yield
        finally:
            await runner.cleanup()

    def count(self) -> int:
        """Distinct arrivals."""
        return sum(len(set(came)) for came in self.arrived.values())

    async def until(self, count: int, limit: float) -> bool:
        """Whether that many have arrived in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while self.count() < count:
                    self._news.clear()
                    await self._news.wait()
        return self.count() >= count

    def swapped(self) -> int:
        """Arrivals of a phone before one of its earlier changes."""
        return sum(
            later < earlier
            for came in self.arrived.values()
            for earlier, later in pairwise(list(dict.fromkeys(came)))
        )

    async def _agent(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["creationTime"] + request.headers["webhook-id"]
        return self._take([(body["deviceUdid"], name)])

    async def _alertmanager(self, request: web.Request) -> web.Response:
        body = await request.json()
        labels = [alert["labels"] for alert in body["alerts"]]
        return self._take([(each["device"], each["change"].zfill(9)) for each in labels])

    def _take(self, changes: list[tuple[str, str]]) -> web.Response:
        if not self.well:
            self.refused += 1
            return web.Response(status=503)
        for udid, name in changes:
            self.arrived[udid].append(name)
        self._news.set()
        return web.Response()


class Ours:
    """`device-agent run` behind an adb server."""

    name = "device-agent"

    def __init__(self, directory: Path, board: Board, adb: FakeAdbHost) -> None:
        config = behind_adb(adb.port) + NO_PROBE + NO_HOLDS
        config += webhook_toml(f"http://127.0.0.1:{board.port}/agent")
        self._agent = Agent(directory, config, command())
        self._adb = adb
        self._online = [True] * PHONES

    async def start(self) -> None:
        """Start it on its storage."""
        await self._agent.__aenter__()

    async def kill(self) -> None:
        """SIGKILL."""
        await self._agent.kill()

    async def stop(self) -> None:
        """End it."""
        await self._agent.__aexit__()

    async def change(self, phones: range) -> None:
        """Each of these phones changes once."""
        for number in phones:
            self._online[number] = not self._online[number]
        self._adb.set(
            *[
                Listed(
                    _udid(number),
                    "device" if self._online[number] else "offline",
                    transport_id=number + 1,
                    told="x",
                )
                for number in phones
            ]
        )


class Alertmanager:
    """Debian's, alone on loopback."""

    name = "Alertmanager"

    def __init__(self, directory: Path, board: Board) -> None:
        directory.mkdir()
        self._directory = directory
        self._port = free_port()
        self._changes = 0
        (directory / "alertmanager.yml").write_text(_ALERTMANAGER.format(port=board.port))

    async def start(self) -> None:
        """Start it on its storage."""
        with (self._directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                BINARY,
                f"--config.file={self._directory / 'alertmanager.yml'}",
                f"--storage.path={self._directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--cluster.listen-address=",
                stdout=log,
                stderr=log,
            )
        self._session = aiohttp.ClientSession(f"http://127.0.0.1:{self._port}")
        async with asyncio.timeout(LIMIT):
            while not await self._is_ready():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._session.close()
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """End it."""
        await self._session.close()
        self._process.terminate()
        await self._process.wait()

    async def change(self, phones: range) -> None:
        """Each of these phones changes once."""
        alerts = []
        for number in phones:
            self._changes += 1
            labels = {"alertname": "device", "device": _udid(number), "change": f"{self._changes}"}
            alerts.append({"labels": labels})
        async with self._session.post("/api/v2/alerts", json=alerts) as answer:
            answer.raise_for_status()

    async def _is_ready(self) -> bool:
        try:
            async with self._session.get("/-/ready") as answer:
                return answer.status == HTTPStatus.OK
        except aiohttp.ClientError:
            return False


def _udid(number: int) -> str:
    return f"R58M{number:08}"


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    if shutil.which(BINARY) is None:
        print(f"   left out: {BINARY} is not installed (apt-get install {BINARY})")
        return []
    figures = []
    rows: list[tuple[str, ...]] = [
        ("", "p50 ms", "p99 ms", "per second", "lost after SIGKILL", "twice", "out of order")
    ]
    async with FakeAdbHost() as adb:
        for kind in (Ours, Alertmanager):
            board = Board()
            async with board.served():
                place = directory / kind.name[0]
                if kind is Ours:
                    adb.listed.clear()
                    way: Ours | Alertmanager = Ours(place, board, adb)
                    await way.change(range(PHONES))  # listed and away when the agent starts
                else:
                    way = Alertmanager(place, board)
                found = await _measure(way, board, quick=quick)
            rows.append((way.name, *found.cells))
            figures += found.figures(way.name)
    print(table(rows))
    return figures


@dataclass(frozen=True)
class _Found:
    times: list[float]
    rate: float
    told: int
    lost: int
    twice: int
    swapped: int

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        return (
            f"{percentile(self.times, 0.5):.1f}",
            f"{percentile(self.times, 0.99):.1f}",
            f"{self.rate:.0f}",
            f"{self.lost} of {self.told}",
            str(self.twice),
            str(self.swapped),
        )

    def figures(self, name: str) -> list[Figure]:
        """Of the summary."""
        return [
            Figure(f"{name}: change -> receiver, p99", f"{percentile(self.times, 0.99):.1f} ms"),
            Figure(f"{name}: changes a second", f"{self.rate:.0f} /s"),
            Figure(f"{name}: lost by SIGKILL", f"{self.lost} of {self.told}"),
        ]


async def _measure(way: Ours | Alertmanager, board: Board, *, quick: bool) -> _Found:
    await way.start()
    try:
        expected = PHONES if isinstance(way, Ours) else 0
        await board.until(expected, LIMIT)

        times = []
        for number in range((5 if quick else 30) * PER_SECOND):
            start = time.perf_counter()
            await way.change(range(number % PHONES, number % PHONES + 1))
            expected += 1
            if not await board.until(expected, LIMIT):
                raise RuntimeError(f"{way.name}: change {number} never came")
            times.append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(max(0.0, start + 1 / PER_SECOND - time.perf_counter()))

        bursts = 4 if quick else 12
        start = time.perf_counter()
        for _ in range(bursts):
            await way.change(range(PHONES))
            expected += PHONES
            if not await board.until(expected, LIMIT):
                raise RuntimeError(f"{way.name}: {expected - board.count()} changes never came")
        rate = bursts * PHONES / (time.perf_counter() - start)

        board.well = False
        before = board.refused
        for _ in range(2):
            await way.change(range(PHONES))
            await asyncio.sleep(2)  # it has seen them, and tried
        if board.refused == before:
            raise RuntimeError(f"{way.name} never tried")
        await way.kill()
        await way.start()
        board.well = True
        await board.until(expected + 2 * PHONES, LOST_AFTER)
    finally:
        await way.stop()
    all_ = [name for came in board.arrived.values() for name in came]
    return _Found(
        times,
        rate,
        told=2 * PHONES,
        lost=expected + 2 * PHONES - board.count(),
        twice=len(all_) - board.count(),
        swapped=board.swapped(),
    )
