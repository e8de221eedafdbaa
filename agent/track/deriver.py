"""Derives the states of devices anew, slice by slice, and hands on what counts.

It decides nothing: `derive` says what a device's readings mean, here is when it is asked, and that
what it says is stored before a device's track goes on. So whatever fails on the way (a log that
cannot be written, a watcher, a mistake in here) costs no transition. A step that fails is tried
again after `RETRY`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.model import BRIDGE_OF, DeviceState, SourceName, Transition
from agent.track.causes import WINDOW, Causes, Spot, stand_of
from agent.track.derive import Step, Track, quiet, rests, step, took
from agent.track.pace import Pace, Questions
from agent.track.records import record_of, told_of, told_with
from agent.track.silence_book import said
from agent.track.telling import say
from agent.track.waits import due, entered, seen, settled
from agent.udid import controller_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.clock import Clock, Timer
    from agent.track.commits import Commits
    from agent.track.devices import Devices
    from agent.track.roster import Roster, Tracked
    from agent.track.settings import Settings
    from agent.track.silences import Silences
    from agent.track.views import Views

log = structlog.get_logger(__name__)

RETRY = 1.0
"""Seconds after which a device is looked at again whose step failed."""
SLICE = 0.01
"""Seconds of deriving in one turn of the loop; a thousand phones of a hundred webhooks take 3 s."""
MANY = 50
"""Devices whose deriving waits for the loop's next turn: taking in a whole rack fills this one."""
GAP_TOLD = 2.0
"""Seconds that the process must have stood still for it to be told; a busy machine is no news."""
ASK_LIMIT = 2.5
"""Seconds that a state waits for the sources' last word when its hold is over, at most."""


