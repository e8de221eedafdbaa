"""A fleet of simulated hosts and one hub without a broker: what each says reaches it when told to.

The hub is the real one but for its connection; its store keeps what it takes in memory.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.config import parse
from agent.deliver.outbox import Outbox
from agent.errors import StoreError
from agent.fleet.hub.hosts import Need
from agent.fleet.hub.pipeline import Ears, FleetPipeline
from agent.fleet.hub.seen_time import BEAT_EVERY
from agent.fleet.hub.stored import read
from agent.fleet.words import DeviceTold, Heartbeat, HostSnapshot, SilenceTold, TransitionTold
from agent.model import DeviceState, Platform
from agent.reasons import ReasonCode
from tests.kit import reasons
from tests.kit.clock import StubClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.model import Callback, DeviceRecord
    from agent.store import FleetRow, Record

ONLINE, OFFLINE = DeviceState.ONLINE, DeviceState.OFFLINE
UTILIZING, UNPLUGGED = DeviceState.UTILIZING, DeviceState.UNPLUGGED
CONFIG = """
[fleet]
servers = ["nats://127.0.0.1:4222"]
role = "hub"
host_grace = "60s"
move_hold = "10s"
[[webhooks]]
id = 129
name = "all"
url = "http://127.0.0.1:1/"
events = ["online", "offline", "utilizing", "unplugged"]
"""
MOVE_HOLD, LOST_AFTER, GONE_AFTER, TWINS_AFTER = 10.0, 60.0, 90.0, 30.0


@dataclass
class MemoryStore:
    """What the store promises of `take`, without a disk."""

    rows: dict[tuple[str, str], FleetRow] = field(default_factory=dict)
    devices: dict[str, DeviceRecord] = field(default_factory=dict)
    moves: list[Record] = field(default_factory=list)
    """That made a transition, in order."""
    callbacks: list[Callback] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    refuses: bool = False

    async def take(
        self, rows: Sequence[FleetRow], records: Sequence[Record]
    ) -> tuple[Callback, ...]:
        if self.refuses:
            raise StoreError("the store refused the change: so")
        for row in rows:
            if row.said:
                self.rows[row.host, row.udid] = row
            else:
                self.rows.pop((row.host, row.udid), None)
        stored = []
        for record in records:
            self.devices[record.device.udid] = record.device
            reasons.check(record.device.reason, record.device.code)
            if record.transition is not None:
                reasons.check(record.transition.reason, record.transition.code)
                self.moves.append(record)
            for callback in record.callbacks:
                if callback.message_id not in self.ids:
                    self.ids.add(callback.message_id)
                    stored.append(replace(callback, rowid=len(self.callbacks) + 1))
                    self.callbacks.append(stored[-1])
        return tuple(stored)

    def copy(self) -> MemoryStore:
        return MemoryStore(
            dict(self.rows),
            dict(self.devices),
            list(self.moves),
            list(self.callbacks),
            set(self.ids),
        )


@dataclass
class SimHost:
    """An agent, as far as the hub can tell."""

    name: str
    epoch: int
    log: list[TransitionTold] = field(default_factory=list)
    devices: dict[str, DeviceTold] = field(default_factory=dict)
    lives: int = 1
    beats: int = 0
    cut: bool = False
    """It cannot be heard."""

    def move(self, udid: str, state: DeviceState, *, usb: bool = True, holder: str = "") -> None:
        """A phone of it makes a transition."""
        known = self.devices.get(udid)
        if known is not None and known.state is state:
            return
        if known is None and state is UNPLUGGED:
            return
        number = len(self.log) + 1
        device = DeviceTold(
            udid=udid,
            platform=Platform.ANDROID,
            state=state,
            since_ms=1,
            event=number,
            holder=holder,
            usb=usb if state is not UNPLUGGED or known is None else known.usb,
            reason="accept the prompt" if state is OFFLINE else "",
            code=ReasonCode.UNAUTHORIZED if state is OFFLINE else "",
            cause=f"{self.name}-{number}" if state in {OFFLINE, UNPLUGGED} else "",
            port=f"1-{number}",
            silence=None if known is None else known.silence,
        )
        self.devices[udid] = device
        self.log.append(
            TransitionTold(
                host=self.name,
                epoch=self.epoch,
                id=number,
                previous=None if known is None else known.state,
                at_ms=1,
                device=device,
            )
        )

    def silence(self, udid: str, left: float | None) -> None:
        told = None if left is None else SilenceTold(id="0000000a", reason="cables", left=left)
        self.devices[udid] = self.devices[udid].model_copy(update={"silence": told})

    def begin_anew(self, *, empty: bool) -> None:
        """Its store is made anew."""
        self.epoch += 1
        self.lives += 1
        self.log.clear()
        if empty:
            self.devices.clear()
        self.devices = {
            udid: device.model_copy(update={"event": 0}) for udid, device in self.devices.items()
        }

    @property
    def beat(self) -> Heartbeat:
        """The next one."""
        self.beats += 1
        return Heartbeat(
            host=self.name,
            epoch=self.epoch,
            instance=str(self.lives),
            last=len(self.log),
            number=self.beats,
        )

    @property
    def snapshot(self) -> HostSnapshot:
        return HostSnapshot(
            host=self.name,
            epoch=self.epoch,
            instance=str(self.lives),
            through=len(self.log),
            devices=tuple(self.devices.values()),
        )


class World:
    """Some hosts, and the hub."""

    def __init__(self, names: str = "AB", text: str = CONFIG) -> None:
        self.text = text
        self.clock = StubClock()
        self.hosts = {name: SimHost(name, 100 * n) for n, name in enumerate(names, 1)}
        self.store = MemoryStore()
        self.sent: list[Callback] = []
        self.changed: set[str] = set()
        self.hub = self.make_hub([], [])

    def make_hub(self, records: Iterable[DeviceRecord], rows: Iterable[FleetRow]) -> FleetPipeline:
        config = parse(self.text, "test.toml")
        webhooks = {w.id or 0: w for w in config.webhooks}
        ears = Ears(
            notify=self.sent.extend,
            stored=lambda: None,
            changed=self.changed.add,
            silenced=lambda: None,
        )
        return FleetPipeline(
            config,
            records,
            read(rows),
            self.store,
            Outbox(webhooks, config.org_of, "hub"),
            self.clock,
            ears,
        )

    async def done(self) -> None:
        """All that the hub has to do now is done, and stored."""
        while self.hub.core.do():
            pass
        while self.hub.core.pay(math.inf):
            pass
        self.hub.commits.commit()
        await self.hub.commits.drain()
        await asyncio.sleep(0)

    async def restart(self) -> None:
        """The hub begins again with what is stored."""
        self.hub = self.make_hub(list(self.store.devices.values()), self.store.rows.values())
        await self.done()

    async def beat(self, *names: str) -> None:
        """These are heard, and asked for what is missed of them."""
        for name in names or self.hosts:
            host = self.hosts[name]
            if not host.cut:
                self.hub.core.beat(host.beat)
                await self.done()
                await self.serve(name)

    async def serve(self, name: str) -> None:
        """The host answers whatever the hub wants of it."""
        host = self.hosts[name]
        while not host.cut and (known := self.hub.core.hosts.get(name)) is not None:
            if known not in self.hub.core.wanting():
                return
            if known.need is Need.SNAPSHOT:
                for _ in self.hub.core.whole(host.snapshot):
                    pass
            elif known.epoch != host.epoch:
                self.hub.core.hole(name)
            else:
                known.told_last(len(host.log))
                for told in host.log[known.cursor :][:3]:
                    self.hub.core.row(told)
            known.served()
            await self.done()

    async def deliver(self, name: str, first: int, count: int) -> None:
        """Rows of its log come over the stream; ids from 1."""
        for told in self.hosts[name].log[first - 1 :][:count]:
            self.hub.core.row(told)
            await self.done()

    async def flow(self) -> None:
        """All that every host has comes over the stream."""
        for name, host in self.hosts.items():
            known = self.hub.core.hosts.get(name)
            if known is not None and known.epoch == host.epoch:
                await self.deliver(name, known.cursor + 1, len(host.log))

    async def wait(self, seconds: float, *, blind: bool = False) -> None:
        """Time passes: the hub hears itself, and the hosts that are not cut, or nothing at all."""
        end = self.clock.now + seconds
        beats = 0
        if blind:
            self.hub.seen.lost()
        while self.clock.now < end - 1e-6:
            step = min(BEAT_EVERY, end - self.clock.now)
            self.clock.advance(step)
            if blind:
                continue
            if beats % 2 == 0:
                await self.beat()
            beats += 1
            self.hear_itself()
            await self.done()

    def hear_itself(self) -> None:
        if self.hub.seen.heard(self.clock.now, self.clock.now):
            self.hub.core.tick()

    async def begin(self) -> None:
        """The hub has all that there is."""
        self.hear_itself()
        await self.beat()
        await self.done()

    async def forget(self, name: str) -> None:
        """As an operator has it done."""
        self.hub.check_forgettable(name)
        await self.hub.forget(name)
        await self.done()

    def state(self, key: str) -> DeviceState | None:
        record = self.store.devices.get(key)
        return None if record is None else record.state

    def owner(self, key: str) -> str:
        return self.store.devices[key].host

    def story(self, key: str) -> list[DeviceState]:
        """The states that it entered, in order."""
        return [
            record.transition.state
            for record in self.store.moves
            if record.transition is not None and record.transition.udid == key
        ]

    def told(self, key: str) -> Iterator[DeviceState | None]:
        """The states that webhooks were told, in order."""
        return (each.state for each in self.store.callbacks if each.udid == key)
