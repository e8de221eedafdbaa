"""The way from an observation to a stored transition: identify → derive → commit → hand on.

One object on the event loop, called by the sources (`observe`), by usage (`use`) and by its own
timer. It decides nothing itself: who a phone is stands in `identity`, what state it is in stands in
`derive`, which webhook wants to know stands in `deliver.route`. Between a reading and the call of
`Store.record` there is no await, so the store commits in the order of what was seen.

A transition is handed to the store before anything else learns of it, and a device's track goes on
only once it was: whatever fails on the way (a log that cannot be written, a watcher, a mistake in
here) costs no transition. A step that fails is tried again after `RETRY`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from agent.deliver.payload import new_message_id, render
from agent.deliver.route import wants
from agent.errors import StoreError
from agent.model import (
    Callback,
    Device,
    DeviceRecord,
    DeviceState,
    Observation,
    Platform,
    Readings,
    Snapshot,
    SourceName,
    Transition,
    Usage,
    UsageReading,
    Visibility,
)
from agent.track.derive import CALLS_BACK, Policy, Step, Track, is_here, quiet, step
from agent.track.identity import BRIDGE_OF, Identities, Known
from agent.track.pace import Pace, Questions
from agent.udid import alike
from agent.usage.base import Phone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from agent.config import Config, DeviceEntry, Webhook
    from agent.track.pace import Clocks

log = structlog.get_logger(__name__)

RETRY = 1.0
"""Seconds after which a device is looked at again whose step failed."""
SLICE = 0.02
"""Seconds of deriving in one turn of the loop; a thousand phones of a hundred webhooks take 3 s."""
GAP_TOLD = 2.0
"""Seconds that the process must have stood still for it to be told; a busy machine is no news."""
ASK_LIMIT = 2.5
"""Seconds that a state waits for the sources' last word when its hold is over, at most."""


class Recorder(Protocol):
    """What the pipeline needs of the store."""

    def record(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: Sequence[Callback],
    ) -> Awaitable[tuple[Callback, ...]]:
        """Commit all or nothing; queued by the call, resolves when durable."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device as operators see it."""

    udid: str
    name: str
    platform: Platform | None
    state: DeviceState
    reason: str
    since_ms: int
    holder: str
    port: str
    tags: tuple[str, ...]
    visibility: Visibility
    flapping: bool
    model: str


@dataclass(slots=True)
class Counts:
    """What has happened since the start."""

    transitions: Counter[DeviceState] = field(default_factory=Counter)
    """By the new state."""
    flaps: int = 0
    """Times a device began to flap."""
    callbacks: Counter[int] = field(default_factory=Counter)
    """Made and durable, by webhook."""
    lost: int = 0
    """Callbacks that the store refused."""
    reconnects: Counter[SourceName] = field(default_factory=Counter)
    """Times a source saw again after it could not."""


@dataclass(frozen=True, slots=True)
class Census:
    """The devices that are shown, now."""

    states: dict[tuple[Platform | None, DeviceState], int]
    flapping: int


@dataclass(slots=True)
class _Tracked:
    track: Track = field(default_factory=Track)
    usage: UsageReading = field(default_factory=UsageReading)
    since_ms: int = 0
    stored: DeviceRecord | None = None
    ask_at: float | None = None
    """From when on the sources must have been asked before its candidate counts."""
    due_since: float | None = None
    """Since when its candidate would count, and waits for their answers."""


