"""One source that runs: lists what there is to ask, every interval and when phones come or go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.tasks import kept
from agent.usage.polled_target import END_LIMIT, PolledTarget, TargetReport, ended, reached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.usage.base import Target, UsageSource
    from agent.usage.polled_target import Asking

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UsagePlan:
    """How to make a source, and the settings on which it hangs: equal ones leave it as it is."""

    settings: object
    make: Callable[[], UsageSource]


class SourceReport(NamedTuple):
    """How one source stands, for operators."""

    source: str
    reason: str
    """Why it cannot say what there is to ask; "": it can."""
    targets: tuple[TargetReport, ...]
    """None: there is nothing to ask now."""


class PolledSource:
    """A source with its targets, from `start` to `end`.

    Args:
        name: of the source, as it is configured.
        plan: how it was made.
        source: that.
        asking: what all sources have in common.
    """

    def __init__(self, name: str, plan: UsagePlan, source: UsageSource, asking: Asking) -> None:
        self.name = name
        self.plan = plan
        self._source = source
        self._asking = asking
        self._targets: dict[str, PolledTarget] = {}
        self._task: asyncio.Task[None] | None = None
        self._halted = False
        self._wake = asyncio.Event()
        self._wanted = 0
        self._listed = 0
        """Listings that were asked for, and the last of them that is done."""
        self._news = asyncio.Event()
        self._reason = ""
        """Why its targets cannot be listed."""
        self._bugs: set[str] = set()

    def start(self) -> None:
        """Begin to list, and to ask what is listed."""
        self._task = asyncio.get_running_loop().create_task(
            kept(f"usage {self.name}", self._manage), name=f"usage {self.name}"
        )

    async def take_over(self, old: PolledSource) -> None:
        """Go on for that one: a target that this one asks as well keeps its voice.

        The first listing drops the others.
        """
        await old.halt()
        self._targets = old._targets
        for target in self._targets.values():
            target.take_over(self._source)

    async def halt(self) -> None:
        """Ask no more, and close the source; what it said stays."""
        self._halted = True
        targets = list(self._targets.values())
        await ended([self._task, *[target.leave() for target in targets]])
        for target in targets:
            target.first.set()
        self._listed = self._wanted  # who waits for its first round waits no longer
        self._news.set()
        await close(self._source)

    async def end(self) -> None:
        """`halt`, and nothing that it said counts any more."""
        await self.halt()
        for target in self._targets.values():
            target.drop()

    async def first_round(self) -> None:
        """Return once its targets were listed anew, and each was read once, whatever came of it."""
        self._wanted += 1
        number = self._wanted
        self._wake.set()
        while self._listed < number and not self._halted:
            self._news.clear()
            await self._news.wait()
        for target in list(self._targets.values()):
            if target.is_asked:
                await target.first.wait()

    def phones_changed(self) -> None:
        """Phones came or went, or became ready: list the targets anew."""
        self._wake.set()

    def nudge(self, udid: str) -> None:
        """Something happened to that device: look soon whether a session began or ended."""
        for target in self._targets.values():
            target.nudge(udid)

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on."""
        for target in self._targets.values():
            target.rename(old, new)

    def report(self) -> SourceReport:
        """How it stands."""
        targets = [target.report() for _, target in sorted(self._targets.items())]
        return SourceReport(self.name, self._reason, tuple(targets))

    async def _manage(self) -> None:
        schedule = self._asking.schedule
        while True:
            self._wake.clear()
            number = self._wanted
            try:
                await self._list()
            except Exception:  # of ours: the next listing goes on
                log.exception("usage.bug", source=self.name, target="its targets")
            self._listed = number
            self._news.set()
            woken = await schedule.pause(self._wake, schedule.interval)
            if woken and self._wanted == self._listed:
                # A rack that comes back must not have its targets listed for each of its phones.
                await schedule.breathe()

    async def _list(self) -> None:
        asking = self._asking
        phones = list(asking.phones())
        asking.usage.meet(phones)
        try:
            async with asyncio.timeout(asking.read_limit):
                targets = {target.key: target for target in await self._source.targets(phones)}
            self._leave_if_halted()
        except Exception as error:  # noqa: BLE001 - a source may be a third party's
            self._leave_if_halted()
            self._cannot_list(asking.explain(self.name, "its targets", error, self._bugs))
            return
        if self._reason and not self._targets:
            log.info("usage.readable", source=self.name, target="")
        self._reason = ""
        await self._let_go(targets, {phone.udid for phone in phones if not phone.ready})
        for key, target in targets.items():
            if key not in self._targets:
                self._targets[key] = PolledTarget(self._source, target, asking)
            self._targets[key].ask(target)
        asking.usage.tell(asking.usage.fusion.listed(self.name, reached(phones)))

    def _cannot_list(self, reason: str) -> None:
        if not self._targets and self._reason != reason:  # else they say it
            log.warning("usage.unknown", source=self.name, target="", reason=reason)
        self._reason = reason
        for target in self._targets.values():
            target.unknown(reason)

    async def _let_go(self, listed: Mapping[str, Target], unready: set[str]) -> None:
        """Ask no more what is not listed; of a phone that is there and not ready it is unknown."""
        for key, target in list(self._targets.items()):
            if key in listed:
                continue
            await target.stop()
            if target.target.udid in unready:
                why = f"{self.name} {key} cannot be asked: the phone cannot be reached now"
                target.unknown(why)
            else:
                del self._targets[key]
                target.drop()

    def _leave_if_halted(self) -> None:
        """A source may swallow its cancellation: what it says after that is not heard."""
        if self._halted:
            raise asyncio.CancelledError


async def close(source: UsageSource) -> None:
    """Close it, whatever comes of that, and not for ever."""
    try:
        async with asyncio.timeout(END_LIMIT):
            await source.close()
    except Exception:
        log.exception("usage.close_failed", source=source.name)
