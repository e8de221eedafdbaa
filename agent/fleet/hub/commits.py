"""What the board decides is stored, with its callbacks, before anybody learns of it.

One transaction for all that came of a slice of the hosts' logs: the devices, their transitions and
callbacks, what was told, and how far each log was taken. So a hub that dies goes on exactly there.

A little long, for what is owed is told in the same transactions.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import StoreError
from agent.fleet.hub.entry import Entry, record_of
from agent.fleet.hub.hosts import Presence
from agent.fleet.hub.message_ids import cause_of, late, message_id, stored_cause
from agent.fleet.hub.owing import Owing
from agent.fleet.hub.stored import gone_row, mark_row, position_row, told_row
from agent.model import Transition
from agent.store import Record
from agent.track.cause_list import CauseList
from agent.track.counts import Counts
from agent.track.derive import CALLS_BACK
from agent.track.records import told_of
from agent.track.silence_book import said, stored_debt
from agent.track.telling import say
from agent.track.waits import NOTHING, due, entered, known, owed_of, seen, settled, stored_waits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from agent.clock import Clock
    from agent.deliver.outbox import Outbox
    from agent.fleet.hub.board import Board, Decision
    from agent.fleet.hub.message_ids import Cause
    from agent.fleet.hub.stored import Mark, Position, Told
    from agent.model import Callback, Device, DeviceRecord
    from agent.store import FleetRow
    from agent.track.waits import Owed, Telling

log = structlog.get_logger(__name__)

UNDER_WAY: Final = 8
"""Transactions that wait for the disk; whoever has more waits until there are fewer."""


class Taker(Protocol):
    """What is needed of the store."""

    def take(
        self, rows: Sequence[FleetRow], records: Sequence[Record]
    ) -> Awaitable[tuple[Callback, ...]]:
        """Commit all or nothing; queued by the call, resolves when durable."""


@dataclass(slots=True)
class _Batch:
    """One transaction to be."""

    records: list[Record] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)
    unmarked: set[str] = field(default_factory=set)
    """Hosts that are known no more."""
    position: Position | None = None


class FleetCommits:
    """Gathers what is decided until `commit`, and tells of it once it is durable.

    Args:
        board: decides.
        entries: the devices, by UDID; kept here.
        device: as callbacks tell of it.
        store: where it is committed.
        outbox: which callbacks a transition makes.
        clock: of the process.
        notify: told of callbacks once they are durable, in order.
        stored: called whenever transitions became durable: it is to publish that alone.
        changed: called with each device whose view may have changed: likewise.
        durable: told of each log that was taken that far, to disk.
        refused: told of the hosts of which something was not stored, nor will be.
    """

    def __init__(
        self,
        board: Board,
        entries: dict[str, Entry],
        device: Callable[[str], Device],
        store: Taker,
        outbox: Outbox,
        clock: Clock,
        notify: Callable[[Sequence[Callback]], None],
        stored: Callable[[], None],
        changed: Callable[[str], None],
        durable: Callable[[Sequence[Mark]], None],
        refused: Callable[[Iterable[str]], None],
    ) -> None:
        self.outbox = outbox
        self.counts = Counts()
        self.causes = CauseList()
        self.entries = entries
        self.moves = 0
        """Phones that went to another host, since the start."""
        self._board = board
        self._device = device
        self._store = store
        self._clock = clock
        self._notify = notify
        self._stored = stored
        self._changed = changed
        self._durable = durable
        self._refused = refused
        self._batch = _Batch()
        self._owing = Owing(board.seen, clock.wall_ms())
        self._under_way: set[asyncio.Future[tuple[Callback, ...]]] = set()

    def restore(self, records: Iterable[DeviceRecord]) -> None:
        """As it was stored."""
        for record in records:
            if record.host:
                stored, stay = owed_of(record)
                owed = known(stored, self.outbox.webhooks.keys())
                self.entries[record.udid] = Entry(record, owed, cause_of(stay))
                self._owing.note(record.udid, owed, None)
                if owed is not stored:
                    self._owing.look_at(record.udid)  # its row is to forget them, too

    def reconfigure(self) -> None:
        """Other webhooks are in force: look at all that is owed anew."""
        webhooks = self.outbox.webhooks.keys()
        for key, entry in self.entries.items():
            if entry.owed.by or entry.owed.debt is not None:
                entry.owed = known(entry.owed, webhooks)
                self._owing.look_at(key)

    # --- gathered ---------------------------------------------------------------------------

    def enter(self, decisions: Iterable[Decision]) -> None:
        """These are decided."""
        for decision in decisions:
            if decision.moved_from:
                self.moves += 1
                say(
                    log.info,
                    "device.moved",
                    udid=decision.key,
                    before=decision.moved_from,
                    host=decision.told.host,
                )
            if decision.counts:
                self._transition(decision)
            else:
                self._keep(decision)
            if decision.key in self._owing and not self.is_silenced(decision.told):
                self._owing.look_at(decision.key)
        while self._board.touched:
            self._changed(self._board.touched.popitem()[0])

    def mark(self, mark: Mark) -> None:
        """A host's log is taken that far."""
        self._batch.marks[mark.host] = mark
        self._batch.unmarked.discard(mark.host)

    def unmark(self, host: str) -> None:
        """A host is known no more."""
        self._batch.marks.pop(host, None)
        self._batch.unmarked.add(host)

    def is_marked(self, host: str) -> bool:
        """Whether the store has it still, though it is known no more: it refused the change."""
        return host in self._batch.unmarked

    def read_to(self, position: Position) -> None:
        """So far the broker's stream was read."""
        self._batch.position = position

    def tick(self) -> None:
        """Time has passed: silences may have ended, and some may have waited for long enough."""
        shift = self._owing.tick(self._board.seen, self._clock.wall_ms())
        if shift:
            for key, entry in self.entries.items():
                if entry.owed.by or entry.owed.debt is not None:
                    since_ms = entry.owed.since_ms + shift
                    entry.owed = entry.owed._replace(since_ms=since_ms)
                    self._owing.look_at(key)

    def pay(self, until: float) -> bool:
        """What is due, or was kept back of devices that nothing silences any more, is told.

        Until that moment of `time.monotonic`; whether there is more.
        """
        while (key := self._owing.next()) is not None:
            self._settle(key)
            if time.monotonic() >= until:
                break
        return self._owing.has_next

    def commit(self) -> None:
        """All that was gathered is to be stored."""
        batch, self._batch = self._batch, _Batch()
        dirty, self._board.dirty = self._board.dirty, {}
        rows: list[FleetRow] = []
        for host, serial in dirty:
            word = self._board.word(host, serial)
            rows.append(gone_row(host, serial) if word is None else told_row(word))
        rows += map(mark_row, batch.marks.values())
        rows += (gone_row(host, "") for host in sorted(batch.unmarked))
        if not (rows or batch.records):
            return  # where the stream was read to comes with the next
        if batch.position is not None:
            rows.append(position_row(batch.position))
        taken = asyncio.ensure_future(self._store.take(rows, batch.records))
        self._under_way.add(taken)
        taken.add_done_callback(partial(self._committed, batch, tuple(dirty)))

    @property
    def full(self) -> bool:
        """Whether the disk has enough to do."""
        return len(self._under_way) >= UNDER_WAY

    async def room(self) -> None:
        """Return once it has less."""
        while self.full:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self) -> None:
        """Wait until everything handed over so far is durable (or the store has refused it)."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def again(self, marks: Iterable[Mark]) -> None:
        """The store was made anew, and may not know anything of this."""
        for told in self._board.words():
            self._board.dirty[told.host, told.device.udid] = None
        for mark in marks:
            self.mark(mark)
        self._batch.records += [Record(entry.record, None, ()) for entry in self.entries.values()]
        self.commit()

    def is_silenced(self, word: Told) -> bool:
        """Whether its callbacks are kept back now."""
        return word.silence is not None and word.silence.ends_ms > self._clock.wall_ms()

    # --- inside -----------------------------------------------------------------------------

    def _transition(self, decision: Decision) -> None:
        key, word = decision.key, decision.told
        entry = self.entries.get(key)
        at_ms, now = self._clock.wall_ms(), self._board.seen
        silenced = self.is_silenced(word)
        owed, tellings = entered(
            NOTHING if entry is None else self._known_of(entry),
            decision.previous,
            decision.state,
            now,
            at_ms,
            self.outbox,
            silenced=silenced,
        )
        before = None if entry is None else entry.record
        record = record_of(decision, before, at_ms, owed, decision.cause)
        transition = Transition(
            key,
            decision.previous,
            decision.state,
            record.reason,
            at_ms,
            record.holder,
            word.host,
            record.code,
            record.cause,
            record.port,
        )
        callbacks: list[Callback] = []
        for each in tellings:
            if each.late:
                assert entry is not None, "it was in that state"
                callbacks += self._late(entry, each, word, at_ms)
            else:
                told = replace(transition, previous=each.previous)
                callbacks += self._callbacks(told, each.webhooks, decision.cause)
        new = Entry(record, owed, decision.cause, now, word.device.flapping)
        self._put(new, transition, callbacks)
        self.counts.transitions[decision.state] += 1
        self.causes.take(transition)
        say(
            log.info,
            "device.transition",
            udid=key,
            host=word.host,
            previous=said(decision.previous),
            state=str(decision.state),
            reason=record.reason,
            code=record.code,
            callbacks=len(callbacks),
            **({"silence": word.silence.id} if silenced and word.silence is not None else {}),
        )

    def _keep(self, decision: Decision) -> None:
        """No transition: its row may be another one."""
        entry = self.entries.get(decision.key)
        since_ms = self._clock.wall_ms() if entry is None else entry.record.since_ms
        if entry is None:
            record = record_of(decision, None, since_ms, NOTHING, None)
            entry = Entry(record, looked=self._board.seen)
            self._put(replace(entry, flapping=decision.told.device.flapping), None, ())
            return
        record = record_of(decision, entry.record, since_ms, entry.owed, entry.stay)
        if entry.record != record or not entry.stored:
            flapping = decision.told.device.flapping
            self._put(replace(entry, record=record, flapping=flapping, stored=True), None, ())
        else:
            entry.flapping = decision.told.device.flapping
            self._changed(decision.key)

    def _settle(self, key: str) -> None:
        """Tell what is owed, as far as it can be now."""
        entry, word, phone = self.entries[key], self._board.of(key), self._board.phones[key]
        owed, now, state = self._known_of(entry), self._board.seen, entry.record.state
        if word is None:
            self._owing.hold(key)
            return
        host = self._board.hosts.get(phone.owner)
        there = host is not None and (host.caught_up or host.presence is Presence.GONE)
        if there and phone.pending is None and owed.since is None:
            owed, entry.looked = seen(owed, now, self._clock.wall_ms()), now
        entry.owed = owed
        pay = owed.debt is not None and phone.pending is None
        at = due(owed, state, self.outbox)
        waited = there and at is not None and at <= now
        if (pay or waited) and not self.is_silenced(word):
            self._tell_owed(entry, word, pay=pay, late=waited)
            return
        self._owing.note(key, owed, at)
        if at is not None and at <= now:
            self._owing.hold(key)
        waits = stored_waits(owed, stored_cause(entry.stay))
        if waits != entry.record.waits:
            self._put(replace(entry, record=replace(entry.record, waits=waits)), None, ())

    def _tell_owed(self, entry: Entry, word: Told, *, pay: bool, late: bool) -> None:
        before, record, at_ms = entry.owed, entry.record, self._clock.wall_ms()
        owed, tellings = settled(
            before, record.state, self._board.seen, self.outbox, pay=pay, late=late
        )
        callbacks: list[Callback] = []
        for each in tellings:
            if each.late:
                callbacks += self._late(entry, each, word, at_ms)
            else:
                told = told_of(record, each.previous, at_ms)
                cause = self._board.cause(word, f"silence:{word.used}")
                callbacks += self._callbacks(told, each.webhooks, cause)
        waits = stored_waits(owed, stored_cause(entry.stay))
        record = replace(record, debt=stored_debt(owed.debt), waits=waits)
        self._put(replace(entry, record=record, owed=owed, stored=True), None, callbacks)
        paid = before.debt if pay else None
        say(
            log.debug if paid is None else log.info,
            "device.told_after_wait" if paid is None else "device.told_after_silence",
            udid=record.udid,
            host=record.host,
            **({} if paid is None else {"previous": said(paid.before)}),
            state=str(record.state),
            callbacks=len(callbacks),
        )

    def _late(self, entry: Entry, each: Telling, word: Told, at_ms: int) -> Sequence[Callback]:
        """Of a stay that has lasted, by what began it: alike at every hub."""
        stay = entry.stay or self._board.cause(word, f"stay:{word.used}")
        return self._callbacks(
            told_of(entry.record, each.previous, at_ms), each.webhooks, late(stay)
        )

    def _known_of(self, entry: Entry) -> Owed:
        """What is owed of it; a host that was lost meanwhile has yet to say that it stayed."""
        host = self._board.hosts.get(entry.record.host)
        if host is not None and host.lost_at > entry.looked:
            return entry.owed._replace(since=None)
        return entry.owed

    def _put(
        self, entry: Entry, transition: Transition | None, callbacks: Sequence[Callback]
    ) -> None:
        record = entry.record
        self.entries[record.udid] = entry
        self._owing.note(record.udid, entry.owed, due(entry.owed, record.state, self.outbox))
        self._batch.records.append(Record(record, transition, tuple(callbacks)))
        self._changed(record.udid)

    def _callbacks(
        self, told: Transition, webhooks: Collection[int] | None, cause: Cause | None
    ) -> Sequence[Callback]:
        if cause is None or (told.previous, told.state) not in CALLS_BACK:
            return ()
        made = self.outbox.make(
            told, self._device(told.udid), webhooks, partial(message_id, cause, told.udid)
        )
        self.counts.lost += len(made.failed)
        for webhook, error in made.failed:
            say(
                log.error,
                "callback.not_made",
                webhook=webhook,
                udid=told.udid,
                state=str(told.state),
                exc_info=error,
            )
        return made.callbacks

    def _committed(
        self,
        batch: _Batch,
        dirty: Sequence[tuple[str, str]],
        taken: asyncio.Future[tuple[Callback, ...]],
    ) -> None:
        self._under_way.discard(taken)
        try:
            durable = taken.result()
        except StoreError as error:
            lost = sum(len(each.callbacks) for each in batch.records)
            self.counts.lost += lost
            hosts = {host for host, _ in dirty} | batch.marks.keys()
            say(
                log.error,  # the message says it all; no traceback for operators
                "store.refused",
                hosts=sorted(hosts),
                callbacks_lost=lost,
                error=str(error),
            )
            for each in batch.records:
                self.entries[each.device.udid].stored = False
            self._board.dirty |= dict.fromkeys(dirty)
            self._batch.unmarked |= batch.unmarked - self._batch.marks.keys()
            self._refused(hosts)
            return
        if any(each.transition is not None for each in batch.records):
            self._stored()
        if durable:
            self.counts.callbacks.update(callback.webhook_id for callback in durable)
            self._notify(durable)
        if batch.marks:
            self._durable(tuple(batch.marks.values()))
