"""How long does the loop stand still while operators ask and the lab has a bad day?

The whole agent (`agent.app.App`) in this process, with 1,000 simulated phones, 100 webhooks whose
endpoint refuses every connection (so that all that was ever told them waits), and 200 requests that
wait for phones which others hold. A heartbeat on the loop, due each millisecond, notes how late it
comes: the longest it waited while something was done is that thing's pause. Who asks is a process
of its own. *idle* is the same heartbeat with nobody asking: the noise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.app import App
from agent.config import parse
from agent.model import Bridge, SourceName
from agent.sources.simulated import SimulatedSource
from agent.sources.supervisor import SourcePlan
from benchmarks.report import Figure, median_spread, table
from benchmarks.sample import NO_HOLDS, ONLY_ADB, adb_sighting, quiet
from tests.fakes.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    from agent.config import Config

PHONES = 1_000
WEBHOOKS = 100
WAITERS = 200
SILENCES = 50
BEAT = 0.001
TARGET_MS = 50.0
LIMIT = 300.0
"""Seconds for one step."""


class Heartbeat:
    """Notes how late the loop comes to what is due."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self.longest = 0.0

    def start(self) -> None:
        """From now on; the longest is 0 again."""
        self.longest = 0.0
        self._due = self._loop.time() + BEAT
        self._handle = self._loop.call_at(self._due, self._beat)

    def stop(self) -> float:
        """Milliseconds of the longest pause since `start`, up to this moment."""
        assert self._handle is not None
        self._handle.cancel()
        return max(self.longest, self._loop.time() - self._due) * 1000

    def _beat(self) -> None:
        now = self._loop.time()
        self.longest = max(self.longest, now - self._due)
        self._due = now + BEAT
        self._handle = self._loop.call_at(self._due, self._beat)


class Asker:
    """The process that asks; see `benchmarks.asker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(
        self, method: str, path: str, body: object = None, *, count: int = 1
    ) -> dict[str, int]:
        """Send it `count` times at once; the statuses that came. A negative count: left open."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, path, body, count]).encode() + b"\n")
        async with asyncio.timeout(LIMIT):
            line = await self._process.stdout.readline()
        statuses: dict[str, int] = json.loads(line)
        return statuses


