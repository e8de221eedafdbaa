"""The agent beside what people use in its place: scripts over the same adb server.

`benchmarks/peers/` has them as they are written: a tracker on npm's `@devicefarmer/adbkit`, a loop
of `adb devices` and curl each second, a loop on `adbutils.track_devices()` with `requests`. All of
them, and the agent, see the same real adb server with the same phones, one after the other, and
post to the same receiver. Needs Node.js 18 or newer, npm and curl.

- *latency*: phones lose and get back their trust, one a quarter of a second; from when the adb
  server told it (we read its tracker, too) to when the receiver has it. The agent runs without its
  holds, which the scripts have not; what they are for shows in the false events.
- *burst*: 250 phones at once, until the last of them has arrived.
- *idle*: CPU (children included; and what the adb server spends meanwhile) and RSS with 1,000
  phones. The agent asks each phone once a minute whether it lives; without that, too.
- *restart*: the adb server is killed and comes back, with the phones: none of them was unplugged,
  so each event is false. The agent with its default holds.
- *SIGKILL*: 50 phones leave, and the process is killed when the first of them has been told; it is
  started again at once. Lost is what has not arrived after a minute.
- *outage*: nobody listens at the receiver for 60 s, in which 50 phones leave.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.rig import Board, Process, Watch, cpu_of, memory_of
from benchmarks.processes import LIMIT, Agent, Helper, helper
from benchmarks.report import Figure, cpu_seconds, median_spread, percentile
from benchmarks.sample import NO_HOLDS, NO_PROBE, behind_adb, webhook_toml
from benchmarks.start import command
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone

HERE = Path(__file__).parent
VENV = HERE / ".venv"
"""With all that adbutils asks for: ours leaves out what the agent never uses of that."""
PHONES = 250
FEW = 50
"""Phones of the tests of what is lost, and of a restart."""
IDLE = 1_000
CHANGES = 120
EVERY = 0.25
"""Seconds between two changes of the latency's phones."""
OUTAGE = 60.0
WAIT = 60.0
"""Seconds in which a change is to arrive, or it is lost."""
SETTLE = 20.0
"""Seconds after the last phone was told until what it costs is measured."""
ADB = next(iter(BINARIES.values()))


class Peer(NamedTuple):
    """What is measured: how it is started for an adb server and a receiver."""

    name: str
    ours: bool
    script: tuple[str, ...] = ()
    """`{adb}`, `{port}` and `{url}` stand for the binary, the adb server's port, the receiver."""


def peers() -> tuple[Peer, ...]:
    """The agent first."""
    return (
        Peer("device-agent", ours=True),
        Peer("adbkit tracker", False, ("node", str(HERE / "tracker.cjs"), "{port}", "{url}")),
        Peer("adb + curl loop", False, ("bash", str(HERE / "poll.sh"), "{adb}", "{url}")),
        Peer(
            "adbutils + requests",
            False,
            (str(VENV / "bin/python"), str(HERE / "track.py"), "{port}", "{url}"),
        ),
    )


class Run:
    """One peer, started and killed any number of times, on the same storage."""

    def __init__(self, peer: Peer, directory: Path, adb_port: int, url: str, settings: str) -> None:
        """`settings`: TOML of the agent's, behind its [android]."""
        directory.mkdir()
        self._runs: Agent | Process
        if peer.ours:
            toml = f"{behind_adb(adb_port)}{settings}{webhook_toml(url)}"
            self._runs = Agent(directory, toml, command())
        else:
            names = {"adb": str(ADB), "port": str(adb_port), "url": url}
            self._runs = Process(
                [word.format(**names) for word in peer.script],
                directory / "log",
                # adb takes 127.0.0.1 for another host: else its client would start a server.
                ADB_SERVER_SOCKET=f"tcp:127.0.0.1:{adb_port}",
            )

    @property
    def pid(self) -> int:
        """Of its main process."""
        return self._runs.pid

    async def start(self) -> None:
        """Start it."""
        if isinstance(self._runs, Agent):
            await self._runs.__aenter__()
        else:
            await self._runs.start()

    async def kill(self) -> None:
        """SIGKILL."""
        await self._runs.kill()


