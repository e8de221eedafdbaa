"""From the inbox to the core, a slice at a time, each of which is one transaction of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.fleet.hub.hosts import Verdict
from agent.fleet.words import Heartbeat, HostSnapshot, TransitionTold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.fleet.complaints import Complaints
    from agent.fleet.hub.inbox import Asked, Box, Inbox
    from agent.fleet.hub.pipeline import FleetPipeline
    from agent.fleet.link import Incoming

SLICE: Final = 0.008
"""Seconds of taking in one turn of the loop."""
PAYING: Final = 0.008
"""And of telling what is due."""
TURN: Final = 50
"""Messages of one host, before the next one has its turn."""
_OVER: Final = object()


class Taking:
    """Takes what waits.

    Args:
        pipeline: takes it.
        inbox: where it waits.
        complaints: told of what is none of ours.
        lives: called with a host that was heard to live.
        served: called with a host whose answer is taken.
    """

    def __init__(
        self,
        pipeline: FleetPipeline,
        inbox: Inbox,
        complaints: Complaints,
        lives: Callable[[str], None],
        served: Callable[[str], None],
    ) -> None:
        self._core = pipeline.core
        self._commits = pipeline.commits
        self._inbox = inbox
        self._complaints = complaints
        self._lives = lives
        self._served = served
        self._tick: dict[str, int] | None = None

    def heard(self) -> None:
        """The hub heard itself: what has come by now is taken, and then what is ripe decided."""
        self._tick = self._inbox.watermarks()

    def forget(self) -> None:
        """What was heard counts no more: the connection is lost."""
        self._tick = None

    async def slice(self) -> bool:
        """Take some, and have it stored; whether there was anything."""
        await self._commits.room()
        end = time.monotonic() + SLICE
        some = False
        while time.monotonic() < end and self._step(end):
            some = True
        if self._core.pay(time.monotonic() + PAYING):
            some = True
        self._commits.commit()
        return some

    def _step(self, end: float) -> bool:
        if self._tick is not None and self._inbox.passed(self._tick):
            self._tick = None
            for name, beat in self._inbox.beats():
                self._beat(name, beat)  # however long nothing was taken, who lives is not lost
            self._core.tick()
            return True
        if self._core.do():
            return True
        turn = self._inbox.next()
        if turn is None:
            return False
        name, box = turn
        for _ in range(TURN):
            if time.monotonic() >= end or not self._take(name, box):
                break
        if box.ready:
            self._inbox.turn(name)
        return True

    def _take(self, name: str, box: Box) -> bool:
        """One message of that host's; whether there was any."""
        if (beat := box.beat) is not None:
            box.beat = None
            self._beat(name, beat)
        elif box.working is not None:
            if next(box.working, _OVER) is _OVER:
                box.working = None
                self._have_served(name)
        elif box.answered:
            box.working = self._answer(box.asked.popleft()[1])
        elif box.rows:
            row = self._inbox.take(name)
            if row is None:
                return False
            self._row(name, box, row)
        elif box.dropped:
            box.dropped = False
            if name in self._core.hosts:
                self._core.hosts[name].behind()
        elif (glimpse := box.glimpse) is not None:
            box.glimpse = None
            self._glimpse(name, glimpse)
        else:
            return False
        return True

    def _beat(self, name: str, message: Incoming) -> None:
        beat = self._complaints.read(Heartbeat, message)
        if beat is not None and self._is_of(name, beat.host, message):
            self._core.beat(beat)
            self._lives(name)

    def _row(self, name: str, box: Box, message: Incoming) -> None:
        told = self._complaints.read(TransitionTold, message)
        if told is None or not self._is_of(name, told.host, message):
            return
        if self._core.row(told) is Verdict.AHEAD and box.asked:
            box.working = self._answer_before(told, box.asked.popleft()[1])
            self._inbox.turn(name)

    def _glimpse(self, name: str, message: Incoming) -> None:
        snapshot = self._complaints.read(HostSnapshot, message)
        if snapshot is not None and self._is_of(name, snapshot.host, message):
            self._core.glimpse(snapshot)

    def _answer(self, answer: Asked) -> Iterator[None]:
        """What a host answered, a step at a time."""
        if answer.snapshot is not None:
            yield from self._core.whole(answer.snapshot)
        for told in answer.rows:
            if self._core.row(told) not in {Verdict.TAKE, Verdict.REPEAT}:
                return
            yield

    def _answer_before(self, told: TransitionTold, answer: Asked) -> Iterator[None]:
        """What lies before that row was asked for, and is there."""
        yield from self._answer(answer)
        self._core.row(told)

    def _have_served(self, name: str) -> None:
        if name in self._core.hosts:
            self._core.hosts[name].served()
        self._served(name)

    def _is_of(self, name: str, told: str, message: Incoming) -> bool:
        if name != told:
            self._complaints.add(f"a message on {message.subject} says that it is of host {told}")
        return name == told