@contextlib.asynccontextmanager
async def _asker(path: Path) -> AsyncIterator[Asker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.asker", str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield Asker(process)
    finally:
        process.stdin.close()
        async with asyncio.timeout(30):
            await process.wait()


class Scene:
    """The agent, its phones, and how both are changed."""

    def __init__(self, directory: Path, refused: int, *, phones: int) -> None:
        self.directory = directory
        self.socket = directory / "s"
        self.source = SimulatedSource(SourceName.ADB)
        self.sightings = tuple(adb_sighting(number, Bridge.READY) for number in range(phones))
        self.text = _config(directory, refused)
        self.app = App(self.load, self.load(), {}, plans=self._plans)
        self.heartbeat = Heartbeat()

    def load(self) -> Config:
        """The configuration as it is now."""
        return parse(self.text, "benchmark.toml")

    def _plans(self, config: Config, names: Iterable[SourceName], state_dir: Path) -> Any:
        del config, names, state_dir
        return {SourceName.ADB: SourcePlan("simulated", lambda: self.source)}

    def plug_all(self) -> None:
        """All phones at once, as a snapshot."""
        for sighting in self.sightings:
            self.source._phones[sighting.address] = sighting  # noqa: SLF001 - shown by `recover`
        self.source.recover()

    async def restart_adb(self) -> None:
        """The adb server goes and comes back with every phone in one list."""
        self.source.fail("adb server died")
        await asyncio.sleep(0.2)
        self.source.recover()

    def all_change(self, bridge: Bridge) -> None:
        """Every phone is another in one snapshot: as many transitions and callbacks as it goes."""
        self.sightings = tuple(adb_sighting(n, bridge) for n in range(len(self.sightings)))
        self.plug_all()

    async def end_silences(self) -> None:
        """All of them."""
        silences = self.app.parts.silences
        for silence in silences.all():
            await silences.end(silence.id, "benchmark")

    async def paused(self, what: Callable[[], Awaitable[object] | None]) -> float:
        """Milliseconds of the longest pause while that is done and its echo passes."""
        await asyncio.sleep(0.2)
        self.heartbeat.start()
        done = what()
        if done is not None:
            await done
        await asyncio.sleep(0.3)  # what it set off
        return self.heartbeat.stop()


def _config(directory: Path, refused: int) -> str:
    webhooks = "".join(
        f"""
[[webhooks]]
id = {number + 1}
name = "Webhook {number + 1}"
url = "http://127.0.0.1:{refused}/"
events = ["online", "offline", "utilizing", "unplugged"]
"""
        for number in range(WEBHOOKS)
    )
    return (
        f'[agent]\nstate_dir = "{directory}/state"\n'
        f'[api]\nsocket = "{directory}/s"\nlisten = ""\n'
        "[flap]\ntransitions = 1000000\n" + ONLY_ADB + NO_HOLDS + webhooks
    )


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    quiet()
    phones = PHONES // (5 if quick else 1)
    rounds = 2 if quick else 5
    scene = Scene(directory, free_port(), phones=phones)
    running = asyncio.create_task(scene.app.run())
    ready = asyncio.create_task(scene.app.ready())
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with _asker(scene.socket) as asker:
            found = await _measure(scene, asker, phones, rounds)
    finally:
        scene.app.stop()
        await running
    rows = [("longest pause, ms", "median", "spread")]
    for name, pauses in found.items():
        median, spread = median_spread(pauses, ".1f")
        rows.append((name, f"{median:.1f}", spread))
    print(table(rows))
    idle = max(found.pop("idle"))
    worst = max(found, key=lambda name: max(found[name]))
    longest = max(found[worst])
    return [
        Figure(
            f"longest pause of the loop, {phones} phones, {WEBHOOKS} webhooks down ({worst})",
            f"{longest:.0f} ms",
            f"idle {idle:.1f} ms, ratio {longest / max(idle, 0.1):.0f}",
            f"<= {TARGET_MS:g} ms",
            longest <= TARGET_MS,
        )
    ]


async def _measure(scene: Scene, asker: Asker, phones: int, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}

    async def note(name: str, what: Callable[[], Awaitable[object] | None]) -> None:
        found.setdefault(name, []).append(await scene.paused(what))

    def asking(
        method: str, path: str, body: object = None, *, count: int = 1, wanted: str = "200"
    ) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            statuses = await asker.ask(method, path, body, count=count)
            if count > 0 and statuses != {wanted: count}:
                raise RuntimeError(f"{method} {path}: {statuses}")

        return ask

    await note(f"{phones} phones plugged in one snapshot", scene.plug_all)
    await _until_stored(scene, phones * WEBHOOKS)
    serials = [sighting.serial for sighting in scene.sightings[:WAITERS]]
    for serial in serials:
        await asking(
            "POST", "/v1/leases", {"udid": serial, "holder": "h", "ttl": 3600}, wanted="201"
        )()
    for serial in serials:
        body = {"udid": serial, "holder": "w", "ttl": 3600, "wait": 3600}
        await asking("POST", "/v1/leases", body, count=-1)()
    await _until_stored(scene, (phones + len(serials)) * WEBHOOKS)
    for _ in range(rounds):
        await note("idle", lambda: asyncio.sleep(2))
        await note("GET /v1/devices", asking("GET", "/v1/devices"))
        await note("GET /v1/webhooks", asking("GET", "/v1/webhooks"))
        await note("GET /metrics", asking("GET", "/metrics"))
        await note("GET /v1/status", asking("GET", "/v1/status"))
        await note("GET /v1/deliveries?limit=1000", asking("GET", "/v1/deliveries?limit=1000"))
        await note("GET /v1/ports", asking("GET", "/v1/ports"))
        await note("GET /v1/causes", asking("GET", "/v1/causes"))
        await note("GET /v1/suspects", asking("GET", "/v1/suspects"))
        await note("GET /v1/devices/UDID", asking("GET", f"/v1/devices/{serials[0]}"))
        await note("GET /v1/leases", asking("GET", "/v1/leases"))
        for number in range(SILENCES):
            body = {"tag": f"tag-{number}", "seconds": 3600, "reason": "cables"}
            await asking("POST", "/v1/silences", body, wanted="201")()
        await note("GET /v1/silences", asking("GET", "/v1/silences"))
        body = {"all": True, "seconds": 3600, "reason": "cables"}
        await note("a silence of all", asking("POST", "/v1/silences", body, wanted="201"))
        await note("the end of all silences", scene.end_silences)
        await note("ten of each at once", lambda: _ten_of_each(asking))
        await note("reload of an equal file", asking("POST", "/v1/reload"))
        scene.text += "# \n"
        scene.text = scene.text.replace('name = "Webhook 1"', 'name = "Webhook one"')
        await note("reload that renames a webhook", asking("POST", "/v1/reload"))
        scene.text = scene.text.replace('name = "Webhook one"', 'name = "Webhook 1"')
        await note("reload that renames it back", asking("POST", "/v1/reload"))
        await note("the adb server restarts", scene.restart_adb)
    stored = scene.app.parts.pipeline.commits.counts.callbacks.total()
    for number in range(rounds):
        bridge = Bridge.READY if number % 2 else Bridge.NOT_READY
        await note("all phones change in one snapshot", partial(scene.all_change, bridge))
        stored += phones * WEBHOOKS
        await _until_stored(scene, stored)
    return found


async def _ten_of_each(asking: Callable[..., Callable[[], Awaitable[None]]]) -> None:
    for path in ("/v1/devices", "/v1/webhooks", "/metrics", "/v1/leases"):
        await asking("GET", path, count=10)()


async def _until_stored(scene: Scene, count: int) -> None:
    """Wait until that many callbacks are durable."""
    deadline = time.monotonic() + LIMIT
    while True:
        waiting = scene.app.parts.pipeline.commits.counts.callbacks.total()
        if waiting >= count:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{waiting} of {count} callbacks after {LIMIT} s")
        await asyncio.sleep(0.5)
