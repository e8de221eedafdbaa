"""The processes of the proof: three servers, three agents, two hubs, one receiver.

rack-3 is in a network namespace of its own, whose wire can be cut: so all of it runs in one
(`tests/fleet/proof/proof_inner.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats

from agent.fleet import subjects
from agent.model import DeviceState
from tests.fakes.ports import free_port
from tests.fleet.proof.oracle import Told
from tests.fleet.proof.receiver import ReceiverProcess
from tests.fleet.proof.schedule import HOST_GRACE, MOVE_HOLD, SOURCE_GRACE
from tests.kit.broker import Cluster
from tests.kit.fleet import hub, rack
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kit.agent import AgentProcess
    from tests.kit.rack import Rack

OURS: Final = "10.77.0.1"
THEIRS: Final = "10.77.0.2"
EVERYTHING: Final = frozenset(DeviceState)
WEBHOOKS: Final = {
    1: EVERYTHING,
    2: frozenset({DeviceState.OFFLINE, DeviceState.UNPLUGGED}),
}
_WEBHOOK = """\
[[webhooks]]
id = {id}
name = "proof {id}"
url = "{url}"
events = [{events}]
payload = "extended"
"""
_UNLIMITED = "[delivery]\ndrain_rate = 1000000.0\n"


class Wire:
    """To a network namespace that is joined to ours by one wire. Needs rights over ours."""

    def __init__(self) -> None:
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def wrapper(self) -> tuple[str, ...]:
        """Before a command that is to run behind it."""
        assert self._keeper is not None
        return ("nsenter", "--target", str(self._keeper.pid), "--net")

    async def lay(self) -> None:
        """Make both."""
        self._keeper = subprocess.Popen(  # noqa: ASYNC220 - ended with `close`, in no loop
            ["unshare", "--net", "sleep", "infinity"]
        )
        ours = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{self._keeper.pid}/ns/net")
        async with asyncio.timeout(LIMIT):
            while theirs.readlink() == ours:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        pid = str(self._keeper.pid)
        _ip("link", "add", "da0", "type", "veth", "peer", "name", "da1", "netns", pid)
        _ip("address", "add", f"{OURS}/24", "dev", "da0")
        _ip("link", "set", "da0", "up")
        _ip("address", "add", f"{THEIRS}/24", "dev", "da1", before=self.wrapper)
        _ip("link", "set", "da1", "up", before=self.wrapper)
        _ip("link", "set", "lo", "up", before=self.wrapper)

    def cut(self) -> None:
        """Nothing goes through; neither end is told."""
        _ip("link", "set", "da0", "down")

    def mend(self) -> None:
        """It goes through."""
        _ip("link", "set", "da0", "up")

    def close(self) -> None:
        """End the namespace."""
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()


def _ip(*words: str, before: tuple[str, ...] = ()) -> None:
    subprocess.run([*before, "ip", *words], check=True, timeout=LIMIT)


class Field:
    """All of it; use inside `running`."""

    def __init__(self, place: Path, server: Path) -> None:
        self.place = place
        self.wire = Wire()
        self.cluster = Cluster(place / "n", server)
        for each in self.cluster.brokers.values():
            each.more = f'listen: "0.0.0.0:{each.port}"'
        self.receiver = ReceiverProcess(free_port(), place / "received")
        self.racks: dict[str, Rack] = {}
        self.hubs: dict[str, AgentProcess] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While all of it runs; whatever still does then is killed."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.wire.close)
            await self.wire.lay()
            stack.callback(self.cluster.close)
            await self.cluster.start()
            stack.push_async_callback(self.receiver.kill)
            await self.receiver.start()
            self._make()
            for each in self.all():
                await stack.enter_async_context(each)
                await each.start()
            yield

    def all(self) -> list[AgentProcess]:
        """Hubs, then agents."""
        return [*self.hubs.values(), *self.racks.values()]

    def _make(self) -> None:
        urls = self.cluster.servers
        from_there = [url.replace("127.0.0.1", OURS) for url in urls]
        webhooks = "".join(
            _WEBHOOK.format(
                id=number,
                url=self.receiver.url,
                events=", ".join(f'"{event}"' for event in sorted(events)),
            )
            for number, events in WEBHOOKS.items()
        )
        for host in ("rack-1", "rack-2"):
            self.racks[host] = rack(self.place / host, host, urls)
        self.racks["rack-3"] = rack(self.place / "rack-3", "rack-3", from_there, self.wire.wrapper)
        for name in ("hub-1", "hub-2"):
            self.hubs[name] = hub(
                self.place / name,
                urls,
                _UNLIMITED + webhooks,
                host=name,
                host_grace=HOST_GRACE,
                move_hold=MOVE_HOLD,
                source_grace=SOURCE_GRACE,
            )

    async def active(self) -> str:
        """The name of the hub that leads, as the broker has it."""
        async with asyncio.timeout(3 * LIMIT):
            while True:
                for name, each in self.hubs.items():
                    with contextlib.suppress(OSError, TimeoutError):
                        if await _leads(each):
                            return name
                await asyncio.sleep(0.2)

    async def delete_stream(self) -> None:
        """That of the transitions, with all that is in it."""
        live = [each.url for each in self.cluster.brokers.values() if each.running]
        connection = await nats.connect(servers=live, allow_reconnect=False)
        try:
            await connection.jetstream().delete_stream(subjects.TRANSITIONS)
        finally:
            await connection.close()

    def logs(self) -> list[Told]:
        """Of all agents, which must have ended."""
        found = []
        for host, each in self.racks.items():
            path = each.directory / "state" / "state.db"
            with contextlib.closing(sqlite3.connect(path)) as store:
                rows = store.execute("SELECT id, udid, state, at_ms FROM transitions ORDER BY id")
                found += [
                    Told(host, number, udid, DeviceState(state), at_ms)
                    for number, udid, state, at_ms in rows
                ]
        return found

    def keep(self, place: Path) -> None:
        """Copy what each has stored and said."""
        for each in self.all():
            (each.directory / "log").write_text("\n".join(each.log))
        shutil.copytree(
            self.place, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("s", "notify")
        )

    def pause(self, process: AgentProcess) -> None:
        """SIGSTOP."""
        process.signal(signal.SIGSTOP)

    def go_on(self, process: AgentProcess) -> None:
        """SIGCONT."""
        process.signal(signal.SIGCONT)


async def _leads(process: AgentProcess) -> bool:
    async with asyncio.timeout(2):
        _, answer = await process.api("GET", "/v1/hosts")
    found: dict[str, Any] = answer["hub"]
    return bool(found["active"] and found["connected"])
