"""Keeps the configured sources running: starts them, restarts what failed or changed, ends them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.model import Down, SourceName
from agent.sources.base import SeesUsb, backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.model import BatteryRead, Emit, Observation
    from agent.sources.base import DeviceSource
    from agent.sources.usb_reading import Reading

log = structlog.get_logger(__name__)

END_LIMIT = 1.0
"""Seconds that sources get to end."""
HEALTHY = 60.0
"""Seconds that a source has to run to be forgiven its earlier failures."""
RECHECK_LIMIT = 2.0
"""Seconds for a source to read the whole truth anew; what it has not told by then comes late."""


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How to make a source, and the settings on which it hangs: equal ones need no restart."""

    settings: object
    make: Callable[[], DeviceSource]


SourcePlans = dict[SourceName, SourcePlan]
Dropped = dict[SourceName, "asyncio.Task[None]"]
"""Sources that were told to end."""


class Supervisor:
    """Runs sources, each in a task of its own; `emit` takes what they see.

    A source that ran for `healthy` seconds before it failed is started again at once (a second
    later), whatever was before.

    All methods run on the event loop's thread.
    """

    def __init__(self, emit: Emit, healthy: float = HEALTHY) -> None:
        self._emit = emit
        self._healthy = healthy
        self._running: dict[SourceName, tuple[SourcePlan, asyncio.Task[None]]] = {}
        self._sources: dict[SourceName, DeviceSource] = {}

    def start(self, plans: SourcePlans) -> None:
        """Start all of them."""
        for name, plan in plans.items():
            self._start(name, plan)

    def drop(self, plans: SourcePlans) -> Dropped:
        """End what these plans change or leave out: nothing of it is heard from now on.

        For `swap`, which starts them anew; between the two the caller lets the new settings count.
        """
        dropped: Dropped = {}
        for name, (plan, task) in list(self._running.items()):
            if name not in plans or plans[name].settings != plan.settings:
                task.cancel()
                del self._running[name]
                self._sources.pop(name, None)
                dropped[name] = task
        return dropped

    async def swap(self, plans: SourcePlans, dropped: Dropped | None = None) -> list[str]:
        """Restart what changed; what did not is not touched. Returns their names."""
        dropped = self.drop(plans) if dropped is None else dropped
        for name in dropped.keys() & plans.keys():
            self._emit(Down(name, "its configuration changed: reconnecting"))
        started = plans.keys() - self._running.keys()
        await _cancel(list(dropped.values()))  # one of a kind: they share what they talk to
        for name in SourceName:
            if name in started:
                self._start(name, plans[name])
        return sorted({str(name) for name in dropped.keys() | started})

    def recheck(self, name: SourceName) -> Awaitable[None] | None:
        """Have a source tell the whole truth anew: done when it has, or after `RECHECK_LIMIT`.

        None: it does not run.
        """
        source = self._sources.get(name)
        return None if source is None else self._recheck(name, source)

    def plugged_in(self) -> tuple[Reading, ...]:
        """All of this host's USB, as far as a source that runs knows it; asks nobody."""
        for source in self._sources.values():
            if isinstance(source, SeesUsb):
                return source.plugged_in() or ()
        return ()

    async def _recheck(self, name: SourceName, source: DeviceSource) -> None:
        try:
            async with asyncio.timeout(RECHECK_LIMIT):
                await source.recheck()
        except TimeoutError:
            log.warning("source.recheck_hangs", source=str(name), limit_s=RECHECK_LIMIT)
        except Exception:
            log.exception("source.recheck_failed", source=str(name))

    async def close(self) -> None:
        """End all of them."""
        await _cancel([task for _, task in self._running.values()])
        self._running.clear()

    def _start(self, name: SourceName, plan: SourcePlan) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(name, plan), name=str(name))
        self._running[name] = (plan, task)

    async def _supervise(self, name: SourceName, plan: SourcePlan) -> None:
        """Run a source for ever; one that breaks its promise not to raise is started again."""
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        assert me is not None
        delays = backoff(first=1.0, cap=60.0)
        while True:
            began = loop.time()
            reason = "the source ended by itself"
            error: BaseException | None = None
            source = None
            try:
                source = self._sources[name] = plan.make()
                await source.run(partial(self._hear, name, me))
            except asyncio.CancelledError as cancelled:
                if me.cancelling():
                    raise
                error = cancelled  # of something that it waited for
            except Exception as failure:  # noqa: BLE001 - logged below
                error = failure
            finally:
                if source is not None and self._sources.get(name) is source:
                    del self._sources[name]
            if error is not None:
                reason = f"internal error ({type(error).__name__}): see the log"
            if loop.time() - began >= self._healthy:
                delays = backoff(first=1.0, cap=60.0)
            delay = next(delays)
            log.error(
                "source.failed", source=str(name), reason=reason, retry_in_s=delay, exc_info=error
            )
            try:
                self._hear(name, me, Down(name, reason))
            except Exception:
                log.exception("source.not_heard", source=str(name))
            await asyncio.sleep(delay)

    def _hear(
        self, name: SourceName, task: asyncio.Task[None], observation: Observation | BatteryRead
    ) -> None:
        """Only who runs now is heard: one that ends slowly must not speak for its successor."""
        running = self._running.get(name)
        if running is not None and running[1] is task:
            self._emit(observation)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_LIMIT)