class Deriver:
    """When each device is derived. All methods run on the event loop's thread.

    Args:
        settings: what the configuration says of it.
        devices: who each device is.
        roster: whose states are derived, and what is remembered of each.
        causes: what took several of them at once.
        views: all readings of a device, together.
        silences: whose transitions are kept back now.
        commits: takes what counts.
        clock: of the process; see `pace` for what the holds go by.
        recheck: has a source tell the whole truth anew; see `pace.Questions`.
        changed: told of each device whose view may have changed, its end included.
        idle: called whenever nothing is left to derive now.
    """

    def __init__(
        self,
        settings: Settings,
        devices: Devices,
        roster: Roster,
        causes: Causes,
        views: Views,
        silences: Silences,
        commits: Commits,
        clock: Clock,
        recheck: Callable[[SourceName], Awaitable[None] | None],
        changed: Callable[[str], None],
        idle: Callable[[], None],
    ) -> None:
        self.settings = settings
        self._devices = devices
        self._roster = roster
        self._causes = causes
        self._views = views
        self._silences = silences
        self._commits = commits
        self._clock = clock
        self._changed = changed
        self._idle = idle
        self._pace = Pace(clock, self.derive, self._on_gap, self._on_shift)
        self._questions = Questions(self._pace, recheck, self._count_due)
        self._due: set[str] = set()
        """Those whose transition waits for the sources' last word."""
        self._to_step: set[str] = set()
        self._to_pay: set[str] = set()
        """Those whose silence has just ended: the state that they are in counts, whatever is under
        way. Others (after a start, or moved out of a hub) are told of once they have come to rest:
        the state in which a silence left them is old."""
        self._stepping = False
        self._slice: Timer | None = None
        self._stopped = False

    def look(self) -> None:
        """Notice a gap in which nobody looked, before what is said after it is taken."""
        self._pace.now()

    def overdue(self) -> float:
        """Seconds by which the next timed decision is late; 0 when all is well."""
        return self._pace.overdue()

    def stop(self) -> None:
        """Derive nothing more."""
        self._stopped = True
        if self._slice is not None:
            self._slice.cancel()
        self._pace.close()
        self._questions.close()

    def rename(self, old: str, new: str, *, moved: bool) -> None:
        """A device has another UDID; moved: what is under way of it goes on under the new one."""
        if moved:
            self._pace.move(old, new)
            if old in self._due:
                self._due.add(new)
        self._pace.wake(old, None)
        self._causes.rename(old, new)
        self._due.discard(old)
        for waiting in (self._to_step, self._to_pay):
            if old in waiting:
                waiting.add(new)

    def derive(self, udids: Iterable[str]) -> None:
        """Derive these anew: now, or in the next turns of the loop where they are too many."""
        if self._stopped:
            return
        self._to_step.update(udids)
        if self._slice is not None or self._stepping:
            return
        if len(self._to_step) < MANY:
            self._step_some()
        else:
            self._slice = self._clock.call_later(0, self._step_some)

    def pay(self, udids: Iterable[str]) -> None:
        """The silence of these has ended: what it kept back is told, as they stand now."""
        udids = set(udids)
        self._to_pay |= udids
        self.derive(udids)

    def _step_some(self) -> None:
        """One slice of it: a rack that comes back must not hold up everything else meanwhile."""
        self._slice = None
        if self._stopped:
            return
        self._stepping = True
        now = self._pace.now()
        self._pace.look_at_wall(now)
        end = self._clock.monotonic() + SLICE
        forgotten = False
        try:
            while self._to_step:
                for udid in sorted(self._to_step):
                    self._to_step.discard(udid)
                    self._step_one(udid, now)
                    forgotten = forgotten or udid not in self._devices
                    if self._clock.monotonic() >= end:
                        break
                else:
                    continue  # those that came meanwhile
                break
        finally:
            self._stepping = False
        if forgotten:
            for udid in self._roster.know_listed():
                self._changed(udid)
        self._pace.arm(now)
        if self._to_step:
            self._slice = self._clock.call_later(0, self._step_some)
        else:
            self._idle()

    def _step_one(self, udid: str, now: float) -> None:
        try:
            if self._roster.derives(udid):
                self._step(udid, now)
            else:
                self._rest(udid)
        except Exception:  # noqa: BLE001 - said, and tried again; the others' steps go on
            self._pace.wake(udid, now + RETRY)
            say(log.exception, "device.step_failed", udid=udid, retry_in_s=RETRY)

    def _step(self, udid: str, now: float) -> None:
        tracked = self._roster.tracked(udid)
        before = tracked.track
        readings = self._views.readings(udid)
        tracked.read(readings, self._clock)
        port = self._devices[udid].facts.port
        self._causes.look(udid, stand_of(readings), port, now, partial(self._spot, udid))
        outcome = step(before, readings, now, self.settings.policy)
        if self._waits_for_answers(udid, tracked, outcome, now):
            return
        changed = self._take(udid, tracked, outcome, now)
        tracked.ask_at = outcome.ask_at
        self._pace.wake(udid, _earlier(_next_look(outcome, now), self._told_at(tracked, now)))
        if outcome.ask_at is not None and now >= outcome.ask_at:
            self._questions.ask(self._who_can_tell(udid), outcome.ask_at)
        if tracked.track.state is None and outcome.wake is None:
            # Gone before it ever counted: a key that another, better one replaced (a serial that
            # could not be read at first), or a phone that was plugged in for a moment.
            self._devices.forget(udid)
            self._causes.forget(udid)
            changed = True
        if changed:
            self._changed(udid)

    def _take(self, udid: str, tracked: Tracked, outcome: Step, now: float) -> bool:
        """Go on to the new track, and store what is to be stored; returns whether it differs."""
        before = tracked.track
        refreshed = False
        if outcome.entered is not None:
            lost = took(outcome.track, self._causes.cause_of(udid))
            outcome = outcome._replace(track=lost)
            self._enter(udid, tracked, outcome, now)
            self._causes.counted(udid)
        elif outcome.track.state is not None:
            if outcome.shown:
                tracked.owed = seen(tracked.owed, now, self._clock.wall_ms())
            refreshed = self._settle(udid, tracked, outcome.track, now)
            refreshed = self.refresh(udid, tracked, outcome.track) or refreshed
        self._to_pay.discard(udid)
        tracked.track = outcome.track
        self._commits.counts.flaps += outcome.track.flapping and not before.flapping
        return refreshed or outcome.track is not before

    def _rest(self, udid: str) -> None:
        """Its states are not derived (any more): nothing of it is under way."""
        tracked = self._roster.known(udid)
        if tracked is None or udid not in self._devices:
            return
        self._pace.wake(udid, None)
        self._causes.forget(udid)
        self._due.discard(udid)
        self._to_pay.discard(udid)
        tracked.track, tracked.ask_at, tracked.due_since = quiet(tracked.track), None, None
        tracked.owed = tracked.owed._replace(since=None)

    def _waits_for_answers(self, udid: str, tracked: Tracked, outcome: Step, now: float) -> bool:
        """Whether the sources are to be heard once more before that transition counts.

        Only one that waited out a hold: the track then stays as it was until they are.
        """
        held = outcome.entered is not None and outcome.entered is tracked.track.candidate
        if held and tracked.ask_at is not None:
            since = min(tracked.ask_at, now)  # a hold that a reload made shorter
            sources = self._who_can_tell(udid)
            self._questions.ask(sources, since)
            if not self._questions.told_since(sources, since):
                if tracked.due_since is None:
                    tracked.due_since = now
                limit = tracked.due_since + ASK_LIMIT
                if now < limit:
                    self._due.add(udid)
                    self._pace.wake(udid, limit)
                    return True
        tracked.due_since = None
        self._due.discard(udid)
        return False

    def _who_can_tell(self, udid: str) -> list[SourceName]:
        platform = self._devices[udid].facts.platform
        assert platform is not None, "states are derived for phones of known platforms alone"
        on = self.settings.sources
        return [source for source in (SourceName.UDEV, BRIDGE_OF[platform]) if source in on]

    def _count_due(self) -> None:
        """A source has answered: those whose transition waited for that may go on."""
        self.derive(set(self._due))

    def _on_gap(self, seconds: float) -> None:
        """Nobody looked for so long: the sources have to speak before anything counts."""
        self._questions.forget()
        if seconds > WINDOW:
            self._causes.gap(self._pace.now())
        if seconds >= GAP_TOLD:
            say(
                log.warning,
                "pipeline.gap",
                seconds=round(seconds, 1),
                hint="the process stood still: the sources are asked anew before anything counts",
            )

    def _on_shift(self, ms: int) -> None:
        """The wall clock left the time that was seen: a restart is to know how long stays lasted.

        A stay that was not stored for anybody who waits keeps its time as it was.
        """
        self.derive(self._roster.shift_stays(ms))

    def _told_at(self, tracked: Tracked, now: float) -> float | None:
        """When the first webhook that waits is told, if all stays as it is."""
        state = tracked.track.state
        if state is None:
            return None
        at = due(tracked.owed, state, self._commits.outbox)
        return None if at is None or at <= now else at  # its silence's end tells what is due

    def _spot(self, udid: str) -> Spot:
        """Where it is, for what may take it with others."""
        place = self._views.where(udid)
        readings = self._views.readings(udid)
        return Spot(place.port, controller_in(place.path), readings.bridge_name)

    def _enter(self, udid: str, tracked: Tracked, outcome: Step, now: float) -> None:
        """A transition counts: store it, with one callback for each webhook that wants it."""
        state = outcome.entered
        assert state is not None
        at_ms = self._clock.wall_ms()
        self._devices[udid].count(there=state is not DeviceState.UNPLUGGED)
        device = self._roster.device(udid)
        silence = self._silences.of(device)
        hooks = self._commits.outbox
        owed, tellings = entered(
            tracked.owed,
            outcome.previous,
            state,
            now,
            at_ms,
            hooks,
            silenced=silence is not None,
        )
        record = record_of(self._devices[udid].facts, outcome.track, at_ms, owed)
        transition = Transition(
            udid,
            outcome.previous,
            state,
            record.reason,
            at_ms=at_ms,
            holder=record.holder,
            code=record.code,
            cause=record.cause,
            port=record.port,
        )
        told = told_with(transition, tracked.stored, tellings)
        callbacks = self._commits.enter(record, transition, told, device)
        tracked.since_ms, tracked.stored, tracked.owed = at_ms, record, owed
        say(
            log.info,
            "device.transition",
            udid=udid,
            name=device.name,
            previous=said(outcome.previous),
            state=str(state),
            reason=transition.reason,
            code=transition.code,
            callbacks=callbacks,
            flapping=outcome.track.flapping,
            **({} if silence is None else {"silence": silence.id}),
        )

    def _settle(self, udid: str, tracked: Tracked, track: Track, now: float) -> bool:
        """Tell what was kept back, and who has waited, unless it is silenced; whether it did."""
        owed, state, hooks = tracked.owed, track.state, self._commits.outbox
        assert state is not None
        if owed.debt is None and not owed.by:
            return False
        pay = owed.debt is not None and (udid in self._to_pay or rests(track))
        waited_until = due(owed, state, hooks)
        waited = waited_until is not None and waited_until <= now
        if not pay and not waited:
            return False
        device = self._roster.device(udid)
        if self._silences.of(device) is not None:
            return False
        tracked.owed, tellings = settled(owed, state, now, hooks, pay=pay, late=True)
        record = record_of(self._devices[udid].facts, track, tracked.since_ms, tracked.owed)
        at_ms = self._clock.wall_ms()
        told = [(told_of(record, each.previous, at_ms), each.webhooks) for each in tellings]
        callbacks = self._commits.enter(record, None, told, device)
        tracked.stored = record
        paid = owed.debt if pay else None
        say(
            log.debug if paid is None else log.info,
            "device.told_after_wait" if paid is None else "device.told_after_silence",
            udid=udid,
            name=device.name,
            **({} if paid is None else {"previous": said(paid.before)}),
            state=str(state),
            callbacks=callbacks,
        )
        return True

    def refresh(self, udid: str, tracked: Tracked, track: Track) -> bool:
        """Keep the stored name, port and reason up to date where nothing else is to be stored."""
        record = record_of(self._devices[udid].facts, track, tracked.since_ms, tracked.owed)
        if tracked.stored is None or record == tracked.stored:
            return False
        self._commits.keep(record)
        tracked.stored = record
        return True


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _next_look(outcome: Step, now: float) -> float | None:
    """When to step again: at the latest when it asks to, and when the sources are to be asked."""
    if outcome.ask_at is None or outcome.ask_at <= now:
        return outcome.wake
    return outcome.ask_at if outcome.wake is None else min(outcome.wake, outcome.ask_at)