class Pipeline:
    """Owns what is known of every device. All methods run on the event loop's thread.

    Args:
        config: the one in force.
        webhooks: by id, ids resolved.
        records: the devices as stored, at the start.
        store: where transitions are committed.
        notify: told of callbacks once they are durable, in order.
        clocks: monotonic seconds, wall milliseconds, a timer.
        host: this host's name, for payloads that carry it.
        recheck: has a source tell the whole truth anew; see `pace.Questions`.
        on_seen: called once every source has spoken; who takes it calls `settle`. By default
            deriving starts at once.
    """

    def __init__(
        self,
        config: Config,
        webhooks: Mapping[int, Webhook],
        records: Iterable[DeviceRecord],
        store: Recorder,
        notify: Callable[[Sequence[Callback]], None],
        clocks: Clocks,
        host: str,
        recheck: Callable[[SourceName], Awaitable[None] | None],
        on_seen: Callable[[], None] | None = None,
    ) -> None:
        self._config = config
        self._webhooks = dict(webhooks)
        self._store = store
        self._notify = notify
        self._clocks = clocks
        self._host = host
        self._policy = policy_of(config)
        self._platforms = platforms_of(config)
        self._tracked: dict[str, _Tracked] = {}
        self._pace = Pace(clocks, self._step_all, self._on_gap)
        self._questions = Questions(self._pace, recheck, self._count_due)
        self._due: set[str] = set()
        self._to_step: set[str] = set()
        self._stepping = False
        self._slice: asyncio.TimerHandle | None = None
        self._commits: set[asyncio.Future[Any]] = set()
        self._on_seen = on_seen or self.settle
        self._seen = False
        self._names: _Names | None = None
        self._settled = False
        self._stopped = False
        self._settling = asyncio.Event()
        self._watchers: list[Callable[[str], None]] = []
        self._stored_watchers: list[Callable[[], None]] = []
        self._rename_watchers: list[Callable[[str, str], None]] = []
        self.counts = Counts()
        records = list(records)
        self._identities = Identities(
            sources=sources_of(config),
            known=map(_known, records),
            remote=remote_bridges(config),
            network=networks_of(config),
        )
        for record in records:
            self._tracked[record.udid] = _Tracked(
                _restored(record),
                since_ms=record.since_ms,
                stored=record,
            )
        self._know_listed()

    # --- input -----------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        """Take what a source saw."""
        self._pace.now()  # first of all: a gap is to be noticed before what is said after it
        source = observation.source
        if isinstance(observation, Snapshot) and source not in self._identities.waiting:
            self.counts.reconnects[source] += source in self._identities.down
        touched = self._identities.apply(observation)
        self._names = None
        self._follow_renames()
        if self._settled:
            self._step_all(touched)
        elif self._identities.settled and not self._seen:
            self._seen = True
            self._on_seen()

    def use(self, udid: str, reading: UsageReading) -> None:
        """Take what the usage sources, fused, say of one device."""
        tracked = self._tracked.setdefault(udid, _Tracked())
        if tracked.usage != reading:
            tracked.usage = reading
            if self._settled:
                self._step_all({udid})

    def settle(self) -> None:
        """Start deriving: every source has spoken, or the start-up limit has passed."""
        if self._settled:
            return
        silent = self._identities.waiting
        if silent:
            log.warning("start.limit", silent=sorted(silent), hint="their readings are unknown")
            self._identities.give_up_waiting()
        self._settled = True
        self._step_all(self._identities.udids)  # the end of which says that it is settled

    def reconfigure(self, config: Config, webhooks: Mapping[int, Webhook]) -> None:
        """Take a new configuration; a source whose settings changed is restarted by the caller.

        A phone that nothing can see any more, because what saw it is turned off, is shown no more,
        and makes no transition.
        """
        before = {udid for udid in self._identities.udids if self._shown(udid)}
        self._config = config
        self._webhooks = dict(webhooks)
        self._policy = policy_of(config)
        self._platforms = platforms_of(config)
        touched = self._identities.reconfigure(
            sources=sources_of(config), remote=remote_bridges(config), network=networks_of(config)
        )
        self._names = None
        self._know_listed()
        self._follow_renames()
        if self._settled:
            self._step_all(self._identities.udids)
        for udid in touched:
            tracked = self._tracked.get(udid)
            if tracked is not None and tracked.stored is not None and not self._derives(udid):
                # A restart, too, is to know that nothing that is turned on has seen it.
                self._refresh(udid, tracked, tracked.track)
        after = {udid for udid in self._identities.udids if self._shown(udid)}
        for udid in before ^ after:
            self._show(udid)

    # --- output ----------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether states are derived yet."""
        return self._settled

    async def wait_settled(self) -> None:
        """Return once states are derived."""
        await self._settling.wait()

    @property
    def down(self) -> dict[SourceName, str]:
        """The sources that cannot see, each with its reason."""
        return self._identities.down

    @property
    def waiting(self) -> frozenset[SourceName]:
        """The sources that have not said anything since the start."""
        return self._identities.waiting

    def overdue(self) -> float:
        """Seconds by which the next timed decision is late; 0 when all is well."""
        return self._pace.overdue()

    def views(self) -> list[DeviceView]:
        """Every device that is shown: known to the sources or listed, and not ignored."""
        return [self._view(udid) for udid in sorted(self._identities.udids) if self._shown(udid)]

    def udids(self) -> list[str]:
        """Of every device that is known, whether it is shown or not."""
        return sorted(self._identities.udids)

    def census(self) -> Census:
        """How many devices are shown in which state."""
        states: Counter[tuple[Platform | None, DeviceState]] = Counter()
        flapping = 0
        for udid in self._identities.udids:
            if self._shown(udid):
                tracked = self._tracked.get(udid)
                track = tracked.track if tracked else _UNSEEN
                state = self._shown_state(udid, track)
                states[self._identities.facts(udid).platform, state] += 1
                flapping += track.flapping
        return Census(states, flapping)

    def view(self, udid: str) -> DeviceView | None:
        """One device by its exact UDID."""
        if udid not in self._identities or not self._shown(udid):
            return None
        return self._view(udid)

    def phones(self) -> tuple[Phone, ...]:
        """The devices that are not unplugged, as the usage sources ask for them."""
        found = []
        for udid in self._identities.udids:
            platform = self._identities.facts(udid).platform
            here = is_here(self._identities.readings(udid))
            if platform is not None and here and self._derives(udid):
                found.append(Phone(udid, platform, self._identities.reached(udid)))
        return tuple(found)

    def find(self, name: str) -> str | None:
        """The UDID of the device that some tool calls so: its UDID, or its address.

        Letter case and dashes do not matter. None: no device of ours, or more than one.
        """
        found = self.named(name)
        if len(found) > 1:  # of twins the one that is there: adb, too, takes it for the one meant
            found = tuple(udid for udid in found if self._identities.is_seen(udid))
        return found[0] if len(found) == 1 else None

    def named(self, name: str) -> tuple[str, ...]:
        """The UDIDs of the devices that a name means: its very spelling, else whatever the case.

        The serial of twins means both.
        """
        if self._names is None:
            self._names = _Names(
                (udid, {udid, *self._identities.aliases(udid), self._identities.reached(udid)})
                for udid in self._identities.udids
            )
        return self._names.find(name)

    def readings(self, udid: str) -> Readings:
        """What all sources together say now of one device that `view` knows."""
        return self._readings(udid, self._tracked.get(udid) or _Tracked())

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call the watcher with the UDID at every change of a device's view, its end included."""
        self._watchers.append(watcher)

    def watch_stored(self, watcher: Callable[[], None]) -> None:
        """Call the watcher whenever stored transitions came or were put under another UDID."""
        self._stored_watchers.append(watcher)

    def watch_renames(self, watcher: Callable[[str, str], None]) -> None:
        """Call the watcher with (old, new) whenever a device gets another UDID.

        Its usage, as it was told to `use`, has gone over to the new one by then.
        """
        self._rename_watchers.append(watcher)

    def store_again(self) -> None:
        """Store every device's last state anew: the store was made anew, and may not know it."""
        for tracked in self._tracked.values():
            if tracked.stored is not None:
                self._commit(tracked.stored, None, [])

    async def drain(self) -> None:
        """Wait until everything decided so far is durable (or the store has refused it)."""
        while self._commits:
            await asyncio.wait(self._commits)

    def stop(self) -> None:
        """Decide nothing more, whatever is said from now on: the agent stops."""
        self._stopped = True
        if self._slice is not None:
            self._slice.cancel()
        self._pace.close()
        self._questions.close()

    async def close(self) -> None:
        """`stop`, and `drain`."""
        self.stop()
        await self.drain()

    # --- inside ----------------------------------------------------------------------------

    def _know_listed(self) -> None:
        for udid in self._identities.know_listed(entry.udid for entry in self._config.devices):
            self._tracked.pop(udid, None)
            self._show(udid)
        self._names = None

    def _follow_renames(self) -> None:
        """What was known of a phone under a name that no transition told goes to its new one."""
        for old, new in self._identities.take_renames():
            log.info("identity.renamed", udid=new, before=old)
            tracked = self._tracked.pop(old, None)
            known = self._tracked.get(new)
            if tracked is not None and known is None:
                self._tracked[new] = tracked
                self._pace.move(old, new)
                if old in self._due:
                    self._due.add(new)
            elif tracked is not None and known is not None and known.usage == UsageReading():
                known.usage = tracked.usage
            self._pace.wake(old, None)
            self._due.discard(old)
            if old in self._to_step:
                self._to_step.add(new)
            for watcher in self._rename_watchers:
                watcher(old, new)
            self._show(old)

    def _step_all(self, udids: Iterable[str]) -> None:
        """Derive these anew: now, or in the next turns of the loop where they are too many."""
        if self._stopped:
            return
        self._to_step.update(udids)
        if self._slice is None and not self._stepping:
            self._step_some()

    def _step_some(self) -> None:
        """One slice of it: a rack that comes back must not hold up everything else meanwhile."""
        self._slice = None
        if self._stopped:
            return
        self._stepping = True
        now = self._pace.now()
        end = self._clocks.monotonic() + SLICE
        forgotten = False
        try:
            while self._to_step:
                for udid in sorted(self._to_step):
                    self._to_step.discard(udid)
                    self._step_one(udid, now)
                    forgotten = forgotten or udid not in self._identities
                    if self._clocks.monotonic() >= end:
                        break
                else:
                    continue  # those that came meanwhile
                break
        finally:
            self._stepping = False
        if forgotten:
            self._know_listed()
        self._pace.arm(now)
        if self._to_step:
            self._slice = self._clocks.call_later(0, self._step_some)
        elif self._settled:
            self._settling.set()

    def _step_one(self, udid: str, now: float) -> None:
        try:
            if self._derives(udid):
                self._step(udid, now)
            else:
                self._rest(udid)
        except Exception:  # noqa: BLE001 - said, and tried again; the others' steps go on
            self._pace.wake(udid, now + RETRY)
            _say(log.exception, "device.step_failed", udid=udid, retry_in_s=RETRY)

    def _step(self, udid: str, now: float) -> None:
        tracked = self._tracked.setdefault(udid, _Tracked())
        before = tracked.track
        outcome = step(before, self._readings(udid, tracked), now, self._policy)
        if self._waits_for_answers(udid, tracked, outcome, now):
            return
        changed = self._take(udid, tracked, outcome)
        tracked.ask_at = outcome.ask_at
        self._pace.wake(udid, _next_look(outcome, now))
        if outcome.ask_at is not None and now >= outcome.ask_at:
            self._questions.ask(self._who_can_tell(udid), outcome.ask_at)
        if tracked.track.state is None and outcome.wake is None:
            # Gone before it ever counted: a key that another, better one replaced (a serial that
            # could not be read at first), or a phone that was plugged in for a moment.
            self._identities.forget(udid)
            changed = True
        if changed:
            self._show(udid)

    def _take(self, udid: str, tracked: _Tracked, outcome: Step) -> bool:
        """Go on to the new track, and store what is to be stored; returns whether it differs."""
        before = tracked.track
        refreshed = False
        if outcome.entered is not None:
            self._enter(udid, tracked, outcome)
        elif outcome.track.state is not None:
            refreshed = self._refresh(udid, tracked, outcome.track)
        tracked.track = outcome.track
        self.counts.flaps += outcome.track.flapping and not before.flapping
        return refreshed or outcome.track is not before

    def _rest(self, udid: str) -> None:
        """Its states are not derived (any more): nothing of it is under way."""
        tracked = self._tracked.get(udid)
        if tracked is None or udid not in self._identities:
            return
        self._pace.wake(udid, None)
        self._due.discard(udid)
        tracked.track, tracked.ask_at, tracked.due_since = quiet(tracked.track), None, None

    def _waits_for_answers(self, udid: str, tracked: _Tracked, outcome: Step, now: float) -> bool:
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
        platform = self._identities.facts(udid).platform
        assert platform is not None, "states are derived for phones of known platforms alone"
        on = sources_of(self._config)
        return [source for source in (SourceName.UDEV, BRIDGE_OF[platform]) if source in on]

    def _count_due(self) -> None:
        """A source has answered: those whose transition waited for that may go on."""
        self._step_all(set(self._due))

    def _on_gap(self, seconds: float) -> None:
        """Nobody looked for so long: the sources have to speak before anything counts."""
        self._questions.forget()
        if seconds >= GAP_TOLD:
            _say(
                log.warning,
                "pipeline.gap",
                seconds=round(seconds, 1),
                hint="the process stood still: the sources are asked anew before anything counts",
            )

    def _readings(self, udid: str, tracked: _Tracked) -> Readings:
        return replace(
            self._identities.readings(udid),
            usage=tracked.usage.usage,
            usage_reason=tracked.usage.reason,
            holder=tracked.usage.holder,
        )

    def _enter(self, udid: str, tracked: _Tracked, outcome: Step) -> None:
        """A transition counts: store it, with one callback for each webhook that wants it."""
        state = outcome.entered
        assert state is not None
        at_ms = self._clocks.wall_ms()
        self._identities.count(udid, there=state is not DeviceState.UNPLUGGED)
        device = self._device(udid)
        transition = Transition(
            udid,
            outcome.previous,
            state,
            reason=outcome.track.reason,
            at_ms=at_ms,
            holder=outcome.track.holder,
        )
        record = self._record(udid, outcome.track, at_ms)
        callbacks = self._callbacks(transition, device)
        self._commit(record, transition, callbacks)
        tracked.since_ms, tracked.stored = at_ms, record
        self.counts.transitions[state] += 1
        _say(
            log.info,
            "device.transition",
            udid=udid,
            name=device.name,
            previous=str(outcome.previous or "never seen"),
            state=str(state),
            reason=transition.reason,
            callbacks=len(callbacks),
            flapping=outcome.track.flapping,
        )

    def _callbacks(self, transition: Transition, device: Device) -> list[Callback]:
        if (transition.previous, transition.state) not in CALLS_BACK:
            return []
        callbacks = []
        for webhook_id, webhook in self._webhooks.items():
            try:
                callback = self._callback(transition, device, webhook_id, webhook)
            except Exception:  # noqa: BLE001 - said; it costs that webhook's callback alone
                self.counts.lost += 1
                _say(
                    log.exception,
                    "callback.not_made",
                    webhook=webhook.name,
                    udid=device.udid,
                    state=str(transition.state),
                )
            else:
                if callback is not None:
                    callbacks.append(callback)
        return callbacks

    def _callback(
        self, transition: Transition, device: Device, webhook_id: int, webhook: Webhook
    ) -> Callback | None:
        """What that webhook is sent; None: it does not want it."""
        if not wants(webhook, device, transition.state):
            return None
        message_id = new_message_id()
        body, headers = render(
            transition,
            device,
            webhook,
            org_id=self._config.org_of(webhook),
            message_id=message_id,
            created_ms=transition.at_ms,
            host=self._host,
        )
        return Callback(
            message_id,
            webhook_id,
            device.udid,
            transition.at_ms,
            body,
            headers,
            state=transition.state,
        )

    def _refresh(self, udid: str, tracked: _Tracked, track: Track) -> bool:
        """Keep the stored name, port and reason up to date where nothing else is to be stored."""
        record = self._record(udid, track, tracked.since_ms)
        if tracked.stored is None or record == tracked.stored:
            return False
        self._commit(record, None, [])
        tracked.stored = record
        return True

    def _commit(
        self, record: DeviceRecord, transition: Transition | None, callbacks: list[Callback]
    ) -> None:
        # Queued here and now: the store's order is the order of what was seen.
        stored = asyncio.ensure_future(self._store.record(record, transition, callbacks))
        self._commits.add(stored)
        stored.add_done_callback(partial(self._committed, record, transition, len(callbacks)))

    def _committed(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: int,
        stored: asyncio.Future[tuple[Callback, ...]],
    ) -> None:
        self._commits.discard(stored)
        try:
            durable = stored.result()
        except StoreError as error:
            self.counts.lost += callbacks
            _say(
                log.error,  # the message says it all; no traceback for operators
                "store.refused",
                udid=record.udid,
                state=str(record.state),
                callbacks_lost=callbacks,
                error=str(error),
            )
            return
        if durable:
            self.counts.callbacks.update(callback.webhook_id for callback in durable)
            _tell([self._notify], durable)
        if transition is not None:
            self._tell_stored()

    def _derives(self, udid: str) -> bool:
        """Whether states are derived for that device: seen, named, enabled, and not ignored."""
        if udid not in self._identities or self._identities.is_nameless(udid):
            return False
        facts = self._identities.facts(udid)
        return facts.platform in self._platforms and self._shown(udid)

    def _shown(self, udid: str) -> bool:
        return not self._is_off(udid) and self._visibility(udid) is not Visibility.IGNORE

    def _is_off(self, udid: str) -> bool:
        """Whether what could tell of it is turned off: its state is kept, and nobody's business."""
        platform = self._identities.facts(udid).platform
        if platform is not None and platform not in self._platforms:
            return True
        tracked = self._tracked.get(udid)
        state = tracked.track.state if tracked is not None else None
        return state not in {None, DeviceState.UNPLUGGED} and self._identities.is_hidden(udid)

    def _entry(self, udid: str) -> DeviceEntry | None:
        """What the file says of the device: of its UDID, else of its address or serial."""
        if not self._config.devices:
            return None
        names = (udid, *self._identities.aliases(udid))
        return next((entry for name in names if (entry := self._config.device(name))), None)

    def _visibility(self, udid: str) -> Visibility:
        entry = self._entry(udid)
        if entry is not None:
            # Listing a phone is a wish to see it, even where unlisted ones are left out.
            if entry.visibility is not None:
                return entry.visibility
            if self._config.discovery.visibility is Visibility.IGNORE:
                return Visibility.PRIVATE
        return self._config.discovery.visibility

    def _device(self, udid: str) -> Device:
        facts = self._identities.facts(udid)
        entry = self._entry(udid)
        own = facts.name or facts.model
        return Device(
            udid,
            facts.platform or Platform.ANDROID,
            name=(entry.name if entry else "") or own or udid,
            model=facts.model,
            port=facts.port,
            tags=entry.tags if entry else (),
            visibility=self._visibility(udid),
            aliases=self._identities.aliases(udid),
        )

    def _record(self, udid: str, track: Track, since_ms: int) -> DeviceRecord:
        facts = self._identities.facts(udid)
        assert facts.platform is not None
        assert track.state is not None
        return DeviceRecord(
            udid,
            facts.platform,
            track.state,
            since_ms,
            name=facts.name,
            model=facts.model,
            port=facts.port,
            reason=track.reason,
            holder=track.holder,
            path=facts.path,
            address=facts.address,
            serial=facts.serial if facts.serial != udid else "",
            shared=facts.shared_serial,
            ways=facts.ways,
        )

    def _view(self, udid: str) -> DeviceView:
        facts = self._identities.facts(udid)
        device = self._device(udid)
        tracked = self._tracked.get(udid) or _Tracked()
        track = tracked.track
        reason, holder = track.reason, track.holder
        if track.state is None:
            reason = reason or "just appeared: not counted yet"
            if facts.platform is None:
                reason = "never seen"
            elif self._identities.is_nameless(udid):
                reason = f"{NAMELESS} (serial {facts.serial})"
        if track.state is not DeviceState.UTILIZING and tracked.usage.usage is Usage.IN_USE:
            # Not a state of its own, but whoever asks for the phone is refused with that name.
            holder = tracked.usage.holder
            reason = "; ".join(filter(None, (reason, f"held by {holder}")))
        if facts.shared_serial:
            reason = "; ".join(filter(None, (reason, "its serial is shared by another phone")))
        if facts.address == udid and not facts.serial:
            reason = "; ".join(
                filter(None, (reason, "shown by its address: it told no serial yet"))
            )
        return DeviceView(
            udid,
            device.name,
            facts.platform,
            self._shown_state(udid, track),
            reason,
            tracked.since_ms,
            holder,
            facts.port,
            device.tags,
            device.visibility,
            track.flapping,
            facts.model,
        )

    def _shown_state(self, udid: str, track: Track) -> DeviceState:
        there = track.there or self._identities.is_nameless(udid)
        unseen = DeviceState.OFFLINE if there else DeviceState.UNPLUGGED
        return track.state or track.candidate or unseen

    def _show(self, udid: str) -> None:
        _tell(self._watchers, udid)

    def _tell_stored(self) -> None:
        _tell(self._stored_watchers)


