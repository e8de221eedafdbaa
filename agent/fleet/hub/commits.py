"""What the board decides is stored, with its callbacks, before anybody learns of it.

One transaction for all that came of a slice of the hosts' logs: the devices, their transitions and
callbacks, what was told, and how far each log was taken. So a hub that dies goes on exactly there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import StoreError
from agent.fleet.hub.message_ids import message_id
from agent.fleet.hub.stored import gone_row, mark_row, position_row, told_row
from agent.model import DeviceRecord, Transition
from agent.reasons import Reason
from agent.store import Record
from agent.track.counts import Counts
from agent.track.derive import CALLS_BACK
from agent.track.silence_book import debt_after, debt_of, last_told, stored_debt
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from agent.clock import Clock
    from agent.deliver.outbox import Outbox
    from agent.fleet.hub.board import Board, Decision
    from agent.fleet.hub.message_ids import Cause
    from agent.fleet.hub.stored import Mark, Position, Told
    from agent.model import Callback, Device
    from agent.store import FleetRow
    from agent.track.silence_book import Debt

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
class Entry:
    """A device as it is stored, or about to be."""

    record: DeviceRecord
    debt: Debt | None = None
    flapping: bool = False
    stored: bool = True
    """Or about to be; else the store refused it."""


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
        self._owing: set[str] = set()
        """Devices of which something was kept back."""
        self._due: set[str] = set()
        """Of them, those that may be silenced no more."""
        self._under_way: set[asyncio.Future[tuple[Callback, ...]]] = set()

    def restore(self, records: Iterable[DeviceRecord]) -> None:
        """As it was stored."""
        for record in records:
            if record.host:
                entry = self.entries[record.udid] = Entry(record, debt_of(record))
                if entry.debt is not None:
                    self._owing.add(record.udid)

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
                self._due.add(decision.key)
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

    def look_at_silences(self) -> None:
        """Some may have ended by now."""
        self._due |= self._owing

    def pay(self) -> None:
        """What was kept back of devices that nothing silences any more is told."""
        due, self._due = sorted(self._due), set()
        for key in due:
            entry, word = self.entries[key], self._board.of(key)
            phone = self._board.phones[key]
            if entry.debt is None:
                self._owing.discard(key)
            elif word is not None and phone.pending is None and not self.is_silenced(word):
                self._pay(key, entry, entry.debt, word)

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
        debt = None if entry is None else entry.debt
        at_ms = self._clock.wall_ms()
        silenced = self.is_silenced(word)
        owed = debt_after(debt, decision.previous, decision.state, silenced=silenced)
        record = self._record(decision, at_ms, owed)
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
        callbacks: Sequence[Callback] = ()
        if not silenced:
            before = last_told(debt, decision.previous)
            told = transition if debt is None else replace(transition, previous=before)
            callbacks = self._callbacks(told, decision.cause)
        self._put(record, owed, word, transition, callbacks)
        self.counts.transitions[decision.state] += 1
        say(
            log.info,
            "device.transition",
            udid=key,
            host=word.host,
            previous=str(decision.previous or "never seen"),
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
        debt = None if entry is None else entry.debt
        record = self._record(decision, since_ms, debt)
        if entry is None or entry.record != record or not entry.stored:
            self._put(record, debt, decision.told, None, ())
        else:
            entry.flapping = decision.told.device.flapping
            self._changed(decision.key)

    def _pay(self, key: str, entry: Entry, debt: Debt, word: Told) -> None:
        record = entry.record
        told = Transition(
            key,
            debt.before,
            record.state,
            record.reason,
            self._clock.wall_ms(),
            record.holder,
            record.host,
            record.code,
            record.cause,
            record.port,
        )
        callbacks = self._callbacks(told, self._board.cause(word, f"silence:{word.used}"))
        self._owing.discard(key)
        self._put(replace(record, debt=""), None, word, None, callbacks)
        say(
            log.info,
            "device.told_after_silence",
            udid=key,
            host=record.host,
            previous=str(debt.before or "never seen"),
            state=str(record.state),
            callbacks=len(callbacks),
        )

    def _record(self, decision: Decision, at_ms: int, debt: Debt | None) -> DeviceRecord:
        word, known = decision.told.device, self.entries.get(decision.key)
        before = None if known is None else known.record
        if decision.reason is not None:
            reason = decision.reason
        else:
            reason = Reason(before.reason, before.code) if before else Reason()
        holder, cause = decision.holder, decision.told_cause
        told = word.state is decision.state and 0 < word.since_ms < at_ms
        return DeviceRecord(
            decision.key,
            word.platform,
            decision.state,
            word.since_ms if told else at_ms,
            name=word.name,
            model=word.model,
            port=word.port,
            reason=reason.text,
            holder=(before.holder if before else "") if holder is None else holder,
            serial=word.udid if word.udid != decision.key else "",
            debt=stored_debt(debt),
            host=decision.told.host,
            code=str(reason.code),
            cause=(before.cause if before else "") if cause is None else cause,
        )

    def _put(
        self,
        record: DeviceRecord,
        debt: Debt | None,
        word: Told,
        transition: Transition | None,
        callbacks: Sequence[Callback],
    ) -> None:
        self.entries[record.udid] = Entry(record, debt, word.device.flapping)
        if debt is not None:
            self._owing.add(record.udid)
        self._batch.records.append(Record(record, transition, tuple(callbacks)))
        self._changed(record.udid)

    def _callbacks(self, told: Transition, cause: Cause | None) -> Sequence[Callback]:
        if cause is None or (told.previous, told.state) not in CALLS_BACK:
            return ()
        made = self.outbox.make(
            told, self._device(told.udid), partial(message_id, cause, told.udid)
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
