"""Asks every target of every usage source, each on its own, and tells what it comes to.

One task per source lists its targets, every interval and whenever phones come or go; one task per
target reads it: every interval, five times as often while something is about to change (for two
intervals after a change or a nudge, and while a use is about to end). A target that hangs or fails
is unknown and delays no other. What the readings mean is decided in `fusion`.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import structlog

from agent.errors import AgentError
from agent.model import Usage, UsageReading
from agent.tasks import kept
from agent.usage.base import READ_LIMIT, Incomplete, UsageSource
from agent.usage.fusion import STRENGTH, Fusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.usage.base import Phone, Target

log = structlog.get_logger(__name__)

QUICK = 5
"""Readings an interval while something is about to change."""
SHORTEST = 0.2
"""Seconds between two readings of a target, at least."""
END_LIMIT = 0.5
"""Seconds that sources get to close."""
UNCONFIRMED = "not confirmed since the start"
RECONFIGURED = "its configuration changed: asking anew"


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make a source, and the settings on which it hangs: equal ones leave it as it is."""

    settings: object
    make: Callable[[], UsageSource]


TargetState = Literal["unread", "good", "unknown"]
"""What came of the last reading."""
Plans = dict[str, Plan]
Made = dict[str, UsageSource]
"""Both by the source's name."""


@dataclass(frozen=True, slots=True)
class TargetReport:
    """How one target stands, for operators."""

    target: str
    state: TargetState
    reason: str
    sessions: int
    """Devices it has in use."""
    read_ms: int
    """When it was last read, wall clock; 0: never."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How one source stands, for operators."""

    source: str
    reason: str
    """Why it cannot say what there is to ask; "": it can."""
    targets: tuple[TargetReport, ...]
    """None: there is nothing to ask now."""


