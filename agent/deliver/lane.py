"""What waits for one webhook: a lane for each device. Pure: rows and `now` in, who is next out.

A *lane* is one (webhook, device). The store holds its pending callbacks; in memory it holds at
most PREFETCH of them, or none and the mark `more`: ask the store. A lane is in exactly one stage:

    READY    in its webhook's queue, waiting for one of the webhook's slots
    BUSY     a task loads its head and sends it, then the store makes the outcome durable
    WAITING  its head failed; its webhook's timer makes it READY again

and is forgotten when nothing is pending.

**Nothing grows with what waits.** Python's garbage collector looks through every object that may be
part of a cycle, with the loop standing still meanwhile; a hundred webhooks that are down have a
hundred thousand lanes. So a lane that holds nothing is *parked*: a tuple of numbers in its webhook,
which the collector passes over, and has no timer of its own. From `Memory.limit` callbacks on lanes
take none as they come, and load FEWEST; of a failing webhook none are taken at all.

**Order, under notifications racing loads.** Rows get their rowids in commit order, and within one
lane they are notified in that order, after the commit. Then:

1. While a lane is known and not `more`, its list is exactly its pending rows committed and
   notified so far, in order, without the head in flight: a row above `tail` is appended; if the
   list is full, or while the lane is `more`, the row is not taken, and `more` brings it later.
2. A load asks for the lane's *first* pending rows, not for those behind some position. It runs
   only in stage BUSY with an empty list, after the previous head's outcome is durable, so what
   it returns starts with the true head. A row committed after the load has read, but notified
   before the load returns, is above its last row: `seen` tells, and the lane stays `more`. A row
   notified after the load returned, but that the load already read, is at or below `tail`: it is
   found in the list, or it was sent already and the lane is loaded anew, which finds only what is
   pending. Either way nothing is sent twice, left out or overtaken.
3. A lane that is not known has no pending row but those not yet notified: lanes are forgotten
   only when their list is empty and they are not `more`; and until the store's lanes have been
   taken in, of a notification only the lane is noted, to be loaded.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Callback

PREFETCH: Final = 32
"""Callbacks a lane holds in memory at most."""
FEWEST: Final = 2
"""Callbacks that are loaded where memory is full: the head, and whether there is another."""

Parked = tuple[int, int]
"""Of a ready lane that holds nothing: its head's rowid as far as known, when that was created."""
Waiting = tuple[float, int, int, bool]
"""Due in monotonic seconds; rowid of the head, and when that was created; whether the endpoint
asked for the delay. Plain tuples of numbers, see above: no classes."""


@dataclass(slots=True)
class Memory:
    """What the lanes of all webhooks hold together."""

    limit: int
    callbacks: int = 0

    @property
    def full(self) -> bool:
        """Whether lanes should leave what is theirs in the store."""
        return self.callbacks >= self.limit


@dataclass(slots=True, eq=False)
class Lane:
    """One that is busy, or is ready and holds callbacks."""

    lanes: Lanes
    udid: str
    queue: deque[Callback] = field(default_factory=deque)
    more: bool = False
    tail: int = 0
    """Greatest rowid taken into the queue."""
    seen: int = 0
    """Greatest rowid notified since the last load began."""
    head: int = 0
    """Rowid of its head, or of the last one, as far as known."""
    oldest_ms: int = 0
    """When its head was created; until the head is loaded, that of the last one."""
    busy: bool = False
    """Its turn has come, and is not over."""
    doubtful: bool = False
    """What a load that is under way finds may be final already."""

    def take(self, callback: Callback, *, room: bool) -> None:
        """A callback of this lane is durable; without room it is left to the store."""
        rowid = callback.rowid
        self.seen = max(self.seen, rowid)
        self.oldest_ms = min(self.oldest_ms, callback.created_ms)
        if self.more:
            return
        if rowid > self.tail:
            if room and len(self.queue) < PREFETCH:
                self.queue.append(callback)
                self._count(1)
                self.tail = rowid
            else:
                self.more = True
        elif all(known.rowid != rowid for known in self.queue):
            self.drop()

    def load(self) -> int:
        """It holds nothing, and the store is about to be asked for its first … callbacks."""
        self.seen = 0
        self.doubtful = False
        return FEWEST if self.lanes.memory.full else PREFETCH

    def loaded(self, rows: Sequence[Callback], limit: int) -> None:
        """These are the lane's first, `limit` were asked for."""
        if self.doubtful:
            self.more = True  # to be loaded anew
            return
        self.queue.extend(rows)
        self._count(len(rows))
        if rows:
            self.oldest_ms = rows[0].created_ms
        self.tail = rows[-1].rowid if rows else 0
        self.more = len(rows) >= limit or self.seen > self.tail

    def pop(self) -> Callback:
        """The head, to be sent."""
        callback = self.queue.popleft()
        self._count(-1)
        self.head, self.oldest_ms = callback.rowid, callback.created_ms
        return callback

    def drop(self) -> None:
        """Hold nothing: the store knows."""
        self._count(-len(self.queue))
        self.queue.clear()
        self.more = True

    def _count(self, more: int) -> None:
        self.lanes.queued += more
        self.lanes.memory.callbacks += more


