"""A scrape of `/metrics`: reads what the parts have counted, and has it written.

No scrape asks the disk anything: the parts count plain numbers as things happen, and the loop is
let go between two metrics and two webhooks.
"""

from __future__ import annotations

import asyncio
import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.clock import wall_ms
from agent.errors import AgentError, StoreError
from agent.service.metrics import METRICS, Hook, Process, Scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.deliver.dispatcher import Dispatcher
    from agent.service.health import Health
    from agent.service.live import Live
    from agent.service.metrics import Metric, Reading
    from agent.store import Store
    from agent.track.pipeline import Pipeline
    from agent.usage.leases import Leases
    from agent.usage.poller import Poller

log = structlog.get_logger(__name__)

STORE_LIMIT = 1.0
"""Seconds that a scrape waits for the store to count what is pending, once after the start."""
WRITE_LIMIT = 5.0
"""Seconds to write the answer. Prometheus itself waits 10 by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scraper:
    """Reads all parts, and writes what they say in Prometheus's text format."""

    live: Live
    pipeline: Pipeline
    store: Store
    dispatcher: Dispatcher
    leases: Leases
    poller: Poller
    health: Health

    async def scrape(self) -> tuple[bytes, str]:
        """The text and its Content-Type.

        Raises:
            AgentError: the machine is too busy to write it in time.
        """
        scene = await self._scene()
        read = []
        for metric in METRICS:
            read.append((metric, [*metric.read(scene)]))
            await asyncio.sleep(0)  # thousands of phones may wait for each
        try:
            async with asyncio.timeout(WRITE_LIMIT):
                return await asyncio.to_thread(_write, read)
        except TimeoutError:
            raise AgentError(
                f"the metrics could not be written within {WRITE_LIMIT:g} s: the host is too busy"
            ) from None

    async def _scene(self) -> Scene:
        pending = await self._pending()
        hooks = await self._hooks(pending)
        return Scene(
            live=self.live,
            pipeline=self.pipeline,
            store=self.store,
            leases=self.leases,
            health=self.health,
            now_ms=wall_ms(),
            census=self.pipeline.views.census(),
            hooks=hooks,
            store_answers=pending is not None,
            usage=self.poller.report(),
            process=_process(),
        )

    async def _pending(self) -> dict[int, int] | None:
        try:
            async with asyncio.timeout(STORE_LIMIT):
                return await self.store.backlog.sizes()
        except (TimeoutError, StoreError) as error:
            log.debug("metrics.store", error=str(error) or f"no answer in {STORE_LIMIT:g} s")
            return None

    async def _hooks(self, pending: dict[int, int] | None) -> list[Hook]:
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
            await asyncio.sleep(0)  # likewise
        return hooks


def _write(read: Sequence[tuple[Metric, Sequence[Reading]]]) -> tuple[bytes, str]:
    # On a thread and at the first scrape: an agent that nobody scrapes never pays for it.
    from agent.service import exposition  # noqa: PLC0415 - see above

    return exposition.write(read), exposition.CONTENT_TYPE


def _process() -> Process:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - never blocks
        virtual, resident = (int(pages) for pages in statm.read().split()[:2])
    page = resource.getpagesize()
    return Process(
        resident=resident * page,
        virtual=virtual * page,
        open_fds=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - its own descriptor left out
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
