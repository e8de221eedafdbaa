"""One thing that is asked, on its own: one that hangs or fails is unknown, and delays no other.

It is read every interval, five times as often while something is about to change (for two intervals
after a change or a nudge, and while a use is about to end). What it says goes to `fusion`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import structlog

from agent.errors import AgentError
from agent.tasks import kept
from agent.usage.base import Incomplete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.clock import Clock
    from agent.usage.base import Phone, Target, UsageSource
    from agent.usage.current import CurrentUsage
    from agent.usage.fusion import Voice
    from agent.usage.schedule import Schedule

log = structlog.get_logger(__name__)

END_LIMIT = 0.5
"""Seconds that what is asked gets to end."""
RECONFIGURED = "its configuration changed: asking anew"
MAX_STRANGERS = 1000
"""Ids of devices that are none of ours that are told once each."""


TargetState = Literal["unread", "good", "unknown"]
"""What came of the last reading."""


class TargetReport(NamedTuple):
    """How one target stands, for operators."""

    target: str
    state: TargetState
    reason: str
    sessions: int
    """Devices it has in use."""
    read_ms: int
    """When it was last read, wall clock; 0: never."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What all targets of all sources have in common."""

    usage: CurrentUsage
    schedule: Schedule
    clock: Clock
    phones: Callable[[], Iterable[Phone]]
    """Those that are not unplugged now."""
    resolve: Callable[[str], str | None]
    """Which device an id means, as a target tells it; None: none of ours."""
    read_limit: float
    """Seconds for `targets` and for `read`."""
    strangers: set[str] = field(default_factory=set)
    """Ids of devices that are none of ours, as far as they were told."""

    def explain(self, source: str, what: str, error: Exception, bugs: set[str]) -> str:
        """Why it cannot say, for operators; a source may be a third party's.

        Args:
            source: the source's name.
            what: was asked.
            error: came of it.
            bugs: types of errors that were logged with their traceback.
        """
        match error:
            case AgentError():
                return str(error)
            case TimeoutError():
                return f"{source}: {what} did not answer within {self.read_limit:g} s"
        kind = type(error).__name__
        if kind not in bugs:
            bugs.add(kind)
            log.error("usage.bug", source=source, target=what, exc_info=error)
        return f"{source}: internal error ({kind}) with {what}: see the log"