class Rig:
    """The phones, their adb server, and the receiver."""

    def __init__(self, directory: Path, server: RealAdbServer) -> None:
        self._directory = directory
        self._runs = 0
        self.server = server
        self.watch = Watch(server)
        self.board = Board()
        self.phones: list[FakePhone] = []

    async def fill(self, count: int) -> None:
        """That many phones, and no others."""
        for phone in self.phones:
            await phone.close()
        await self.watch.until("unplugged", list(self.watch.states))
        self.phones = [FakePhone(device_name=f"Phone {number}") for number in range(count)]
        await self.plug()

    async def plug(self) -> None:
        """All of them are there."""
        for phone in self.phones:
            await self.server.register(phone)
        await self.watch.until("device", self.serials)

    @property
    def serials(self) -> list[str]:
        """Of the phones."""
        return [phone.serial for phone in self.phones]

    async def started(self, peer: Peer, settings: str) -> Run:
        """One that runs, and has told of all phones."""
        self.board.clear()
        self._runs += 1
        directory = self._directory / str(self._runs)
        run = Run(peer, directory, self.server.port, self.board.url, settings)
        await run.start()
        missing = await self.board.until("device", self.serials, LIMIT)
        if missing:
            await run.kill()
            raise RuntimeError(f"{peer.name} does not tell of {len(missing)} phones: {directory}")
        await asyncio.sleep(1)
        self.board.clear()
        return run


