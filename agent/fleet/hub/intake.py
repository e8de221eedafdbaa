"""The hub's connection to the broker: what it hears is taken, what it misses is asked for.

One connection at a time, used once (`agent.fleet.link`); a lost one is followed by another after a
pause. Over it: the stream of all hosts' logs from where it was read to, all heartbeats, the hub's
own, and the hosts' snapshots. What comes is put into the inbox by handlers that do nothing else,
and taken from there in slices; while the hub is blind nothing is. What a host has and did not come
is asked for: so nothing of the broker has to last.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from agent.fleet import subjects
from agent.fleet.hub.core import MOST_HOSTS
from agent.fleet.hub.hosts import Need, Presence, Verdict
from agent.fleet.hub.inbox import Asked, Inbox
from agent.fleet.hub.seen_time import BEAT_EVERY
from agent.fleet.hub.status import HubStatus
from agent.fleet.hub.stored import Position
from agent.fleet.link import LinkError, NoAnswerError, NobodyError, Stream
from agent.fleet.words import (
    Ack,
    BadMessageError,
    Heartbeat,
    HostSnapshot,
    HubBeat,
    Since,
    SinceAnswer,
    TransitionTold,
    pack,
    unpack,
)
from agent.tasks import kind_of
from agent.threads import in_thread
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.config.model import Fleet
    from agent.fleet.hub.hosts import Host
    from agent.fleet.hub.inbox import Box
    from agent.fleet.hub.pipeline import FleetPipeline
    from agent.fleet.link import Dial, Incoming, Link
    from agent.fleet.words import Word

log = structlog.get_logger(__name__)

STREAMS: Final = (
    Stream(subjects.TRANSITIONS, (subjects.ALL_TRANSITIONS,), 7 * 86_400.0, 1 << 30),
    Stream(subjects.DONE, (subjects.DONE_SUBJECT,), 7 * 86_400.0, 256 << 20),
)
BUCKETS: Final = (subjects.HOSTS, subjects.HUB)
SLICE: Final = 0.008
"""Seconds of taking in one turn of the loop."""
TURN: Final = 50
"""Rows of one host, before the next one has its turn."""
ASKED_AT_ONCE: Final = 16
"""Hosts."""
ANSWER: Final = 5.0
"""Seconds that a host may take to answer."""
ROWS_ASKED: Final = 200
LONG: Final = 64 * 1024
"""Bytes of a message that is read in a thread."""
ACK_EVERY: Final = 0.05
"""Seconds between two acknowledgements of one log, at least."""
DEAF: Final = 10.0
"""Seconds without hearing itself after which the hub takes another connection."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before another connection is tried; doubled each time."""
SAID_EVERY: Final = 60.0
"""Seconds between two lines about bad messages."""
_OVER: Final = object()
_ON_THE_WAY: Final = 64
"""Own heartbeats that may still come."""
_W = TypeVar("_W", bound="Word")