class PolledTarget:
    """Asked while it is started; what it said last stays its word until it is dropped."""

    def __init__(self, source: UsageSource, target: Target, asking: Asking) -> None:
        self.target = target
        self.first = asyncio.Event()
        """Read once since it was started, whatever came of it."""
        self._source = source
        self._asking = asking
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._reason = ""
        """Why it cannot say; "": it can."""
        self._read_ms = 0
        self._bugs: set[str] = set()
        self._ids: dict[str, str] = {}
        """What it called the devices that it listed last: id → UDID. A name stays its phone's while
        the session lasts, though the phone is not reached at that address just now."""

    @property
    def is_asked(self) -> bool:
        """Whether it is asked now; its phone may not be reached."""
        return self._task is not None

    @property
    def _voice(self) -> Voice:
        return self._source.name, self.target.key

    def ask(self, target: Target) -> None:
        """It is there to be asked, as that; of another phone, it may be."""
        usage = self._asking.usage
        if self.target.udid != target.udid:
            usage.tell(usage.fusion.drop(self._voice))
            usage.fusion.know(self._voice, target.udid)
            self._ids.clear()
        self.target = target
        if self._task is None:
            usage.tell(usage.fusion.know(self._voice, target.udid))
            follow = kept(f"usage {target.key}", self._follow)
            self._task = asyncio.get_running_loop().create_task(follow, name=target.key)

    def leave(self) -> asyncio.Task[None] | None:
        """Ask no more, and hear no more; what it said stays. Returns what is to be `ended`."""
        task, self._task = self._task, None
        return task

    async def stop(self) -> None:
        """`leave`, and wait for its end; who waits for it to be read waits no longer."""
        await ended([self.leave()])
        self.first.set()

    def drop(self) -> None:
        """It is no more, nor what it said."""
        usage = self._asking.usage
        usage.tell(usage.fusion.drop(self._voice))

    def take_over(self, source: UsageSource) -> None:
        """A source that was made anew may ask it, too; until it has, what it said is in doubt."""
        self._source, self._reason = source, RECONFIGURED
        self.first.clear()
        usage = self._asking.usage
        usage.tell(usage.fusion.unknown(self._voice, RECONFIGURED))

    def unknown(self, reason: str) -> bool:
        """It cannot say; returns whether that is news."""
        self._read_ms = self._asking.clock.wall_ms()
        if self._reason == reason:
            return False
        self._reason = reason
        log.warning(
            "usage.unknown", source=self._source.name, target=self.target.key, reason=reason
        )
        usage = self._asking.usage
        usage.tell(usage.fusion.unknown(self._voice, reason))
        return True

    def nudge(self, udid: str) -> None:
        """Something happened to that device: look soon, if this may speak of it."""
        if self.target.udid in {"", udid}:
            self._wake.set()

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on."""
        if self.target.udid == old:
            self.target = replace(self.target, udid=new)
        self._ids = {id_: new if udid == old else udid for id_, udid in self._ids.items()}

    def report(self) -> TargetReport:
        """How it stands."""
        read: TargetState = "good" if self._read_ms else "unread"
        return TargetReport(
            self.target.key,
            "unknown" if self._reason else read,
            self._reason,
            self._asking.usage.fusion.sessions(self._voice),
            self._read_ms,
        )

    async def _follow(self) -> None:
        schedule, fusion = self._asking.schedule, self._asking.usage.fusion
        quick_until = 0.0
        while True:
            self._wake.clear()
            try:
                changed = await self._read()
            except Exception:  # of ours: the next reading goes on
                log.exception("usage.bug", source=self._source.name, target=self.target.key)
                changed = False
            self.first.set()
            if changed:
                quick_until = schedule.soon()
            ending = fusion.ending(self._voice)
            quick = not self._reason and (ending or not schedule.is_past(quick_until))
            if await schedule.pause(self._wake, schedule.delay(quick=quick)):
                quick_until = schedule.soon()
                await schedule.breathe()

    async def _read(self) -> bool:
        """Read once; whether what it says has changed."""
        asking, usage, fusion = self._asking, self._asking.usage, self._asking.usage.fusion
        try:
            async with asyncio.timeout(asking.read_limit):
                told = await self._source.read(self.target)
            self._leave_unless_asked()
            doubt = _doubt(told)
        except Exception as error:  # noqa: BLE001 - a source may be a third party's
            self._leave_unless_asked()
            return self.unknown(
                asking.explain(self._source.name, self.target.key, error, self._bugs)
            )
        self._read_ms = asking.clock.wall_ms()
        if self._reason:
            log.info("usage.readable", source=self._source.name, target=self.target.key)
            self._reason = ""
        before = fusion.sessions(self._voice)
        touched = fusion.good(
            self._voice,
            self._resolved(told),
            asking.clock.wall_ms(),
            reached=reached(asking.phones()) if fusion.assuming else (),
            doubt=doubt,
        )
        usage.tell(touched)
        return before != fusion.sessions(self._voice) or bool(touched)

    def _leave_unless_asked(self) -> None:
        """A source may swallow its cancellation: what it says after that is not heard."""
        if self._task is not asyncio.current_task():
            raise asyncio.CancelledError

    def _resolved(self, told: Mapping[str, str]) -> dict[str, str]:
        """Which devices those are; an id that was ours stays so while it is listed."""
        in_use: dict[str, str] = {}
        ids: dict[str, str] = {}
        name, strangers = self._source.name, self._asking.strangers
        for id_, holder in told.items():
            udid = self._asking.resolve(id_) or self._ids.get(id_)
            if udid is None:
                udid = self._asking.usage.fusion.assumed(name, holder)
            if udid is not None:
                in_use[udid] = holder
                ids[id_] = udid
            elif id_ not in strangers and len(strangers) < MAX_STRANGERS:
                strangers.add(id_)
                log.info("usage.other_device", source=name, id=id_, holder=holder)
        self._ids = ids
        return in_use


def _doubt(told: Mapping[str, str]) -> str:
    """Why the answer says nothing of what it leaves out; "": it says that it is idle.

    Raises TypeError for what is no answer: a source may be a third party's.
    """
    if not all(isinstance(word, str) for pair in told.items() for word in pair):
        raise TypeError("an answer is the ids of devices, each with who uses it, all of it text")
    if not isinstance(told, Incomplete):
        return ""
    return str(told.reason or "it tells of a part of its devices only")


def reached(phones: Iterable[Phone]) -> set[str]:
    """Those that their bridges can reach."""
    return {phone.udid for phone in phones if phone.ready}


async def ended(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    """Cancel them, and wait for their end, not for ever."""
    running = {task for task in tasks if task is not None}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=END_LIMIT)
