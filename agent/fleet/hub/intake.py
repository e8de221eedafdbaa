"""The hub's connection to the broker: what it hears is taken, what it misses is asked for.

One connection at a time, used once (`agent.fleet.link`); a lost one is followed by another after a
pause. Over it: the stream of all hosts' logs from where it was read to, all heartbeats, the hub's
own, and the hosts' snapshots. What comes is put into the inbox by handlers that do nothing else,
and taken from there in slices; while the hub is blind nothing is. What a host has and did not come
is asked for: so nothing that the broker keeps has to last. But the stream is taken to its end
first, for it alone has the order in which things happened at several hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import BlindError, HostAliveError, HostUnreachableError
from agent.fleet import subjects
from agent.fleet.backoff import WELL, Backoff
from agent.fleet.complaints import Complaints
from agent.fleet.hub import done
from agent.fleet.hub.asking import Asking
from agent.fleet.hub.core import MOST_HOSTS
from agent.fleet.hub.inbox import Inbox
from agent.fleet.hub.seen_time import BEAT_EVERY
from agent.fleet.hub.status import HubStatus
from agent.fleet.hub.stored import Position
from agent.fleet.hub.taking import Taking
from agent.fleet.link import LinkError, Stream
from agent.fleet.words import Ack, HubBeat, pack
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.clock import Clock
    from agent.config.model import Fleet
    from agent.fleet.hub.inbox import Asked
    from agent.fleet.hub.pipeline import FleetPipeline
    from agent.fleet.hub.status import HostStatus
    from agent.fleet.link import Dial, Incoming, Link

log = structlog.get_logger(__name__)

STREAMS: Final = (
    Stream(subjects.TRANSITIONS, (subjects.ALL_TRANSITIONS,), 7 * 86_400.0, 1 << 30),
    done.STREAM,
)
BUCKETS: Final = (subjects.HOSTS, subjects.HUB)
ACK_EVERY: Final = 0.05
"""Seconds between two acknowledgements of one log, at least."""
STALLED: Final = 5.0
"""Seconds without anything of the stream after which what is missed is asked for all the same."""
MAKE_EVERY: Final = 10.0
"""Seconds after which it is looked whether the broker has its streams and buckets still."""
DEAF: Final = 10.0
"""Seconds without hearing itself after which the hub takes another connection."""
_ON_THE_WAY: Final = 64
"""Own heartbeats that may still come."""


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
        beside: what else runs for as long as a link is there; raises LinkError to end it.
        beat_every: seconds between two own heartbeats.
        make_every: see MAKE_EVERY.
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
        beside: Callable[[Link], Awaitable[None]],
        beat_every: float = BEAT_EVERY,
        make_every: float = MAKE_EVERY,
    ) -> None:
        self._pipeline = pipeline
        self._fleet = fleet
        self._name = name
        self._dial = dial
        self._last = ""
        """`where` of the last link."""
        self._position = position
        self._clock = clock
        self._active = active
        self._beside = beside
        self._beat_every = beat_every
        self._make_every = make_every
        self.instance = secrets.token_hex(8)
        self.link: Link | None = None
        """The connection that there is, for whoever asks a host for something."""
        self.heard = asyncio.Event()
        """The hub has heard itself, once at least."""
        self._complaints = Complaints(clock)
        self._inbox = Inbox(MOST_HOSTS)
        self._asking = Asking(pipeline.core, self._answered, self._complaints)
        self._taking = Taking(
            pipeline, self._inbox, self._complaints, self._lives, self._asking.taken
        )
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        """Another configuration is in force."""
        self._to_acknowledge = asyncio.Event()
        self._ends = 0
        """The stream's last number when the connection came."""
        self._progress = (0, 0.0)
        """How far the stream was taken, and since when."""
        self._sent: dict[int, float] = {}
        self._numbers = 0
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
            bad_messages=self._complaints.count,
            dropped=self._inbox.dropped,
            moves=self._pipeline.commits.moves,
        )

    def reconfigure(self, fleet: Fleet) -> None:
        """Take another configuration: with other servers or credentials, another connection."""
        if fleet != self._fleet:
            self._fleet = fleet
            self._changed.set()

    async def forget(self, host: str) -> HostStatus:
        """A host was taken down for good: know it no more; how it stood.

        Raises:
            AgentError: why not; see `FleetPipeline.check_forgettable` and `forget`.
        """
        status = self._pipeline.check_forgettable(host)
        if self.link is None:
            raise BlindError(f"the hub is not connected: {self._pipeline.reason}")
        try:
            if not await self.link.remove(subjects.HOSTS, host):
                raise HostAliveError(f"{host} is alive: its agent said something this very moment")
        except LinkError as error:
            raise HostUnreachableError(
                f"{host} is not forgotten, for the broker: {error}"
            ) from None
        self._pipeline.check_forgettable(host)  # it may have been heard meanwhile
        self._inbox.forget(host)
        self._asking.taken(host)
        await self._pipeline.forget(host)
        return status

    async def run(self) -> None:
        """Follow the fleet for ever."""
        backoff = Backoff(self._clock)
        while True:
            began = self._clock.monotonic()
            try:
                await self._connect()
            except LinkError as error:
                reason = str(error)
                if reason != self._pipeline.reason:
                    say(log.error, "fleet.no_connection", error=reason)
                self._pipeline.reason = reason
            if self._clock.monotonic() - began >= WELL:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.pause()):
                    await self._changed.wait()

    # --- a connection -----------------------------------------------------------------------

    async def _connect(self) -> None:
        """From its beginning to its end; LinkError says why it ended."""
        self._changed.clear()
        link = await self._dial(self._fleet, self._last)
        self._last = link.where
        try:
            await self._serve(link)
        finally:
            self.link = None
            self._pipeline.seen.lost()
            self._position = self._taken_to()
            self._inbox.clear()
            self._taking.forget()
            self._sent.clear()
            await link.close()

    async def _serve(self, link: Link) -> None:
        await _make(link)
        await link.subscribe(subjects.ALL_BEATS, partial(self._hand, self._inbox.beat))
        await link.subscribe(subjects.hub_beat(self.instance), self._own_beat)
        await link.watch(subjects.HOSTS, partial(self._hand, self._inbox.glimpse))
        after = await self._begin_at(link)
        await link.follow(subjects.TRANSITIONS, subjects.ALL_TRANSITIONS, after, self._row)
        self.link = link
        if self._pipeline.reason:
            say(log.info, "fleet.connected")
        self._pipeline.reason = ""
        work = [
            asyncio.ensure_future(each)
            for each in (
                self._beat(link),
                self._take(link),
                self._acknowledge(link),
                _keep(link, self._make_every),
                self._beside(link),
            )
        ]
        lost = asyncio.ensure_future(link.lost())
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({*work, lost, changed}, return_when=asyncio.FIRST_COMPLETED)
            for each in work:
                if each.done():
                    each.result()
            if lost.done():
                raise LinkError(lost.result())
        finally:
            for task in (*work, lost, changed):
                task.cancel()
            await asyncio.gather(*work, lost, changed, return_exceptions=True)
            await self._asking.stop()

    async def _begin_at(self, link: Link) -> int:
        """The stream's number behind which it is read; what lies before is asked for, if missed."""
        stream, last = await link.last_number(subjects.TRANSITIONS)
        known = self._position
        if known is None or known.stream != stream or known.number > last:
            self._position = known = Position(stream, last)
        self._ends, self._progress = last, (-1, 0.0)
        return known.number

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
                    "the broker takes the hub's heartbeats, and has given none back for "
                    f"{silent:.0f} s: does it hang?"
                )

    async def _take(self, link: Link) -> None:
        """Take what waits, while the hub sees."""
        pipeline = self._pipeline
        while True:
            self._wake.clear()
            while not pipeline.stopped and not pipeline.blind:
                if (position := self._taken_to()) is not None:
                    pipeline.commits.read_to(position)  # is stored with what comes of the slice
                if not await self._taking.slice():
                    break
                self._asking.ask(link, logs=self._has_read())
                await asyncio.sleep(0)
            self._asking.ask(link, logs=self._has_read())
            await self._wake.wait()

    def _has_read(self) -> bool:
        """Whether the stream was taken to where it ended when the connection came, or stalls."""
        taken, now = self._taken_to(), self._clock.monotonic()
        if taken is None or taken.number >= self._ends:
            return True
        if taken.number != self._progress[0]:
            self._progress = taken.number, now
        return now - self._progress[1] > STALLED

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
                mark = pipeline.durable.get(host)
                if mark is None:
                    continue  # it is forgotten
                word = Ack(epoch=mark.epoch, through=mark.cursor, check=mark.check)
                await link.publish(subjects.ack(host), pack(word))
            await asyncio.sleep(ACK_EVERY)

    def _taken_to(self) -> Position | None:
        """How far everything of the stream is taken."""
        read = self._position
        return None if read is None else Position(read.stream, self._inbox.oldest(read.number))

    # --- what comes: nothing but put away ---------------------------------------------------

    def _hand(self, put: Callable[[str, Incoming], None], message: Incoming) -> None:
        put(message.subject.rpartition(".")[2], message)
        self._wake.set()

    def _row(self, message: Incoming) -> None:
        assert self._position is not None
        if message.sequence <= self._position.number:
            self._ends = 0  # it was made anew
        self._position = Position(self._position.stream, message.sequence)
        self._hand(self._inbox.row, message)

    def _own_beat(self, message: Incoming) -> None:
        beat = self._complaints.read(HubBeat, message)
        sent_at = None if beat is None else self._sent.pop(beat.number, None)
        now = self._clock.monotonic()
        if sent_at is not None and self._pipeline.seen.heard(sent_at, now):
            self._heard_at = now
            self.heard.set()
            self._taking.heard()
            self._wake.set()

    def _answered(self, host: str, answer: Asked) -> None:
        self._inbox.asked(host, answer)
        self._wake.set()

    def _lives(self, host: str) -> None:
        """The acknowledgement before may have been lost."""
        if host in self._pipeline.durable:
            self._pipeline.acks[host] = None
            self._to_acknowledge.set()


async def _make(link: Link) -> None:
    """Have the broker keep what hosts and hubs need it to."""
    for stream in STREAMS:
        await link.make_stream(stream)
    for bucket in BUCKETS:
        await link.make_bucket(bucket)


async def _keep(link: Link, every: float) -> None:
    """And keep it so: whatever somebody deletes is there again soon."""
    while True:
        await asyncio.sleep(every)
        with contextlib.suppress(LinkError):  # a lost link ends this from outside
            await _make(link)