_UNSEEN = Track()
NAMELESS = (
    "adb lists another phone of this serial and names no USB port: nothing tells the two apart, so "
    "its states are not told; give one of them another serial, or another adb server"
)
"""Why a phone is shown and its states are not derived."""


def _next_look(outcome: Step, now: float) -> float | None:
    """When to step again: at the latest when it asks to, and when the sources are to be asked."""
    if outcome.ask_at is None or outcome.ask_at <= now:
        return outcome.wake
    return outcome.ask_at if outcome.wake is None else min(outcome.wake, outcome.ask_at)


def _say(write: Callable[..., Any], event: str, **keys: object) -> None:
    """Log it. Where that fails (a pipe without a reader, a full disk) nothing else may fail."""
    with contextlib.suppress(Exception):
        write(event, **keys)


def _tell(watchers: Iterable[Callable[..., None]], *what: object) -> None:
    """Call each of them; one that fails harms nobody else, and is said."""
    for watcher in watchers:
        try:
            watcher(*what)
        except Exception:  # noqa: BLE001 - said
            _say(log.exception, "watcher.failed", watcher=repr(watcher))


class _Names:
    """Which devices a name means."""

    def __init__(self, devices: Iterable[tuple[str, set[str]]]) -> None:
        self._exact: defaultdict[str, list[str]] = defaultdict(list)
        for udid, names in devices:
            for name in names - {""}:
                self._exact[name].append(udid)
        self._folded: dict[str, set[str]] | None = None

    def find(self, name: str) -> tuple[str, ...]:
        """The very spelling goes before a likeness."""
        exact = self._exact.get(name.strip())
        return tuple(exact) if exact else tuple(sorted(self._alike.get(alike(name), ())))

    @property
    def _alike(self) -> dict[str, set[str]]:
        """Made only when it is asked for: it takes its time."""
        if self._folded is None:
            self._folded = {}
            for name, udids in self._exact.items():
                self._folded.setdefault(alike(name), set()).update(udids)
        return self._folded