class Intake:
    """Runs it; `run` is background work that never ends.

    Args:
        pipeline: takes it.
        fleet: what the configuration says of it.
        name: the hub's, for its heartbeats.
        dial: connects.
        position: how far the stream was read, as the store has it.
        clock: of the process.
        active: whether this hub is the one that acknowledges.
        beat_every: seconds between two own heartbeats.
    """

    def __init__(
        self,
        pipeline: FleetPipeline,
        fleet: Fleet,
        name: str,
        dial: Dial,
        position: Position | None,
        clock: Clock,
        active: Callable[[], bool],
        beat_every: float = BEAT_EVERY,
    ) -> None:
        self._pipeline = pipeline
        self._core = pipeline.core
        self._fleet = fleet
        self._name = name
        self._dial = dial
        self._position = position
        self._clock = clock
        self._active = active
        self._beat_every = beat_every
        self.instance = secrets.token_hex(8)
        self.link: Link | None = None
        """The connection that there is, for whoever asks a host for something."""
        self._inbox = Inbox(MOST_HOSTS)
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        """Another configuration is in force."""
        self._sent: dict[int, float] = {}
        self._numbers = 0
        self._tick: dict[str, int] | None = None
        """The hub heard itself; what had come by then is to be taken first."""
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(ASKED_AT_ONCE)
        self._bad = 0
        self._said_at = 0.0
        self._taken: dict[str, asyncio.Event] = {}
        """Set once what that host answered is taken."""
        self._to_acknowledge = asyncio.Event()
        self._heard_at = 0.0
        pipeline.on_durable = self._to_acknowledge.set

    @property
    def status(self) -> HubStatus:
        """How it stands."""
        return HubStatus(
            connected=self.link is not None,
            blind=self._pipeline.blind,
            active=self._active(),
            reason=self._pipeline.reason,
            bad_messages=self._bad,
            dropped=self._inbox.dropped,
            moves=self._pipeline.commits.moves,
        )

    def reconfigure(self, fleet: Fleet) -> None:
        """Take another configuration: with other servers or credentials, another connection."""
        if fleet != self._fleet:
            self._fleet = fleet
            self._changed.set()

    async def run(self) -> None:
        """Follow the fleet for ever."""
        pause = FIRST_PAUSE
        while True:
            began = self._clock.monotonic()
            try:
                await self._connect()
            except LinkError as error:
                reason = str(error)
                if reason != self._pipeline.reason:
                    say(log.error, "fleet.no_connection", error=reason)
                self._pipeline.reason = reason
            if self._clock.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * (0.5 + self._clock.jitter() / 2)):
                    await self._changed.wait()
            pause = min(pause * 2, LONGEST_PAUSE)

    # --- a connection -----------------------------------------------------------------------

    async def _connect(self) -> None:
        """From its beginning to its end; LinkError says why it ended."""
        self._changed.clear()
        link = await self._dial(self._fleet)
        try:
            await self._serve(link)
        finally:
            self.link = None
            self._pipeline.seen.lost()
            self._inbox.clear()
            self._tick = None
            self._sent.clear()
            await link.close()

    async def _serve(self, link: Link) -> None:
        for stream in STREAMS:
            await link.make_stream(stream)
        for bucket in BUCKETS:
            await link.make_bucket(bucket)
        await link.subscribe(subjects.ALL_BEATS, partial(self._hand, self._inbox.beat))
        await link.subscribe(subjects.hub_beat(self.instance), self._own_beat)
        await link.watch(subjects.HOSTS, self._glimpse)
        after = await self._begin_at(link)
        await link.follow(subjects.TRANSITIONS, subjects.ALL_TRANSITIONS, after, self._row)
        self.link = link
        if self._pipeline.reason:
            say(log.info, "fleet.connected")
        self._pipeline.reason = ""
        work = [
            asyncio.ensure_future(each)
            for each in (self._beat(link), self._take(link), self._acknowledge(link))
        ]
        ends = [asyncio.ensure_future(link.lost()), asyncio.ensure_future(self._changed.wait())]
        try:
            await asyncio.wait({*work, *ends}, return_when=asyncio.FIRST_COMPLETED)
            for each in work:
                if each.done():
                    each.result()
            if ends[0].done():
                raise LinkError(ends[0].result())
        finally:
            asking = list(self._asking.values())
            for task in (*work, *ends, *asking):
                task.cancel()
            await asyncio.gather(*work, *ends, *asking, return_exceptions=True)
            self._asking.clear()

    async def _beat(self, link: Link) -> None:
        """Say that the hub lives, to itself as well; LinkError: it does not hear that."""
        self._heard_at = self._clock.monotonic()
        while True:
            self._numbers += 1
            self._sent[self._numbers] = self._clock.monotonic()
            self._sent.pop(self._numbers - _ON_THE_WAY, None)
            word = HubBeat(
                hub=self._name,
                instance=self.instance,
                number=self._numbers,
                active=self._active(),
            )
            await link.publish(subjects.hub_beat(self.instance), pack(word))
            await asyncio.sleep(self._beat_every)
            silent = self._clock.monotonic() - self._heard_at
            if silent > DEAF:
                raise LinkError(
                    f"the broker takes the hub's heartbeats, and has not given one back for "
                    f"{silent:.0f} s: does it hang?"
                )

    async def _acknowledge(self, link: Link) -> None:
        """Tell the hosts how far their logs are on this disk."""
        pipeline = self._pipeline
        while True:
            await self._to_acknowledge.wait()
            self._to_acknowledge.clear()
            acks, pipeline.acks = pipeline.acks, {}
            if not self._active():
                continue  # each heartbeat asks for one anew
            for host in acks:
                mark = pipeline.durable[host]
                word = Ack(epoch=mark.epoch, through=mark.cursor)
                await link.publish(subjects.ack(host), pack(word))
            await asyncio.sleep(ACK_EVERY)

    async def _begin_at(self, link: Link) -> int:
        """The stream's number behind which it is read; what lies before is asked for, if missed."""
        stream, last = await link.last_number(subjects.TRANSITIONS)
        known = self._position
        if known is not None and known.stream == stream and known.number <= last:
            return known.number
        self._position = Position(stream, last)
        return last

    # --- what comes: nothing but put away ---------------------------------------------------

    def _hand(self, put: Callable[[str, Incoming], None], message: Incoming) -> None:
        put(message.subject.rpartition(".")[2], message)
        self._wake.set()

    def _row(self, message: Incoming) -> None:
        assert self._position is not None
        self._position = Position(self._position.stream, message.sequence)
        self._hand(self._inbox.row, message)

    def _glimpse(self, message: Incoming) -> None:
        self._hand(self._inbox.glimpse, message)

    def _own_beat(self, message: Incoming) -> None:
        beat = self._read(HubBeat, message)
        sent_at = None if beat is None else self._sent.pop(beat.number, None)
        now = self._clock.monotonic()
        if sent_at is not None and self._pipeline.seen.heard(sent_at, now):
            self._heard_at = now
            self._tick = self._inbox.watermarks()
            self._wake.set()

    # --- what is taken ----------------------------------------------------------------------

    async def _take(self, link: Link) -> None:
        """Take what waits, in slices, each of which is one transaction."""
        pipeline = self._pipeline
        while True:
            self._wake.clear()
            while not pipeline.stopped and not pipeline.blind and await self._take_slice():
                self._ask(link)
                await asyncio.sleep(0)
            self._ask(link)
            await self._wake.wait()

    async def _take_slice(self) -> bool:
        """Whether there was anything."""
        await self._pipeline.commits.room()
        end = time.monotonic() + SLICE
        some = False
        while time.monotonic() < end:
            if self._tick is not None and self._inbox.passed(self._tick):
                self._tick = None
                self._core.tick()
                some = True
            if self._core.do():
                some = True
                continue
            turn = self._inbox.next()
            if turn is None:
                break
            some = True
            self._serve_host(*turn, end)
        self._core.pay()
        position = self._position
        if position is not None:
            number = self._inbox.oldest(position.number)
            self._pipeline.commits.read_to(Position(position.stream, number))
        self._pipeline.commits.commit()
        return some

    def _serve_host(self, name: str, box: Box, end: float) -> None:
        """One host's turn."""
        core = self._core
        if (beat := box.beat) is not None:
            box.beat = None
            self._heartbeat(name, beat)
        for _ in range(TURN):
            if time.monotonic() >= end:
                break
            if box.working is not None:
                if next(box.working, _OVER) is _OVER:
                    box.working = None
                    self._served(name)
            elif box.asked:
                self._answered(name, box, box.asked.popleft())
            elif box.rows:
                message = box.rows.popleft()
                box.size -= len(message.body)
                box.went += 1
                told = self._read(TransitionTold, message)
                if told is not None and self._is_of(name, told.host, message):
                    core.row(told)
            elif box.dropped:
                box.dropped = False
                if name in core.hosts:
                    core.hosts[name].behind()
            elif (glimpse := box.glimpse) is not None:
                box.glimpse = None
                snapshot = self._read(HostSnapshot, glimpse)
                if snapshot is not None and self._is_of(name, snapshot.host, glimpse):
                    core.glimpse(snapshot)
            else:
                break
        if not box.empty:
            self._inbox.turn(name)

    def _heartbeat(self, name: str, message: Incoming) -> None:
        beat = self._read(Heartbeat, message)
        if beat is not None and self._is_of(name, beat.host, message):
            self._core.beat(beat)
            if name in self._pipeline.durable:
                self._pipeline.acks[name] = None  # the one before may have been lost
                self._to_acknowledge.set()

    def _answered(self, name: str, box: Box, answer: Asked) -> None:
        if answer.snapshot is not None:
            box.working = self._core.whole(answer.snapshot)
            return
        for told in answer.rows:
            if self._core.row(told) not in {Verdict.TAKE, Verdict.REPEAT}:
                break
        self._served(name)

    def _served(self, name: str) -> None:
        host = self._core.hosts.get(name)
        if host is not None:
            host.served()
        if name in self._taken:
            self._taken[name].set()

    def _is_of(self, name: str, told: str, message: Incoming) -> bool:
        if name != told:
            self._complain(BadMessageError(f"a message on {message.subject} is of host {told}"))
        return name == told

    def _read(self, kind: type[_W], message: Incoming) -> _W | None:
        try:
            return unpack(kind, message.body, message.subject)
        except BadMessageError as error:
            self._complain(error)
            return None

    def _complain(self, error: BadMessageError) -> None:
        self._bad += 1
        now = self._clock.monotonic()
        if now >= self._said_at:
            self._said_at = now + SAID_EVERY
            say(log.warning, "fleet.bad_message", error=str(error), so_far=self._bad)

    # --- what is asked for ------------------------------------------------------------------

    def _ask(self, link: Link) -> None:
        """Have each host asked for what is missed of it."""
        for host in self._core.wanting():
            if host.name not in self._asking:
                self._taken[host.name] = asyncio.Event()
                self._asking[host.name] = asyncio.ensure_future(self._ask_host(link, host))

    async def _ask_host(self, link: Link, host: Host) -> None:
        """Until nothing is missed, or it is not there."""
        pause = FIRST_PAUSE
        try:
            while host.need is not Need.NOTHING and host.presence is Presence.ALIVE:
                self._taken[host.name].clear()
                try:
                    async with self._room:
                        answer = await self._answer_of(link, host)
                except (NobodyError, NoAnswerError) as error:
                    say(log.info, "fleet.no_answer", host=host.name, error=str(error))
                    answer = None
                except BadMessageError as error:
                    self._complain(error)
                    answer = None
                if answer is None:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                pause = FIRST_PAUSE
                self._inbox.asked(host.name, answer)
                self._wake.set()
                await self._taken[host.name].wait()
        except LinkError:
            pass  # it is lost, and another one will be
        except Exception as error:  # noqa: BLE001 - said; the next heartbeat asks again
            say(
                log.error, "fleet.ask_failed", host=host.name, reason=kind_of(error), exc_info=error
            )
        finally:
            self._asking.pop(host.name, None)
            self._taken.pop(host.name, None)

    async def _answer_of(self, link: Link, host: Host) -> Asked | None:
        """What it answers; None: to be asked again. Raises LinkError, BadMessageError."""
        if host.need is Need.SNAPSHOT:
            subject = subjects.snapshot(host.name)
            body = await link.request(subject, b"{}", ANSWER)
            snapshot = await self._unpacked(HostSnapshot, body, subject)
            if snapshot.host != host.name:
                raise BadMessageError(f"what answers as host {host.name} is {snapshot.host}")
            return Asked(snapshot=snapshot)
        assert host.epoch is not None
        subject = subjects.since(host.name)
        asked = Since(epoch=host.epoch, after=host.cursor, limit=ROWS_ASKED)
        body = await link.request(subject, pack(asked), ANSWER)
        answer = await self._unpacked(SinceAnswer, body, subject)
        if answer.epoch != host.epoch or answer.hole:
            host.hole()
            return await self._answer_of(link, host)
        rows = tuple(row for row in answer.transitions if row.host == host.name)
        if not rows and answer.last > host.cursor:
            return None
        host.told_last(answer.last)
        return Asked(rows=rows)

    async def _unpacked(self, kind: type[_W], body: bytes, subject: str) -> _W:
        """A long one in a thread: it takes its time."""
        if len(body) < LONG:
            return unpack(kind, body, subject)
        return await in_thread(partial(unpack, kind, body, subject), "fleet answer")
