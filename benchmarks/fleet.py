"""A fleet of 100 hosts with 100 phones each at one hub with 10 webhooks: CPU, delays, restarts.

A real broker, the whole hub as a process, a receiver, and hosts (`benchmarks.fleet_hosts`): the
agents' own uplinks, 25 in a process, whose logs are in memory. A change's delay is the time from
its row in its host's log to the receiver's answer, of each of its callbacks; they are found by
their message ids, which the hub makes of host, epoch and row.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from agent.fleet.hub.message_ids import Cause, message_id
from benchmarks.page import LOADED, WATCH
from benchmarks.processes import LIMIT, Agent
from benchmarks.report import Figure, cpu_seconds, percentile, rss_mb
from tests.fakes.ports import free_port
from tests.kit.broker import Broker
from tests.page.browser import CHROMIUM, Window, one_chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

HOSTS = 100
PHONES = 100
PROCESSES = 4
WEBHOOKS = 10
RATES = (50, 500)
"""Changes a second, of the whole fleet."""
SECONDS = 30.0
RESTARTS = 3
ANSWERS = 5
ASKED = (
    ("GET", "/v1/devices", 200),
    ("GET", "/v1/devices/rack-7-R58M0007", 200),
    ("GET", "/v1/devices/R58M9999", 404),
    ("GET", "/metrics", 200),
    ("GET", "/v1/hosts", 200),
    ("GET", "/v1/status", 200),
    ("POST", "/v1/reload", 200),
)
DRAINED = 300.0
"""Seconds for what waits to be delivered."""
CONFIG = """\
server_name: n1
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
jetstream {
  store_dir: "{store}"
  max_memory_store: 64MB
  max_file_store: 16GB
  sync_interval: always
}
"""
"""As in config/nats.conf."""
WEBHOOK = """
[[webhooks]]
id = {id}
name = "Webhook {id}"
url = "http://127.0.0.1:{port}/{id}"
events = ["online", "offline", "utilizing", "unplugged"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


class Process:
    """A module beside us, that answers a line of JSON with another."""

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        self._process = process
        self.number = number
        """What it printed first."""

    @property
    def pid(self) -> int:
        """Its own."""
        return self._process.pid

    async def ask(self, what: object, limit: float = LIMIT) -> Any:
        """Its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        async with asyncio.timeout(limit):
            return json.loads(await self._process.stdout.readline())


@contextlib.asynccontextmanager
async def _beside(module: str, *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            number = int(await process.stdout.readline())
        yield Process(process, number)
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


class Spent(NamedTuple):
    """What a while took: seconds, and those of CPU of hub, broker and all hosts."""

    seconds: float
    hub: float
    broker: float
    hosts: float


class Scene:
    """All of it."""

    def __init__(
        self, place: Path, broker: Broker, receiver: Process, hosts: Sequence[Process]
    ) -> None:
        self.place = place
        self.broker = broker
        self.receiver = receiver
        self.hosts = hosts
        self.listen = f"127.0.0.1:{free_port()}"
        self.came: dict[str, float] = {}
        """When each message was answered first."""
        self.again = 0
        webhooks = "".join(
            WEBHOOK.format(id=number, port=receiver.number) for number in range(1, WEBHOOKS + 1)
        )
        self.hub = Agent(
            place / "h",
            f'[fleet]\nrole = "hub"\nservers = ["{broker.url}"]\nhost = "hub"\n{webhooks}',
            [sys.executable, "-m", "benchmarks.fleet_hub"],
            listen=self.listen,
            WATCHED=str(place / "watched"),
        )

    def _cpu(self) -> Spent:
        return Spent(
            time.monotonic(),
            cpu_seconds(self.hub.pid),
            cpu_seconds(self.broker.pid),
            sum(cpu_seconds(each.pid) for each in self.hosts),
        )

    @contextlib.asynccontextmanager
    async def spending(self, found: list[Spent]) -> AsyncIterator[None]:
        """What passes meanwhile is noted."""
        before = self._cpu()
        yield
        found.append(Spent(*(now - then for now, then in zip(self._cpu(), before, strict=True))))

    async def get(self, path: str, *, method: str = "GET", status: int = 200) -> bytes:
        """Of the hub, over its socket."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.place / "h" / "s")),
                timeout=aiohttp.ClientTimeout(LIMIT),
            ) as session,
            session.request(method, f"http://localhost{path}") as response,
        ):
            body = await response.read()
            assert response.status == status, body
            return body

    async def until_taken(self, hosts: int, phones: int) -> None:
        """Until the hub has all of each host."""
        async with asyncio.timeout(LIMIT):
            while True:
                rows = json.loads(await self.get("/v1/hosts"))["hosts"]
                well = [row for row in rows if row["caught_up"]]
                if len(well) == hosts and sum(row["devices"] for row in well) == hosts * phones:
                    return
                await asyncio.sleep(0.1)

    async def collect(self) -> None:
        """What the receiver has noted."""
        noted = await self.receiver.ask(None)
        self.again = noted.pop("")
        self.came |= noted

    async def until_delivered(self, count: int) -> None:
        """Until that many messages have come since the start."""
        async with asyncio.timeout(DRAINED):
            await self.collect()
            while len(self.came) < count:
                await asyncio.sleep(0.2)
                await self.collect()

    async def change(self, rate: float, seconds: float) -> list[tuple[float, list[str]]]:
        """That many changes a second; when each was, and the messages that it must make."""
        share = rate / len(self.hosts)
        made = await asyncio.gather(
            *[each.ask([share, seconds], seconds + LIMIT) for each in self.hosts]
        )
        return [
            (
                at,
                [
                    message_id(Cause(host, epoch, id_), udid, webhook)
                    for webhook in range(1, WEBHOOKS + 1)
                ],
            )
            for rows in made
            for host, epoch, id_, udid, at in rows
        ]

    async def watched(self, what: Awaitable[object]) -> tuple[dict[str, float], Any]:
        """The longest pause of the hub's loop while that is done, and what came of it."""
        path = self.place / "watched"
        path.unlink(missing_ok=True)
        os.kill(self.hub.pid, signal.SIGUSR1)
        result = await what
        os.kill(self.hub.pid, signal.SIGUSR2)
        async with asyncio.timeout(LIMIT):
            while not path.exists():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        found: dict[str, float] = json.loads(path.read_text())
        return found, result


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    del directory  # a socket's path must be shorter
    hosts, phones = (20, 50) if quick else (HOSTS, PHONES)
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        place = Path(name)
        broker = Broker(place / "n", config=CONFIG)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(broker.close)
            await broker.start()
            receiver = await stack.enter_async_context(_beside("benchmarks.fleet_receiver"))
            each = hosts // PROCESSES
            racks = [
                await stack.enter_async_context(
                    _beside(
                        "benchmarks.fleet_hosts",
                        *(broker.url, str(number * each), str(each), str(phones)),
                    )
                )
                for number in range(PROCESSES)
            ]
            scene = Scene(place, broker, receiver, racks)
            return await _measure(scene, hosts, phones, 5.0 if quick else SECONDS)