def policy_of(config: Config) -> Policy:
    """The hold and grace times of a configuration."""
    return Policy(
        hold_online=config.hold.online,
        hold_offline=config.hold.offline,
        hold_utilizing=config.hold.utilizing,
        hold_unplugged=config.hold.unplugged,
        arrival=config.hold.arrival,
        source_grace=config.hold.source_grace,
        usage_grace=config.hold.usage_grace,
        flap_transitions=config.flap.transitions,
        flap_window=config.flap.window,
        flap_hold=config.flap.hold,
    )


def sources_of(config: Config) -> list[SourceName]:
    """The sources a configuration turns on."""
    return [
        name
        for name, on in (
            (SourceName.UDEV, config.usb.enabled),
            (SourceName.ADB, config.android.enabled),
            (SourceName.USBMUX, config.ios.enabled),
        )
        if on
    ]


def platforms_of(config: Config) -> frozenset[Platform]:
    """The platforms a configuration turns on."""
    on = {Platform.ANDROID: config.android.enabled, Platform.IOS: config.ios.enabled}
    return frozenset(platform for platform, enabled in on.items() if enabled)


def networks_of(config: Config) -> frozenset[SourceName]:
    """The sources whose phones on the network are wanted."""
    wanted = {
        SourceName.ADB: config.android.network_devices,
        SourceName.USBMUX: config.ios.network_devices,
    }
    return frozenset(source for source, on in wanted.items() if on)


