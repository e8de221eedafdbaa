"""All polled usage sources: which of them run, and what a reload makes of them.

One task per source lists its targets (`polled_source`), one per target reads it (`polled_target`).
What the readings mean is decided in `fusion`; what it comes to is kept by `current`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.usage.base import READ_LIMIT
from agent.usage.polled_source import PolledSource, UsagePlan, close
from agent.usage.polled_target import Asking
from agent.usage.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.clock import Clock
    from agent.config import UsageSection
    from agent.usage.base import Phone, UsageSource
    from agent.usage.current import CurrentUsage
    from agent.usage.polled_source import SourceReport

UsagePlans = dict[str, UsagePlan]
Made = dict[str, "UsageSource"]
"""Both by the source's name."""


class Poller:
    """All polled sources. All methods run on the event loop's thread.

    Args:
        usage: told of what the sources say.
        settings: [usage].
        clock: of the process.
        phones: those that are not unplugged now.
        resolve: which device an id means, as a target tells it; None: none of ours.
        read_limit: seconds for `targets` and for `read`, see READ_LIMIT.
    """

    def __init__(
        self,
        usage: CurrentUsage,
        settings: UsageSection,
        clock: Clock,
        *,
        phones: Callable[[], Iterable[Phone]],
        resolve: Callable[[str], str | None],
        read_limit: float = READ_LIMIT,
    ) -> None:
        self._usage = usage
        self._schedule = Schedule(settings, clock)
        self._asking = Asking(usage, self._schedule, clock, phones, resolve, read_limit)
        self._running: dict[str, PolledSource] = {}
        self._closed = False

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; its usage has gone over to that one."""
        self._usage.rename(old, new)
        for running in self._running.values():
            running.rename(old, new)

    def phones_changed(self) -> None:
        """Phones came or went, or became ready: list the targets anew."""
        for running in self._running.values():
            running.phones_changed()

    def nudge(self, udid: str) -> None:
        """Something happened to that device: look soon whether a session began or ended."""
        for running in self._running.values():
            running.nudge(udid)

    async def reconfigure(self, settings: UsageSection, plans: UsagePlans) -> None:
        """Run these sources; those whose settings are the same go on undisturbed.

        Raises:
            AgentError: a new source cannot be made; then nothing has changed.
        """
        await self.swap(settings, plans, self.make(plans))

    def make(self, plans: UsagePlans) -> Made:
        """The sources that are new or have other settings, for `swap` (or `discard`).

        Raises:
            AgentError: one cannot be made.
        """
        return {
            name: plan.make()
            for name, plan in plans.items()
            if name not in self._running or self._running[name].plan.settings != plan.settings
        }

    async def discard(self, made: Made) -> None:
        """They are not wanted after all."""
        for source in made.values():
            await close(source)

    async def swap(self, settings: UsageSection, plans: UsagePlans, made: Made) -> None:
        """Run these sources; what one made anew had in use is so until it says otherwise.

        What one that is left out had in use is idle as far as that one goes.
        """
        if self._closed:
            await self.discard(made)
            return
        self._schedule.settings = settings
        usage = self._usage
        for name in [name for name in self._running if name not in plans]:
            await self._running.pop(name).end()
            usage.tell(usage.fusion.source(name, runs=False))
        for name, source in made.items():
            old = self._running.get(name)
            running = PolledSource(name, plans[name], source, self._asking)
            self._running[name] = running
            usage.fusion.source(name)
            if old is not None:
                await running.take_over(old)
            running.start()

    async def first_round(self) -> None:
        """Return once every target was read once, whatever came of it."""
        for running in list(self._running.values()):
            await running.first_round()
        self._usage.confirm()

    async def close(self) -> None:
        """End all tasks and close all sources. That the agent stops is no news of any phone."""
        self._closed = True
        self._usage.close()
        ending = [running.halt() for running in self._running.values()]
        self._running.clear()
        await asyncio.gather(*ending)

    def report(self) -> list[SourceReport]:
        """Every source that runs, with its targets."""
        return [running.report() for _, running in sorted(self._running.items())]
