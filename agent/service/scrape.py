"""All the numbers of one moment, for `/metrics`: read from what the parts have counted.

No scrape asks the disk anything: the parts count plain numbers as things happen. One scrape is made
at a time, for all who asked before it began, and the loop is let go every SLICE. (Writing on a
thread would be worse: that keeps the interpreter's lock for 5 ms whenever the loop's thread makes a
system call, and each of the loop's attempts makes several.) What the numbers are called stands in
`agent.service.metrics`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import time
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

from agent import __version__
from agent.clock import wall_ms
from agent.errors import AgentError, StoreError
from agent.log import dropped as log_dropped
from agent.track.settings import sources_of

if TYPE_CHECKING:
    from agent.deliver.dispatcher import Dispatcher, WebhookFigures, WebhookStats
    from agent.model import SourceName
    from agent.service.health import Health
    from agent.service.live import Live
    from agent.store import Store, StoreFigures, StoreHealth
    from agent.track.counts import Counts
    from agent.track.pipeline import Pipeline
    from agent.track.views import Census
    from agent.usage.leases import Leases
    from agent.usage.poller import Poller, SourceReport

log = structlog.get_logger(__name__)

STORE_LIMIT = 1.0
"""Seconds that a scrape waits for the store to count what is pending, once after the start."""
WRITE_LIMIT = 5.0
"""Seconds to write the answer. Prometheus itself waits 10 by default."""
SLICE = 0.01
"""Seconds that a scrape takes of the loop in one turn."""


@dataclass(frozen=True, slots=True)
class Process:
    """This process. Not from prometheus-client: it needs /proc/stat, which the unit hides."""

    resident: int
    virtual: int
    """Both bytes."""
    cpu: float
    """Seconds, user and system."""
    open_fds: int
    max_fds: int


@dataclass(frozen=True, slots=True)
class WebhookNumbers:
    """One webhook: by its name, because URLs hold secrets, and its id, because names repeat."""

    id: int
    name: str
    enabled: bool
    stats: WebhookStats
    figures: WebhookFigures
    stored: int
    pending: int | None
    """None: the store could not be asked."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one scrape tells."""

    now_ms: int
    version: str
    python: str
    started_ms: int
    loaded_ms: int
    ready: bool
    reload_ok: bool
    census: Census
    counts: Counts
    sources: dict[SourceName, bool]
    """Whether each that is configured can see."""
    webhooks: list[WebhookNumbers]
    store: StoreFigures
    store_health: StoreHealth
    store_answers: bool
    """Whether it can write, and could be asked what is pending."""
    leases: int
    waiting: int
    usage: list[SourceReport]
    log_dropped: int
    process: Process


class Scraper:
    """Reads all parts, and writes what they say in Prometheus's text format."""

    def __init__(
        self,
        live: Live,
        *,
        pipeline: Pipeline,
        store: Store,
        dispatcher: Dispatcher,
        leases: Leases,
        poller: Poller,
        health: Health,
    ) -> None:
        self._live = live
        self._pipeline = pipeline
        self._store = store
        self._dispatcher = dispatcher
        self._leases = leases
        self._poller = poller
        self._health = health
        self._turn = asyncio.Lock()
        self._asked = self._answered = 0
        """Scrapes; the newest of them that what was written last is for."""
        self._written = (b"", "")

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
        # At the first scrape: an agent that nobody scrapes never pays for it.
        metrics = await asyncio.to_thread(import_module, "agent.service.metrics")
        slices = _Slices()
        numbers = await self._numbers(slices)
        written = []
        for piece in metrics.write(numbers):
            written.append(piece)
            await slices.let_go()
        return b"".join(written), metrics.CONTENT_TYPE

    async def _numbers(self, slices: _Slices) -> Numbers:
        pending = await self._pending()
        webhooks = await self._webhooks(pending, slices)
        down, waiting = self._pipeline.down, self._pipeline.waiting
        store_health = self._store.health
        return Numbers(
            now_ms=wall_ms(),
            version=__version__,
            python=platform.python_version(),
            started_ms=self._health.started_ms,
            loaded_ms=self._health.loaded_ms,
            ready=self._health.ready,
            reload_ok=self._health.reloaded.ok,
            census=self._pipeline.views.census(),
            counts=deepcopy(self._pipeline.commits.counts),
            sources={
                name: name not in down and name not in waiting
                for name in sources_of(self._live.config)
            },
            webhooks=webhooks,
            store=self._store.figures,
            store_health=store_health,
            store_answers=store_health.ok and pending is not None,
            leases=len(self._leases.all()),
            waiting=self._leases.waiting,
            usage=self._poller.report(),
            log_dropped=log_dropped(),
            process=_process(),
        )

    async def _pending(self) -> dict[int, int] | None:
        try:
            async with asyncio.timeout(STORE_LIMIT):
                return await self._store.pending_sizes()
        except (TimeoutError, StoreError) as error:
            log.debug("metrics.store", error=str(error) or f"no answer in {STORE_LIMIT:g} s")
            return None

    async def _webhooks(
        self, pending: dict[int, int] | None, slices: _Slices
    ) -> list[WebhookNumbers]:
        rows = []
        for id_, webhook in tuple(self._live.webhooks.items()):
            stats, figures = self._dispatcher.figures(id_)
            rows.append(
                WebhookNumbers(
                    id_,
                    webhook.name,
                    webhook.enabled,
                    stats,
                    figures,
                    self._pipeline.commits.counts.callbacks[id_],
                    None if pending is None else pending.get(id_, 0),
                )
            )
            await slices.let_go()  # thousands of phones may wait for each
        await slices.let_go()
        return rows


class _Slices:
    """Lets others have the loop now and then."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE

    async def let_go(self) -> None:
        """Go on in a later turn, if this one was long enough."""
        if time.monotonic() >= self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + SLICE


def _process() -> Process:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - never blocks
        virtual, resident = (int(pages) for pages in statm.read().split()[:2])
    page = resource.getpagesize()
    return Process(
        resident=resident * page,
        virtual=virtual * page,
        cpu=time.process_time(),
        open_fds=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - its own descriptor left out
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
