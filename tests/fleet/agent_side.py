"""The agent's side over a real broker and a real store, and a hub of a few lines."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from agent.clock import LoopClock
from agent.config import Delivery
from agent.config.model import Fleet
from agent.config.secret import PrivateUrl
from agent.fleet import subjects
from agent.fleet.link import LinkError, Stream
from agent.fleet.nats_link import dial
from agent.fleet.own import Own
from agent.fleet.uplink import Uplink
from agent.fleet.words import (
    Ack,
    Answer,
    Command,
    Heartbeat,
    HostSnapshot,
    Since,
    SinceAnswer,
    TransitionTold,
    pack,
    unpack,
)
from agent.model import DeviceState, Transition
from agent.tasks import kept
from tests.kit.settings import section
from tests.kit.store import open_store
from tests.store.samples import device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.fleet.link import Dial, Incoming, Link
    from agent.fleet.standing import FleetStatus
    from agent.model import Sighting
    from agent.store import Store
    from agent.track.views import DeviceView

HOST = "rack-3"
PHONES = 7
_KEPT = section(Delivery, retention=1e9)
STREAM = Stream(subjects.TRANSITIONS, (subjects.ALL_TRANSITIONS,), 3600.0, 2**28)


def fleet_of(*urls: str, **keys: Any) -> Fleet:
    return section(Fleet, servers=tuple(PrivateUrl(url) for url in urls), host=HOST, **keys)


class Nothing:
    """No device is shown, nothing is leased, nothing silenced."""

    now_ms = 0

    def one(self, udid: str) -> DeviceView | None:
        """None."""

    def seen(self, udid: str) -> tuple[Sighting, ...]:
        raise AssertionError(udid)

    def rows(self) -> list[dict[str, object]]:
        return []

    async def acquire(self, *_: object, **__: object) -> dict[str, object]:
        raise AssertionError("nobody asks for that here")

    renew = release = add = end = acquire


def own_of(store: Store, **parts: Any) -> Own:
    nothing = Nothing()
    given: dict[str, Any] = {
        "log": store.log,
        "devices": nothing,
        "leases": nothing,
        "silences": nothing,
        "sights": dict,
        "clock": LoopClock(),
        **parts,
    }
    return Own(**given)


class Agent:
    """Uplink and store of one agent."""

    def __init__(self, store: Store, uplink: Uplink) -> None:
        self.store = store
        self.uplink = uplink
        self.told: list[str] = []
        self._turn = 0
        self._task = asyncio.ensure_future(kept("fleet", uplink.run, self.told.append))

    @property
    def status(self) -> FleetStatus:
        status = self.uplink.status
        assert status is not None
        return status

    async def happen(self, count: int = 1) -> None:
        """So many transitions, of phones in turn."""
        stored = []
        for _ in range(count):
            udid = f"phone-{self._turn % PHONES}"
            on = self._turn // PHONES % 2 == 0
            state = DeviceState.ONLINE if on else DeviceState.OFFLINE
            before = DeviceState.OFFLINE if on else DeviceState.ONLINE
            self._turn += 1
            moved = Transition(udid, before, state, f"turn {self._turn}", self._turn)
            record = device(udid, state, self._turn)
            stored.append(self.store.record(record, moved, ()))
        await asyncio.gather(*stored)
        self.uplink.transition_stored()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        await self.store.close()


@asynccontextmanager
async def agent(
    directory: Path, fleet: Fleet, dial: Dial = dial, **parts: Any
) -> AsyncIterator[Agent]:
    store = open_store(directory, settings=_KEPT)
    made = Agent(store, Uplink(fleet, own_of(store, **parts), lambda: None, dial))
    try:
        yield made
    finally:
        await made.stop()
    assert made.told == [], "the uplink broke"


class Hub:
    """Takes each host's log as the real one does; what it took is in memory, and counts as disk."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tasks: list[asyncio.Task[None]] = []
        self._queue: asyncio.Queue[TransitionTold | Heartbeat] = asyncio.Queue()
        self.link: Link | None = None
        self.acks = True
        self.epoch = -1
        self.cursor = 0
        self.taken: list[TransitionTold] = []
        """Of all epochs."""
        self.pulled = 0
        self.snapshots: list[HostSnapshot] = []
        self.beats: list[Heartbeat] = []

    async def start(self) -> Hub:
        self.link = link = await dial(self._fleet)
        await link.make_stream(STREAM)
        await link.make_bucket(subjects.HOSTS)
        await link.subscribe(subjects.ALL_BEATS, self._on_beat)
        await link.follow(subjects.TRANSITIONS, subjects.ALL_TRANSITIONS, 0, self._on_transition)
        self._tasks = [asyncio.ensure_future(self._work())]
        return self

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        assert self.link is not None
        await self.link.close()

    async def snapshot(self) -> HostSnapshot:
        subject = subjects.snapshot(HOST)
        assert self.link is not None
        return unpack(HostSnapshot, await self.link.request(subject, b"{}", 5.0), subject)

    async def command(self, op: str, limit: float = 5.0, id_: str = "", **args: Any) -> Answer:
        subject = subjects.command(HOST)
        assert self.link is not None
        word = Command(op=op, args=args, caller="alice", id=id_)
        return unpack(Answer, await self.link.request(subject, pack(word), limit), subject)

    def _on_beat(self, message: Incoming) -> None:
        beat = unpack(Heartbeat, message.body, message.subject)
        self.beats.append(beat)
        self._queue.put_nowait(beat)

    def _on_transition(self, message: Incoming) -> None:
        self._queue.put_nowait(unpack(TransitionTold, message.body, message.subject))

    async def _work(self) -> None:
        while True:
            word = await self._queue.get()
            with suppress(LinkError):
                await self._take(word)

    async def _take(self, word: TransitionTold | Heartbeat) -> None:
        if word.epoch != self.epoch:
            await self._begin_anew(word.epoch)
        if isinstance(word, TransitionTold):
            if word.id > self.cursor + 1:
                await self._pull()
            elif word.id == self.cursor + 1:
                self._store(word)
        elif word.last > self.cursor:
            await self._pull()
        await self._acknowledge()

    async def _begin_anew(self, epoch: int) -> None:
        snapshot = await self.snapshot()
        if snapshot.epoch == epoch:
            self.snapshots.append(snapshot)
            self.epoch, self.cursor = snapshot.epoch, snapshot.through

    async def _pull(self) -> None:
        subject = subjects.since(HOST)
        assert self.link is not None
        while True:
            since = Since(epoch=self.epoch, after=self.cursor)
            body = await self.link.request(subject, pack(since), 5.0)
            answer = unpack(SinceAnswer, body, subject)
            assert answer.epoch == self.epoch
            assert not answer.hole
            for each in answer.transitions:
                self._store(each)
                self.pulled += 1
            if self.cursor >= answer.last:
                return

    def _store(self, told: TransitionTold) -> None:
        assert told.id == self.cursor + 1
        self.cursor = told.id
        self.taken.append(told)

    async def _acknowledge(self) -> None:
        if self.acks:
            assert self.link is not None
            word = Ack(epoch=self.epoch, through=self.cursor)
            await self.link.publish(subjects.ack(HOST), pack(word))
