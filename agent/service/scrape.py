"""A scrape of `/metrics`: reads what the parts have counted, and has it written.

No scrape asks the disk anything: the parts count plain numbers as things happen. One scrape is made
at a time, for all who asked before it began, and the loop is let go every 10 ms. (Writing on a
thread would be worse: that keeps the interpreter's lock for 5 ms whenever the loop's thread makes a
system call, and each of the loop's attempts makes several.)
"""

from __future__ import annotations

import asyncio
import os
import resource
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

from agent.errors import AgentError, StoreError
from agent.service.slices import Slices

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.deliver.dispatcher import Dispatcher
    from agent.model import Battery
    from agent.service.attempts import Attempts
    from agent.service.health import Health
    from agent.service.hosts import Hosts
    from agent.service.live import Live
    from agent.service.metrics import Hook, Process, Scene
    from agent.service.sessions import Sessions
    from agent.store import Store
    from agent.track.silences import Silences
    from agent.track.tracker import Tracker
    from agent.usage.leases import Leases
    from agent.usage.poller import Poller

log = structlog.get_logger(__name__)

STORE_LIMIT = 1.0
"""Seconds that a scrape waits for the store to count what is pending, once after the start."""
WRITE_LIMIT = 5.0
"""Seconds to write the answer. Prometheus itself waits 10 by default."""


@dataclass(kw_only=True, slots=True)
class Scraper:
    """Reads all parts, and writes what they say in Prometheus's text format."""

    live: Live
    pipeline: Tracker
    store: Store
    dispatcher: Dispatcher
    leases: Leases
    silences: Silences
    poller: Poller
    health: Health
    hosts: Hosts
    sessions: Sessions
    attempts: Attempts
    clock: Clock
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _asked: int = field(default=0, init=False)
    """Scrapes."""
    _answered: int = field(default=0, init=False)
    """The newest of them that what was written last is for."""
    _written: tuple[bytes, str] = field(default=(b"", ""), init=False)

    async def scrape(self) -> tuple[bytes, str]:
        """The text and its Content-Type.

        Raises:
            AgentError: the machine is too busy to write it in time.
        """
        self._asked += 1
        mine = self._asked
        try:
            async with asyncio.timeout(WRITE_LIMIT), self._turn:
                if self._answered < mine:
                    newest = self._asked
                    self._written = await self._write()
                    self._answered = newest
                return self._written
        except TimeoutError:
            raise AgentError(
                f"the metrics could not be written within {WRITE_LIMIT:g} s: the host is too busy"
            ) from None

    async def _write(self) -> tuple[bytes, str]:
        # At the first scrape, and off the loop: an agent that nobody scrapes never pays for it.
        for name in ("agent.service.exposition", "agent.service.metrics"):
            await asyncio.to_thread(import_module, name)
        from agent.service import exposition  # noqa: PLC0415 - loaded by now
        from agent.service.metrics import METRICS  # noqa: PLC0415 - loaded by now

        slices = Slices()
        scene = await self._scene(slices)
        written = []
        for metric in METRICS:
            written.append(exposition.write(metric, metric.read(scene)))
            await slices.let_go()
        return b"".join(written), exposition.CONTENT_TYPE

    async def _scene(self, slices: Slices) -> Scene:
        from agent.service.metrics import Scene  # noqa: PLC0415 - loaded by `_write`

        pending = await self._pending()
        hooks = await self._hooks(pending, slices)
        return Scene(
            live=self.live,
            pipeline=self.pipeline,
            store=self.store,
            leases=self.leases,
            silences=self.silences,
            health=self.health,
            fleet=self.health.fleet,
            hosts=self.hosts,
            sessions=self.sessions,
            attempts=self.attempts,
            now_ms=self.clock.wall_ms(),
            census=self.pipeline.views.census(),
            batteries=await self._batteries(slices),
            hooks=hooks,
            store_answers=pending is not None,
            usage=self.poller.report(),
            process=_process(),
        )

    async def _batteries(self, slices: Slices) -> dict[str, Battery]:
        found = {}
        for udid in self.pipeline.roster.udids():
            if (battery := self.pipeline.views.battery(udid)) is not None:
                found[udid] = battery
            await slices.let_go()
        return found

    async def _pending(self) -> dict[int, int] | None:
        try:
            async with asyncio.timeout(STORE_LIMIT):
                return await self.store.backlog.sizes()
        except (TimeoutError, StoreError) as error:
            log.debug("metrics.store", error=str(error) or f"no answer in {STORE_LIMIT:g} s")
            return None

    async def _hooks(self, pending: dict[int, int] | None, slices: Slices) -> list[Hook]:
        from agent.service.metrics import Hook  # noqa: PLC0415 - loaded by `_write`

        hooks = []
        for id_, webhook in tuple(self.live.webhooks.items()):
            hooks.append(
                Hook(
                    (webhook.name, str(id_)),
                    id_,
                    webhook.enabled,
                    *self.dispatcher.figures(id_),
                    None if pending is None else pending.get(id_, 0),
                )
            )
            await slices.let_go()  # thousands of phones may wait for each
        await slices.let_go()
        return hooks


def _process() -> Process:
    from agent.service.metrics import Process  # noqa: PLC0415 - loaded by `_write`

    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - never blocks
        virtual, resident = (int(pages) for pages in statm.read().split()[:2])
    page = resource.getpagesize()
    return Process(
        resident=resident * page,
        virtual=virtual * page,
        open_fds=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - its own descriptor left out
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