async def _measure(scene: Scene, hosts: int, phones: int, seconds: float) -> list[Figure]:
    name = f"fleet, {hosts * phones} phones"
    figures: list[Figure] = []

    def note(what: str, value: str, spread: str = "") -> None:
        figures.append(Figure(f"{name}: {what}", value, spread))
        print(f"   {what}: {value} {spread}", flush=True)

    async with scene.hub:
        began = time.monotonic()
        taking: list[Spent] = []
        async with scene.spending(taking):
            pauses, _ = await scene.watched(scene.until_taken(hosts, phones))
        note(
            f"empty store, READY → {hosts} snapshots taken",
            f"{taking[0].seconds:.1f} s ({taking[0].hub:.1f} s of CPU)",
            _pause(pauses),
        )
        count = hosts * phones * WEBHOOKS
        await scene.until_delivered(count)
        took = max(scene.came.values()) - began
        note("empty store, READY → all told", f"{took:.1f} s", f"{count} callbacks")
        note("RSS then", f"{rss_mb(scene.hub.pid):.0f} MB")
        await asyncio.sleep(5)
        rest: list[Spent] = []
        async with scene.spending(rest):
            await asyncio.sleep(seconds)
        note("at rest", _cores(rest[0]))
        pauses, _ = await scene.watched(asyncio.sleep(10))
        note("at rest, longest pause of the hub's loop", _pause(pauses))
        for rate in RATES:
            await _changes(scene, rate, seconds, note)
        await _answers(scene, note)
        await _page(scene, hosts * phones, note)
        note("RSS in the end", f"{rss_mb(scene.hub.pid):.0f} MB")
    restarts: list[Spent] = []
    starts = []
    for _ in range(RESTARTS):
        await asyncio.sleep(2)
        async with scene.hub:
            starts.append(scene.hub.start_seconds)
            async with scene.spending(restarts):
                await scene.until_taken(hosts, phones)
    note(
        f"its own store: exec → READY; → {hosts} hosts caught up",
        f"{min(starts):.2f}; {min(each.seconds for each in restarts):.1f} s",
        f"{RESTARTS} times, at most {max(starts):.2f}; "
        f"{max(each.seconds for each in restarts):.1f} s, "
        f"{max(each.hub for each in restarts):.1f} s of CPU",
    )
    await scene.collect()
    note("messages that came twice", str(scene.again), f"of {len(scene.came)}")
    return figures