async def _latency(rig: Rig, changes: int) -> list[float]:
    """Milliseconds from adb's word to the receiver, of each change."""
    took = []
    for number in range(changes):
        phone = rig.phones[number // 2 % len(rig.phones)]
        state = "device" if number % 2 else "offline"
        began = time.perf_counter()
        (phone.accept if number % 2 else phone.revoke)()
        await rig.board.until(state, [phone.serial], LIMIT)
        arrival = rig.board.of(phone.serial, state)
        assert arrival is not None
        since = rig.watch.since[phone.serial]
        took.append((arrival.at - max(since, began)) * 1000)
        rig.board.clear()
        # Not in step with the loop that looks each second.
        await asyncio.sleep(EVERY + (number * 0.618 % 1) * EVERY)
    return took


async def _burst(rig: Rig) -> float:
    """Milliseconds from adb's last word to the last arrival."""
    for phone in rig.phones:
        phone.revoke()
    missing = await rig.board.until("offline", rig.serials, LIMIT)
    if missing:
        raise RuntimeError(f"{len(missing)} changes of a burst were not told")
    last_told = max(rig.watch.since[serial] for serial in rig.serials)
    last_came = max(each.at for each in rig.board.arrived)
    for phone in rig.phones:
        phone.accept()
    await rig.watch.until("device", rig.serials)
    await rig.board.until("device", rig.serials, LIMIT)
    await asyncio.sleep(2)
    return (last_came - last_told) * 1000


async def _restart(rig: Rig, seconds: float) -> int:
    """How many events were told of an adb server that was away for a moment."""
    await rig.server.kill()
    await rig.server.start()
    await rig.plug()
    await asyncio.sleep(seconds)
    return len(rig.board.arrived)


async def _sigkill(rig: Rig, run: Run) -> int:
    """How many of the phones that left were never told."""
    for phone in rig.phones:
        phone.hang_up()
    await rig.board.until_told_of(1)
    await run.kill()
    await rig.watch.until("unplugged", rig.serials)
    await run.start()
    return len(await rig.board.until("unplugged", rig.serials, WAIT))


async def _outage(rig: Rig, seconds: float) -> int:
    """Likewise, of those that left while the receiver was away."""
    await rig.board.close()
    for phone in rig.phones:
        phone.hang_up()
    await asyncio.sleep(seconds)
    await rig.board.open()
    return len(await rig.board.until("unplugged", rig.serials, WAIT))


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    _install()
    figures: list[Figure] = []
    (directory / "home").mkdir()
    async with RealAdbServer(ADB, directory / "home") as server:
        rig = Rig(directory, server)
        await rig.board.open()
        async with rig.watch.watched():
            await rig.fill(PHONES)
            for peer in peers():
                figures += await _speed(rig, peer, 40 if quick else CHANGES, 1 if quick else 3)
            await rig.fill(FEW)
            for peer in peers():
                figures += await _truth(rig, peer, 15 if quick else OUTAGE)
            await rig.fill(0)
        await rig.board.close()
    async with helper("benchmarks.phones", str(IDLE)) as adb:
        for peer in peers():
            figures += await _idle(directory, peer, adb, 20 if quick else 60)
    return figures


async def _speed(rig: Rig, peer: Peer, changes: int, bursts: int) -> list[Figure]:
    one = await rig.started(peer, NO_HOLDS)
    try:
        took = await _latency(rig, changes)
        figures = [
            Figure(
                f"{peer.name}: adb's word -> 2xx, p50; p99",
                f"{percentile(took, 0.5):.1f}; {percentile(took, 0.99):.1f} ms",
                f"max {max(took):.1f} of {len(took)}",
            )
        ]
        found = []
        for _ in range(bursts):
            rig.board.clear()
            found.append(await _burst(rig))
        median, spread = median_spread(found)
        what = f"{peer.name}: {PHONES} at once, until the last"
        return [*figures, Figure(what, f"{median:.0f} ms", spread)]
    finally:
        await one.kill()


async def _truth(rig: Rig, peer: Peer, outage: float) -> list[Figure]:
    one = await rig.started(peer, "")
    try:
        false = await _restart(rig, WAIT / 2)
    finally:
        await one.kill()
    one = await rig.started(peer, "")
    try:
        killed = await _sigkill(rig, one)
    finally:
        await one.kill()
    await rig.plug()
    one = await rig.started(peer, "")
    try:
        away = await _outage(rig, outage)
    finally:
        await one.kill()
    await rig.plug()
    return [
        Figure(f"{peer.name}: false events, adb restarts, {FEW} phones", str(false)),
        Figure(f"{peer.name}: lost of {FEW}, SIGKILL", str(killed)),
        Figure(f"{peer.name}: lost of {FEW}, receiver away for {outage:.0f} s", str(away)),
    ]


async def _idle(directory: Path, peer: Peer, server: Helper, seconds: float) -> list[Figure]:
    figures = []
    board = Board()
    await board.open()
    forms = (("", ""), (", no probe", NO_PROBE)) if peer.ours else (("", ""),)
    for name, settings in forms:
        place = directory / f"idle {peer.name}{name}".replace(" ", "-")
        one = Run(peer, place, server.port, board.url, settings)
        await one.start()
        try:
            await board.until_told_of(IDLE)
            await asyncio.sleep(SETTLE)
            board.clear()
            adb_pid = _server_of(server)
            before, began = (cpu_of(one.pid), cpu_seconds(adb_pid)), time.monotonic()
            most = 0.0
            while time.monotonic() < began + seconds:
                most = max(most, memory_of(one.pid))
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
            own = (cpu_of(one.pid) - before[0]) / took
            adb = (cpu_seconds(adb_pid) - before[1]) / took
        finally:
            await one.kill()
        what = f"{peer.name}: {IDLE} idle phones{name}: CPU; of the adb server; RSS at most"
        figures.append(Figure(what, f"{own:.2%}; {adb:.2%} of a core; {most:.0f} MB"))
    await board.close()
    return figures


def _server_of(server: Helper) -> int:
    """The adb server, which that process has started."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return int(children[0])


def _install() -> None:
    """What the scripts on adbkit and adbutils need."""
    for tool in ("node", "npm", "curl"):
        if shutil.which(tool) is None:
            raise RuntimeError(
                f"the benchmark 'peers' needs {tool}: apt-get install nodejs npm curl"
            )
    if not (HERE / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--prefix", str(HERE), "--no-audit", "--no-fund"], check=True)
    ready = VENV / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        needs = ("-r", str(HERE / "requirements.txt"))
        subprocess.run([VENV / "bin/pip", "install", "--quiet", *needs], check=True)
        ready.touch()