@dataclass(slots=True, eq=False)
class Lanes:
    """All lanes of one webhook; times in monotonic seconds."""

    memory: Memory
    active: dict[str, Lane] = field(default_factory=dict)
    """Those that are busy or hold callbacks. Each lane is in one of these three, by its device."""
    parked: dict[str, Parked] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """In order: the longest waiting one first."""
    ready: deque[str] = field(default_factory=deque)
    """Those of `active` and `parked` that are ready."""
    due: list[tuple[float, str]] = field(default_factory=list)
    """A heap of when each waiting lane is due; an entry that is not its lane's counts no more."""
    queued: int = 0
    """Callbacks in the lanes' queues, together."""

    def __len__(self) -> int:
        """Devices with something pending."""
        return len(self.active) + len(self.parked) + len(self.waiting)

    def __contains__(self, udid: str) -> bool:
        """Whether there is such a lane, in whatever stage."""
        return udid in self.active or udid in self.parked or udid in self.waiting

    @property
    def oldest_ms(self) -> int:
        """When the oldest head was created; 0: nothing is pending. Takes time for each lane."""
        return min(
            chain(
                (lane.oldest_ms for lane in self.active.values()),
                (created_ms for _, created_ms in self.parked.values()),
                (created_ms for _, _, created_ms, _ in self.waiting.values()),
            ),
            default=0,
        )

    def add(self, callback: Callback, *, room: bool) -> bool:
        """A callback is durable; whether a lane has become ready by it."""
        udid = callback.udid
        lane = self.active.get(udid)
        if lane is not None:
            lane.take(callback, room=room)
            return False
        if udid in self:
            return False
        if room:
            lane = self.active[udid] = Lane(self, udid, oldest_ms=callback.created_ms)
            lane.take(callback, room=True)
            self.ready.append(udid)
        else:
            self.park(udid, callback.rowid, callback.created_ms)
        return True

    def park(self, udid: str, head: int, created_ms: int) -> None:
        """It is ready, and holds nothing."""
        self.parked[udid] = (head, created_ms)
        self.ready.append(udid)

    def next(self) -> Lane:
        """The lane whose turn it is, from now on busy; one must be ready."""
        udid = self.ready.popleft()
        lane = self.active.get(udid)
        if lane is None:
            head, created_ms = self.parked.pop(udid)
            lane = self.active[udid] = Lane(self, udid, more=True, head=head, oldest_ms=created_ms)
        lane.busy = True
        return lane

    def go_on(self, lane: Lane) -> bool:
        """A busy lane is ready again; False: nothing of it is pending, it is forgotten."""
        lane.busy = False
        if lane.queue:
            lane.oldest_ms = lane.queue[0].created_ms
            self.ready.append(lane.udid)
            return True
        del self.active[lane.udid]
        if lane.more:
            self.park(lane.udid, lane.head, lane.oldest_ms)
        return lane.more

    def put_off(self, lane: Lane, due: float, *, asked: bool) -> None:
        """A busy lane waits; what it held is in the store."""
        lane.drop()
        del self.active[lane.udid]
        self.wait(lane.udid, (due, lane.head, lane.oldest_ms, asked))

    def wait(self, udid: str, waiting: Waiting) -> None:
        """A lane that is in no stage waits."""
        self.waiting[udid] = waiting
        heapq.heappush(self.due, (waiting[0], udid))

    def first_due(self) -> float | None:
        """When the first waiting lane is due."""
        if len(self.due) > 2 * len(self.waiting) + PREFETCH:
            self.due = [(waiting[0], udid) for udid, waiting in self.waiting.items()]
            heapq.heapify(self.due)
        while self.due:
            at, udid = self.due[0]
            if udid in self.waiting and self.waiting[udid][0] == at:
                return at
            heapq.heappop(self.due)
        return None

    def wake_due(self, now: float) -> None:
        """Those that are due are ready."""
        while (at := self.first_due()) is not None and at <= now:
            self._wake(heapq.heappop(self.due)[1])

    def wake_all(self, *, asked_too: bool) -> None:
        """Those that wait are ready, oldest head first; also those whose endpoint asked for it?"""
        woken = [
            (head, udid)
            for udid, (_, head, _, asked) in self.waiting.items()
            if asked_too or not asked
        ]
        for _, udid in sorted(woken):
            self._wake(udid)

    def wake_longest(self) -> bool:
        """The one that has waited longest is ready, unless its endpoint asked for the delay."""
        udid = next((udid for udid, (*_, asked) in self.waiting.items() if not asked), None)
        if udid is None:
            return False
        self._wake(udid)
        return True

    def settle(self, udid: str, head: int, created_ms: int) -> None:
        """Some of its rows were made final by others, which is durable.

        Args:
            udid: of the lane.
            head: its first row that is pending still; 0: none is, but for those not notified yet.
            created_ms: when that was made.
        """
        lane = self.active.get(udid)
        if lane is not None:
            lane.drop()
            lane.doubtful = True
            if lane.busy:
                return
            del self.active[udid]
            self.parked[udid] = (lane.head, lane.oldest_ms)
        if udid in self.parked:
            if head:
                self.parked[udid] = (head, created_ms)
            else:
                del self.parked[udid]
                self.ready.remove(udid)
        elif udid in self.waiting:
            due, _, _, asked = self.waiting[udid]
            if head:
                self.waiting[udid] = (due, head, created_ms, asked)
            else:
                del self.waiting[udid]

    def drop(self) -> None:
        """Hold nothing: the store knows."""
        for lane in self.active.values():
            lane.drop()

    def _wake(self, udid: str) -> None:
        _, head, created_ms, _ = self.waiting.pop(udid)
        self.park(udid, head, created_ms)