def remote_bridges(config: Config) -> frozenset[SourceName]:
    """The bridges whose servers run on other hosts, where this host's udev cannot see.

    This host's usbmuxd listens at a path. Whatever answers at HOST:PORT is a tunnel's end, or in a
    container, be it this host's own address.
    """
    local = {
        SourceName.ADB: adb_is_local(config),
        SourceName.USBMUX: "/" in config.ios.usbmuxd or ":" not in config.ios.usbmuxd,
    }
    return frozenset(source for source, here in local.items() if not here)


def adb_is_local(config: Config) -> bool:
    """Whether the adb server runs on this host, so that its USB phones are udev's too."""
    return _is_here(config.android.adb_server)


def _is_here(server: str) -> bool:
    """Whether `HOST:PORT`, or the path of a socket, is on this host.

    A forwarded port looks as if it was: what answers there is believed all the same, see
    `Identities`.
    """
    host, colon, _ = server.rpartition(":")
    if "/" in server or not colon:
        return True
    host = host.strip("[]").casefold()
    if host in {"", "localhost", "ip6-localhost", socket.gethostname().casefold()}:
        return True
    return host.endswith((".localhost", ".localdomain")) or _is_own_address(host)


def _is_own_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False  # a name: nobody is asked for its address
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # only an address of this host's own can be bound
    except OSError:
        return False
    return True


def _restored(record: DeviceRecord) -> Track:
    """A use that lasted when the agent stopped is the last known one until a source speaks."""
    in_use = record.state is DeviceState.UTILIZING
    return Track(
        state=record.state,
        reason=record.reason,
        holder=record.holder,
        usage=Usage.IN_USE if in_use else Usage.IDLE,
        usage_holder=record.holder if in_use else "",
    )


def _known(record: DeviceRecord) -> Known:
    return Known(
        record.udid,
        record.platform,
        record.port,
        record.name,
        record.model,
        path=record.path,
        address=record.address,
        serial=record.serial,
        shared=record.shared,
        ways=record.ways,
        there=record.state is not DeviceState.UNPLUGGED,
        since_ms=record.since_ms,
    )