@dataclass(slots=True, eq=False)
class _Follower:
    target: Target
    task: asyncio.Task[None] | None = None
    """None: its phone cannot be reached now."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    read_ms: int = 0
    bugs: set[str] = field(default_factory=set)
    """Types of errors that were logged with their traceback."""
    first: asyncio.Event = field(default_factory=asyncio.Event)
    """Read once, whatever came of it."""
    ids: dict[str, str] = field(default_factory=dict)
    """What it called the devices that it listed last: id → UDID. A name stays its phone's while the
    session lasts, though the phone is not reached at that address just now."""


@dataclass(slots=True, eq=False)
class _Running:
    plan: Plan
    source: UsageSource
    followers: dict[str, _Follower] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: int = 0
    """Listings that were asked for, and the last of them that is done."""
    listed: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    """Why its targets cannot be listed."""
    bugs: set[str] = field(default_factory=set)


class Poller:
    """All polled sources. All methods run on the event loop's thread.

    Args:
        phones: those that are not unplugged now.
        resolve: which device an id means, as a target tells it; None: none of ours.
        changed: told a device's usage whenever that changes.
        wall_ms: wall clock, milliseconds.
        call_later: the loop's timer.
        monotonic: seconds, of the same clock as the timer.
        jitter: random numbers in [0, 1).
        read_limit: seconds for `targets` and for `read`, see READ_LIMIT.
    """

    def __init__(
        self,
        *,
        phones: Callable[[], Iterable[Phone]],
        resolve: Callable[[str], str | None],
        changed: Callable[[str, UsageReading], None],
        wall_ms: Callable[[], int],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        read_limit: float = READ_LIMIT,
    ) -> None:
        self._phones = phones
        self._resolve = resolve
        self._changed = changed
        self._wall_ms = wall_ms
        self._call_later = call_later
        self._monotonic = monotonic
        self._jitter = jitter
        self._read_limit = read_limit
        self._fusion = Fusion()
        self._interval = 5.0
        self._running: dict[str, _Running] = {}
        self._told: dict[str, UsageReading] = {}
        self._assumed: set[str] = set()
        self._unresolved: set[str] = set()
        self._closed = False

    # --- what happens elsewhere ------------------------------------------------------------

    def lease(self, udid: str, reading: UsageReading) -> None:
        """A lease on the device began or ended."""
        self._tell(self._fusion.lease(udid, reading))
        self.nudge(udid)

    def assume(self, udid: str, holder: str) -> None:
        """The device was in use when the agent stopped; no holder: by a lease that goes on.

        A session may have gone on below it, and is looked for before its end ends the use.
        """
        self._fusion.assume(udid, holder)
        if self._fusion.is_leased(udid):
            return
        self._assumed.add(udid)
        reading = UsageReading(Usage.UNKNOWN, holder, UNCONFIRMED)
        self._told[udid] = reading
        self._changed(udid, reading)

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; its usage has gone over to that one."""
        self._fusion.rename(old, new)
        if old in self._told:
            self._told[new] = self._told.pop(old)
        if old in self._assumed:
            self._assumed.remove(old)
            self._assumed.add(new)
        for running in self._running.values():
            for follower in running.followers.values():
                if follower.target.udid == old:
                    follower.target = replace(follower.target, udid=new)
                for id_ in [id_ for id_, udid in follower.ids.items() if udid == old]:
                    follower.ids[id_] = new

    def phones_changed(self) -> None:
        """Phones came or went, or became ready: list the targets anew."""
        for running in self._running.values():
            running.wake.set()

    def nudge(self, udid: str) -> None:
        """Something happened to that device: look soon whether a session began or ended."""
        for running in self._running.values():
            for follower in running.followers.values():
                if follower.target.udid in {"", udid}:
                    follower.wake.set()

    # --- life ------------------------------------------------------------------------------

    async def reconfigure(self, interval: float, plans: Plans) -> None:
        """Run these sources; those whose settings are the same go on undisturbed.

        Raises:
            AgentError: a new source cannot be made; then nothing has changed.
        """
        await self.swap(interval, plans, self.make(plans))

    def make(self, plans: Plans) -> Made:
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
            await _close(source)

    async def swap(self, interval: float, plans: Plans, made: Made) -> None:
        """Run these sources; what one made anew had in use is so until it says otherwise.

        What one that is left out had in use is idle as far as that one goes.
        """
        if self._closed:
            await self.discard(made)
            return
        self._interval = interval
        loop = asyncio.get_running_loop()
        for name in [name for name in self._running if name not in plans]:
            await self._end(self._running.pop(name))
            self._tell(self._fusion.source(name, runs=False))
        for name, source in made.items():
            old = self._running.get(name)
            running = self._running[name] = _Running(plans[name], source)
            self._fusion.source(name)
            if old is not None:
                await self._inherit(running, old)
            manage = kept(f"usage {name}", partial(self._manage, running))
            running.task = loop.create_task(manage, name=f"usage {name}")

    async def _inherit(self, running: _Running, old: _Running) -> None:
        """A target that it asks as well keeps its voice; the first listing drops the others."""
        await _halt(old)
        running.followers = old.followers
        for follower in old.followers.values():
            follower.task, follower.reason = None, RECONFIGURED
            follower.first.clear()
            voice = (running.source.name, follower.target.key)
            self._tell(self._fusion.unknown(voice, RECONFIGURED))

    async def first_round(self) -> None:
        """Return once every target was read once, whatever came of it."""
        for running in list(self._running.values()):
            running.wanted += 1
            number = running.wanted
            running.wake.set()
            while running.listed < number:
                running.news.clear()
                await running.news.wait()
            for follower in list(running.followers.values()):
                if follower.task is not None:
                    await follower.first.wait()
        self._tell(set(self._assumed))
        self._assumed.clear()

    async def close(self) -> None:
        """End all tasks and close all sources. That the agent stops is no news of any phone."""
        self._closed = True
        ending = [_halt(running) for running in self._running.values()]
        self._running.clear()
        await asyncio.gather(*ending)

    def report(self) -> list[SourceReport]:
        """Every source that runs, with its targets."""
        return [
            SourceReport(
                name,
                running.reason,
                tuple(
                    self._target_report(name, follower)
                    for _, follower in sorted(running.followers.items())
                ),
            )
            for name, running in sorted(self._running.items())
        ]

    def _target_report(self, name: str, follower: _Follower) -> TargetReport:
        read: TargetState = "good" if follower.read_ms else "unread"
        return TargetReport(
            follower.target.key,
            "unknown" if follower.reason else read,
            follower.reason,
            self._fusion.sessions((name, follower.target.key)),
            follower.read_ms,
        )

    async def _end(self, running: _Running) -> None:
        await _halt(running)
        for key in running.followers:
            self._tell(self._fusion.drop((running.source.name, key)))

    # --- targets ---------------------------------------------------------------------------

    async def _manage(self, running: _Running) -> None:
        while True:
            running.wake.clear()
            number = running.wanted
            try:
                await self._list(running)
            except Exception:  # of whoever is told: the next listing goes on
                log.exception("usage.bug", source=running.source.name, target="its targets")
            running.listed = number
            running.news.set()
            woken = await self._pause(running.wake, self._interval)
            if woken and running.wanted == running.listed:
                # A rack that comes back must not have its targets listed for each of its phones.
                await self._pause(asyncio.Event(), SHORTEST)

    async def _list(self, running: _Running) -> None:
        source = running.source
        phones = list(self._phones())
        # A phone that is new hears of what is unknown already.
        self._tell({phone.udid for phone in phones} - set(self._told))
        try:
            async with asyncio.timeout(self._read_limit):
                targets = {target.key: target for target in await source.targets(phones)}
            _leave_unless(self._running.get(source.name) is running)
        except Exception as error:  # noqa: BLE001 - a source may be a third party's
            _leave_unless(self._running.get(source.name) is running)
            reason = self._explain(source.name, "its targets", error, running.bugs)
            if not running.followers and running.reason != reason:  # else they say it
                log.warning("usage.unknown", source=source.name, target="", reason=reason)
            running.reason = reason
            for follower in running.followers.values():
                self._unknown(source.name, follower, reason)
            return
        if running.reason and not running.followers:
            log.info("usage.readable", source=source.name, target="")
        running.reason = ""
        await self._let_go(running, targets, {phone.udid for phone in phones if not phone.ready})
        for target in targets.values():
            self._ask(running, target)
        self._tell(self._fusion.listed(source.name, _reached(phones)))

    async def _let_go(
        self, running: _Running, targets: Mapping[str, Target], unready: set[str]
    ) -> None:
        """Ask no more what is not listed; of a phone that is there and not ready it is unknown."""
        name = running.source.name
        for key, follower in list(running.followers.items()):
            if key in targets:
                continue
            task, follower.task = follower.task, None
            await _cancel([task])
            follower.first.set()
            if follower.target.udid in unready:
                reason = f"{name} {key} cannot be asked: the phone cannot be reached now"
                self._unknown(name, follower, reason)
            else:
                del running.followers[key]
                self._tell(self._fusion.drop((name, key)))

    def _ask(self, running: _Running, target: Target) -> None:
        voice = (running.source.name, target.key)
        follower = running.followers.setdefault(target.key, _Follower(target))
        if follower.target.udid != target.udid:  # the same thing, of another phone now
            self._tell(self._fusion.drop(voice))
            self._fusion.know(voice, target.udid)
            follower.ids.clear()
        follower.target = target
        if follower.task is None:
            self._tell(self._fusion.know(voice, target.udid))
            follow = kept(f"usage {target.key}", partial(self._follow, running.source, follower))
            follower.task = asyncio.get_running_loop().create_task(follow, name=target.key)

    # --- one target ------------------------------------------------------------------------

    async def _follow(self, source: UsageSource, follower: _Follower) -> None:
        quick_until = 0.0
        while True:
            follower.wake.clear()
            try:
                changed = await self._read(source, follower)
            except Exception:  # of whoever is told: the next reading goes on
                log.exception("usage.bug", source=source.name, target=follower.target.key)
                changed = False
            follower.first.set()
            now = self._monotonic()
            if changed:
                quick_until = now + 2 * self._interval
            ending = self._fusion.ending((source.name, follower.target.key))
            quick = not follower.reason and (ending or now < quick_until)
            # Spread, so that a hundred phones are not asked in one instant for ever.
            delay = self._interval * (0.9 + 0.2 * self._jitter())
            if quick:
                delay = max(SHORTEST, self._interval / QUICK)
            if await self._pause(follower.wake, delay):
                quick_until = self._monotonic() + 2 * self._interval
                # A burst of nudges must not become a burst of questions.
                await self._pause(asyncio.Event(), SHORTEST)

    async def _read(self, source: UsageSource, follower: _Follower) -> bool:
        """Read once; whether what it says has changed."""
        target = follower.target
        voice = (source.name, target.key)
        try:
            async with asyncio.timeout(self._read_limit):
                told = await source.read(target)
            _leave_unless(follower.task is asyncio.current_task())
        except Exception as error:  # noqa: BLE001 - a source may be a third party's
            _leave_unless(follower.task is asyncio.current_task())
            reason = self._explain(source.name, target.key, error, follower.bugs)
            return self._unknown(source.name, follower, reason)
        follower.read_ms = self._wall_ms()
        if follower.reason:
            log.info("usage.readable", source=source.name, target=target.key)
            follower.reason = ""
        before = self._fusion.sessions(voice)
        touched = self._fusion.good(
            voice,
            self._resolved(source.name, follower, told),
            self._wall_ms(),
            reached=_reached(self._phones()) if self._fusion.assuming else (),
            doubt=told.reason if isinstance(told, Incomplete) else "",
        )
        self._tell(touched)
        return before != self._fusion.sessions(voice) or bool(touched)

    def _unknown(self, name: str, follower: _Follower, reason: str) -> bool:
        follower.read_ms = self._wall_ms()
        if follower.reason == reason:
            return False
        follower.reason = reason
        log.warning("usage.unknown", source=name, target=follower.target.key, reason=reason)
        self._tell(self._fusion.unknown((name, follower.target.key), reason))
        return True

    def _explain(self, name: str, what: str, error: Exception, bugs: set[str]) -> str:
        match error:
            case AgentError():
                return str(error)
            case TimeoutError():
                return f"{name}: {what} did not answer within {self._read_limit:g} s"
        kind = type(error).__name__
        if kind not in bugs:
            bugs.add(kind)
            log.error("usage.bug", source=name, target=what, exc_info=error)
        return f"{name}: internal error ({kind}) with {what}: see the log"

    def _resolved(self, name: str, follower: _Follower, told: Mapping[str, str]) -> dict[str, str]:
        in_use: dict[str, str] = {}
        ids: dict[str, str] = {}
        for id_, holder in told.items():
            udid = self._resolve(id_) or follower.ids.get(id_)
            if udid is None and name in STRENGTH:  # their holders are sessions, none like another
                udid = self._fusion.assumed(holder)
            if udid is not None:
                in_use[udid] = holder
                ids[id_] = udid
            elif id_ not in self._unresolved and len(self._unresolved) < 1000:  # noqa: PLR2004 - bounded
                self._unresolved.add(id_)
                log.info("usage.other_device", source=name, id=id_, holder=holder)
        follower.ids = ids
        return in_use

    # --- telling ---------------------------------------------------------------------------

    def _tell(self, udids: set[str] | None) -> None:
        if self._closed:
            return
        if udids is None:
            udids = {*self._told, *(phone.udid for phone in self._phones())}
        for udid in udids:
            reading = self._fusion.reading(udid)
            if reading != self._told.get(udid, UsageReading()):
                self._told[udid] = reading
                self._changed(udid, reading)

    async def _pause(self, wake: asyncio.Event, delay: float) -> bool:
        """Wait that long; True when it was woken before."""
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._call_later(delay, lambda: _settle(up))
        waiting = asyncio.ensure_future(wake.wait())
        both: set[asyncio.Future[Any]] = {up, waiting}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiting.cancel()
        return wake.is_set()


def _reached(phones: Iterable[Phone]) -> set[str]:
    return {phone.udid for phone in phones if phone.ready}


def _leave_unless(wanted: bool) -> None:
    """A source may swallow its cancellation: what it says after that is not heard."""
    if not wanted:
        raise asyncio.CancelledError


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _halt(running: _Running) -> None:
    """Its tasks end, and its source is closed."""
    followers = running.followers.values()
    tasks = [running.task, *[follower.task for follower in followers]]
    for follower in followers:
        follower.task = None
    await _cancel(tasks)
    running.listed = running.wanted  # who waits for its first round waits no longer
    running.news.set()
    for follower in followers:
        follower.first.set()
    await _close(running.source)


async def _close(source: UsageSource) -> None:
    try:
        async with asyncio.timeout(END_LIMIT):
            await source.close()
    except Exception:
        log.exception("usage.close_failed", source=source.name)


async def _cancel(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    running = {task for task in tasks if task is not None}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=END_LIMIT)