async def _changes(scene: Scene, rate: float, seconds: float, note: Callable[..., None]) -> None:
    """With that many changes a second."""
    during: list[Spent] = []
    whole: list[Spent] = []
    before = len(scene.came)
    async with scene.spending(whole):
        async with scene.spending(during):
            made = await scene.change(rate, seconds)
        await scene.until_delivered(before + len(made) * WEBHOOKS)
    delays = [(scene.came[each] - at) * 1000 for at, ids in made for each in ids]
    over = max(scene.came.values()) - max(at for at, _ in made)
    note(
        f"{rate} changes a second",
        _cores(during[0]),
        f"{whole[0].hub / len(made) * 1000:.2f} ms of the hub's CPU for a change and its "
        f"{WEBHOOKS} callbacks",
    )
    note(
        f"{rate} changes a second, event → 2xx p50; p99",
        f"{percentile(delays, 0.5):.0f}; {percentile(delays, 0.99):.0f} ms",
        f"max {max(delays):.0f} ms of {len(delays)} callbacks; the last one {over:.1f} s after "
        "the last change",
    )
    before = len(scene.came)
    pauses, made = await scene.watched(scene.change(rate, 10))
    await scene.until_delivered(before + len(made) * WEBHOOKS)
    note(f"{rate} changes a second, longest pause of the hub's loop", _pause(pauses))


async def _answers(scene: Scene, note: Callable[..., None]) -> None:
    for method, path, status in ASKED:
        ask = partial(scene.get, path, method=method, status=status)
        spent: list[Spent] = []
        async with scene.spending(spent):
            for _ in range(ANSWERS):
                body = await ask()
        pauses, _ = await scene.watched(ask())
        note(
            f"{method} {path}",
            f"{spent[0].seconds / ANSWERS * 1000:.0f} ms "
            f"({spent[0].hub / ANSWERS * 1000:.0f} ms of CPU)",
            f"{len(body) / 1000:.0f} KB, {_pause(pauses)}",
        )


async def _page(scene: Scene, phones: int, note: Callable[..., None]) -> None:
    """Its first load in a browser, while nothing changes."""
    if shutil.which(CHROMIUM) is None:
        print(f"   left out: {CHROMIUM} is not here")
        return
    base = f"http://{scene.listen}/"
    async with one_chromium() as chromium:
        window = Window(await chromium.browser.new_context(), base)
        await window.context.add_init_script(WATCH)
        tab = await window.tab()
        spent: list[Spent] = []
        async with scene.spending(spent):
            await tab.goto(f"{base}#/devices")
            await tab.wait_for_function(
                "(count) => document.querySelectorAll('tbody tr').length >= count",
                arg=phones,
                timeout=LIMIT * 1000,
                polling=50,  # in every frame it would take a tenth of what is measured
            )
            took = await tab.evaluate("() => performance.now()")
        loaded: dict[str, Any] = await tab.evaluate(LOADED)
        long: Sequence[float] = await tab.evaluate("() => long.splice(0)")
        await window.context.close()
    note(
        "page: first paint; all shown",
        f"{loaded['paint']:.0f}; {took:.0f} ms",
        f"{spent[0].hub:.1f} s of the hub's CPU; {len(long)} tasks over 50 ms, the longest "
        f"{max(long, default=0):.0f} ms",
    )


def _cores(spent: Spent) -> str:
    hub, broker, hosts = (each / spent.seconds * 100 for each in spent[1:])
    return f"hub {hub:.1f} % of a core (broker {broker:.1f}, hosts {hosts:.1f})"


def _pause(found: dict[str, float]) -> str:
    return f"{found['late']:.0f} ms late, {found['cpu']:.1f} ms of CPU in one turn"
