"""Real NATS servers on loopback, one or three: started, killed, stopped, wiped and begun again.

`BUNDLED` comes from PyPI with the other tools of the tests. `packaged()` is that of the system,
which is older: CI takes it out of Debian's package, for installing it would start a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from tests.fakes.ports import free_ports
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]
BUNDLED: Final = Path(sys.executable).with_name("nats-server")
_PACKAGED: Final = ROOT / "build/nats-server/usr/sbin/nats-server"


def packaged() -> Path:
    """The system's nats-server. Skips where there is none; fails in CI."""
    for each in (_PACKAGED, shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")):
        if each is not None and Path(each).exists():
            return Path(each)
    if os.environ.get("CI"):
        pytest.fail("CI must have Debian's nats-server")
    pytest.skip("nats-server of the system is not there (.ci/run says how to get it)")


class Broker:
    """One server. Port and store stay the same over its lives.

    Args:
        place: a directory of its own.
        binary: which nats-server.
        more: further text of its configuration (TLS, users, …).
        name: its name.
        cluster: text of its `cluster` section.
        size: how many servers it is one of.
        jetstream: whether it keeps anything.
        config: a whole configuration instead of what all that comes to. In it `{port}`, `{monitor}`
            and `{store}` are replaced.
    """

    def __init__(
        self,
        place: Path,
        binary: Path = BUNDLED,
        *,
        more: str = "",
        name: str = "n1",
        cluster: str = "",
        size: int = 1,
        jetstream: bool = True,
        config: str = "",
    ) -> None:
        self.name = name
        self.binary = binary
        self.place = place
        self.store = place / "store"
        self.port, self.monitor = free_ports(2)
        self.more = more
        self._cluster = cluster
        self._size = size
        self._jetstream = jetstream
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self.place.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """For `servers`."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started, and neither ended nor was killed."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said in all its lives, but for answers to whether it is well."""
        path = self.place / "log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(line for line in text.splitlines() if "Healthcheck failed" not in line)

    def config(self) -> str:
        """Its configuration; each key on its own line, as 2.9 wants it."""
        if self._config:
            text = self._config
            for key, value in (
                ("{port}", self.port),
                ("{monitor}", self.monitor),
                ("{store}", self.store),
            ):
                text = text.replace(key, str(value))
            return text
        lines = [
            f"server_name: {self.name}",
            f'listen: "127.0.0.1:{self.port}"',
            f'http: "127.0.0.1:{self.monitor}"',
            # As config/nats.conf has it.
            'ping_interval: "5s"',
            "ping_max: 2",
        ]
        if self._jetstream:
            lines += [
                "jetstream {",
                f'  store_dir: "{self.store}"',
                "  max_memory_store: 64MB",
                "  max_file_store: 16GB",
                "}",
            ]
        return "\n".join([*lines, self._cluster, self.more, ""])

    def launch(self) -> None:
        """Start it, without waiting until it is ready."""
        assert not self.running, "it runs already"
        path = self.place / "server.conf"
        path.write_text(self.config())
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, "-c", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def start(self) -> Self:
        """Start it; returns once it serves."""
        self.launch()
        await self.ready()
        return self

    async def ready(self, limit: float | None = None) -> None:
        """Until it serves; in a cluster, until that has a leader and this one has all of it."""
        # Three elect and catch up by timers of their own, of up to 9 s each.
        limit = limit or (3 * LIMIT if self._size > 1 else LIMIT)
        try:
            async with asyncio.timeout(limit):
                while not await self._healthy():
                    assert self.running, f"it ended:\n{self.log[-4000:]}"
                    await asyncio.sleep(0.05 if self._size > 1 else 0.01)
        except TimeoutError:
            raise AssertionError(f"not ready in {limit} s:\n{self.log[-4000:]}") from None

    async def _healthy(self) -> bool:
        """Whether clients are let in, and what is kept is at hand."""
        try:
            if (await self.ask("/healthz")).get("status") != "ok":
                return False
            if self._size > 1 and self._jetstream:
                meta = (await self.ask("/jsz")).get("meta_cluster") or {}
                if not meta.get("leader") or meta.get("cluster_size", 0) < self._size:
                    return False
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                return (await reader.readline()).startswith(b"INFO")
            finally:
                writer.close()
        except (OSError, ValueError, EOFError):
            return False

    async def ask(self, path: str) -> dict[str, Any]:
        """What its monitoring says."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.monitor)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def end(self) -> None:
        """SIGTERM: it ends in order."""
        self._end(signal.SIGTERM)

    def stop(self) -> None:
        """SIGSTOP: connected, and silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove its store; it must not run."""
        assert not self.running
        shutil.rmtree(self.store, ignore_errors=True)

    async def restart(self, *, wipe: bool = False) -> None:
        """Killed (where it runs) and begun again; returns once it serves."""
        self.kill()
        if wipe:
            self.wipe()
        await self.start()

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            if number != signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)
        self._process.wait(LIMIT)
        self._process = None

    close = kill


class Cluster:
    """Three servers, or as many as are named; each keeps a copy of streams with three replicas."""

    def __init__(
        self,
        place: Path,
        binary: Path = BUNDLED,
        *,
        more: str = "",
        names: Sequence[str] = ("n1", "n2", "n3"),
    ) -> None:
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        routes = [f'    "nats-route://127.0.0.1:{port}"' for port in ports.values()]
        self.brokers: Mapping[str, Broker] = {
            name: Broker(
                place / name,
                binary,
                more=more,
                name=name,
                size=len(names),
                cluster="\n".join(
                    [
                        "cluster {",
                        "  name: da",
                        f'  listen: "127.0.0.1:{port}"',
                        "  routes: [",
                        *routes,
                        "  ]",
                        "}",
                    ]
                ),
            )
            for name, port in ports.items()
        }

    @property
    def servers(self) -> tuple[str, ...]:
        """For `servers`."""
        return tuple(each.url for each in self.brokers.values())

    def __getitem__(self, name: str) -> Broker:
        return self.brokers[name]

    async def start(self) -> Self:
        """Start all; returns once each is ready."""
        for each in self.brokers.values():
            each.launch()
        await self.ready()
        return self

    async def ready(self, limit: float = 2 * LIMIT) -> None:
        """Until each that runs is ready."""
        for each in self.brokers.values():
            if each.running:
                await each.ready(limit)

    async def leader(self, stream: str) -> Broker:
        """Which server leads a stream at this moment; one that runs is asked."""
        async with asyncio.timeout(LIMIT):
            while True:
                for each in self.brokers.values():
                    with contextlib.suppress(OSError, ValueError, EOFError):
                        async with asyncio.timeout(1):
                            said = _cluster_of(await each.ask("/jsz?streams=true"), stream)
                        found = str(said.get("leader", ""))
                        if found in self.brokers:
                            return self.brokers[found]
                await asyncio.sleep(0.02)

    async def copied(self, stream: str) -> None:
        """Until its leader says that every copy is up to date: before, one that dies may be all."""
        async with asyncio.timeout(2 * LIMIT):
            while True:
                leader = await self.leader(stream)
                with contextlib.suppress(OSError, ValueError, EOFError):
                    said = _cluster_of(await leader.ask("/jsz?streams=true"), stream)
                    copies = said.get("replicas") or ()
                    if copies and all(each.get("current") for each in copies):
                        return
                await asyncio.sleep(0.02)

    def close(self) -> None:
        """Kill all."""
        for each in self.brokers.values():
            each.close()


def _cluster_of(said: Mapping[str, Any], stream: str) -> Mapping[str, Any]:
    for account in said.get("account_details") or ():
        for each in account.get("stream_detail") or ():
            if each["name"] == stream:
                return each.get("cluster") or {}
    return {}
