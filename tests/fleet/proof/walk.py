"""One run of the proof: phones change, hosts and hubs and servers fail, and at the end all is told.

Phones are of two kinds. Those that stay at their host go on- and offline and are unplugged now and
then. Those that move go from host to host, and nobody may say that they were unplugged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from agent.fleet import subjects
from agent.model import Bridge, Platform
from agent.sources.simulated import Phone
from tests.fleet.proof.field import WEBHOOKS
from tests.fleet.proof.oracle import judge
from tests.fleet.proof.schedule import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.fleet.proof.field import Field
    from tests.fleet.proof.oracle import Verdict
    from tests.fleet.proof.schedule import Befalls
    from tests.kit.rack import Rack

STAY = 10
"""Phones of each host that stay there."""
MOVE = 3
"""Phones that move."""
MOVES_EVERY = 6.0
"""Seconds between two moves."""
SETTLED = 2.0
"""Seconds after a move in which nothing may befall its hosts: they must be able to tell it."""
HEARD_AGAIN = 16.0
"""Seconds after which a host that was in trouble is connected, its longest back-off included."""
END_LIMIT = 180.0
"""Seconds for everything to be told, once nothing fails any more."""
FIRST_LIMIT = 60.0


@dataclass(slots=True)
class Blind:
    """When no hub could hear anybody, in the receiver's seconds."""

    since: float
    until: float = float("inf")


class Walk:
    """Use once."""

    def __init__(self, field: Field, seed: int, changes: int, rate: float) -> None:
        self._field = field
        self._at = random.Random(seed)
        self._changes = changes
        self._rate = rate
        self._hosts = list(field.racks)
        self._troubled: set[str] = set()
        """Hosts that cannot tell anything just now: no phone moves from or to them."""
        self._moving = asyncio.Lock()
        self._stay = {
            host: [
                Phone(
                    f"S{number}{index:03d}",
                    f"Phone {number}.{index}",
                    f"1-{index}",
                    _platform(index),
                )
                for index in range(STAY)
            ]
            for number, host in enumerate(self._hosts, 1)
        }
        self._move = [
            Phone(f"M{index:03d}", f"Moved {index}", f"2-{index}", _platform(index))
            for index in range(MOVE)
        ]
        self._canaries = {
            host: Phone(f"C{number}", f"First {number}", "3-1", Platform.ANDROID)
            for number, host in enumerate(self._hosts, 1)
        }
        self.blind: list[Blind] = []
        self.done = 0
        self.moves = 0
        self.said: list[str] = []

    async def run(self, faults: Sequence[Befalls]) -> Verdict:
        """All of it, and what was found."""
        await self._first()
        async with asyncio.TaskGroup() as group:
            changing = group.create_task(self._change())
            moving = group.create_task(self._carry())
            await self._befall(faults)
            await changing
            async with self._moving:  # not while a phone is on its way
                moving.cancel()
        self._say(f"{self.done} changes, {self.moves} moves; waiting for all of it to be told")
        await self._until_told()
        for each in self._field.all():
            await each.stop()
        sent = self._field.receiver.sent()
        verdict = judge(
            self._field.logs(), [each for _, each in sent], WEBHOOKS, {p.serial for p in self._move}
        )
        for blind in self.blind:
            verdict.wrong += [
                f"said while the hubs were blind: {each}"
                for at, each in sent
                if each.lost and blind.since < at < blind.until
            ]
        return verdict

    async def _first(self) -> None:
        """The hubs know each host before anything happens: from then on each transition counts."""
        for host, phone in self._canaries.items():
            self._field.racks[host].plug(phone)
        for name in self._field.hubs:
            first = {phone.serial: "online" for phone in self._canaries.values()}
            await self._until_states(FIRST_LIMIT, name, first)
        for host, phones in self._stay.items():
            for phone in phones:
                self._field.racks[host].plug(phone)
        for phone, host in zip(self._move, cycle(self._hosts)):
            self._field.racks[host].plug(phone)

    # --- what phones do -------------------------------------------------------------------------

    async def _change(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self.done < self._changes:
            host = self._at.choice(self._hosts)
            phone = self._at.choice(self._stay[host])
            self._change_one(self._field.racks[host], phone)
            self.done += 1
            await asyncio.sleep(max(0.0, began + self.done / self._rate - loop.time()))

    def _change_one(self, rack: Rack, phone: Phone) -> None:
        if phone not in rack.phones or rack.bridge(phone) is Bridge.NOT_READY:
            rack.plug(phone)
        elif self._at.random() < 0.1:
            rack.unplug(phone)
        else:
            rack.plug(phone, Bridge.NOT_READY, "unauthorized")

    async def _carry(self) -> None:
        while True:
            await asyncio.sleep(MOVES_EVERY)
            phone = self._at.choice(self._move)
            here = next(h for h in self._hosts if phone in self._field.racks[h].phones)
            there = self._at.choice([host for host in self._hosts if host != here])
            async with self._moving:
                if {here, there} & self._troubled:
                    continue
                self._field.racks[here].unplug(phone)
                await asyncio.sleep(self._at.uniform(0.1, 1.5))
                self._field.racks[there].plug(phone)
                self.moves += 1
                self._say(f"{phone.serial} went from {here} to {there}")
                await asyncio.sleep(SETTLED)

    # --- what befalls them ----------------------------------------------------------------------

    async def _befall(self, faults: Sequence[Befalls]) -> None:
        for each in faults:
            await asyncio.sleep(each.pause)
            self._say(f"{each.fault} ({each.lasts:.1f} s)")
            async with self._during(each):
                await asyncio.sleep(each.lasts)

    def _during(self, befalls: Befalls) -> contextlib.AbstractAsyncContextManager[None]:
        match befalls.fault:
            case Fault.CUT_HOST:
                return self._host_cut_off()
            case Fault.KILL_HOST:
                return self._host_killed(self._hosts[befalls.pick % len(self._hosts)])
            case Fault.KILL_ACTIVE | Fault.KILL_STANDBY | Fault.PAUSE_ACTIVE:
                return self._hub(befalls.fault)
            case Fault.KILL_RECEIVER:
                return self._receiver_killed()
            case _:
                return self._servers(befalls)

    @contextlib.asynccontextmanager
    async def _servers(self, befalls: Befalls) -> AsyncIterator[None]:
        cluster = self._field.cluster
        servers = list(cluster.brokers.values())
        one = servers[befalls.pick % len(servers)]
        match befalls.fault:
            case Fault.PAUSE_LEADER:
                leader = await cluster.leader(subjects.TRANSITIONS)
                leader.stop()
                yield
                leader.go_on()
            case Fault.DELETE_STREAM:
                await self._field.delete_stream()
                yield
            case Fault.NO_SERVERS:
                cluster.close()
                self.blind.append(Blind(time.monotonic()))
                yield
                self.blind[-1].until = time.monotonic()
                await cluster.start()
            case _:
                one.kill()
                yield
                if befalls.fault is Fault.WIPE_SERVER:
                    one.wipe()
                await one.start()

    @contextlib.asynccontextmanager
    async def _hub(self, fault: Fault) -> AsyncIterator[None]:
        hubs, active = self._field.hubs, await self._field.active()
        if fault is Fault.PAUSE_ACTIVE:
            self._field.pause(hubs[active])
            yield
            self._field.go_on(hubs[active])
            return
        other = next(name for name in hubs if name != active)
        hub = hubs[active if fault is Fault.KILL_ACTIVE else other]
        await hub.kill()
        yield
        await hub.start()

    @contextlib.asynccontextmanager
    async def _host_killed(self, host: str) -> AsyncIterator[None]:
        async with self._trouble(host):
            await self._field.racks[host].kill()
            yield
            await self._field.racks[host].start()

    @contextlib.asynccontextmanager
    async def _host_cut_off(self) -> AsyncIterator[None]:
        async with self._trouble("rack-3"):
            self._field.wire.cut()
            yield
            self._field.wire.mend()

    @contextlib.asynccontextmanager
    async def _receiver_killed(self) -> AsyncIterator[None]:
        await self._field.receiver.kill()
        yield
        await self._field.receiver.start()

    @contextlib.asynccontextmanager
    async def _trouble(self, host: str) -> AsyncIterator[None]:
        async with self._moving:
            self._troubled.add(host)
        yield
        asyncio.get_running_loop().call_later(HEARD_AGAIN, self._troubled.discard, host)

    # --- the end --------------------------------------------------------------------------------

    async def _until_told(self) -> None:
        """Each hub has each phone as its host has it, and nothing waits to be sent."""
        states: dict[str, str] = {}
        for rack in self._field.racks.values():
            rows = (await rack.api("GET", "/v1/devices"))[1]["devices"]
            hanging = {phone.serial for phone in rack.phones}
            states |= {row["udid"]: row["state"] for row in rows if row["udid"] in hanging}
            states |= {row["udid"]: row["state"] for row in rows if row["udid"] not in states}
        for name in self._field.hubs:
            await self._until_states(END_LIMIT, name, states)
        await self._field.hubs[await self._field.active()].until_delivered()

    async def _until_states(self, limit: float, hub: str, states: dict[str, str]) -> None:
        other: dict[str, object] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while True:
                    rows = (await self._field.hubs[hub].api("GET", "/v1/devices"))[1]["devices"]
                    found = {row["udid"]: row["state"] for row in rows}
                    other = {
                        udid: (state, found.get(udid))
                        for udid, state in states.items()
                        if found.get(udid) != state
                    }
                    if not other:
                        return
                    await asyncio.sleep(0.2)
        log = "\n".join(self._field.hubs[hub].log[-20:])
        raise AssertionError(f"{hub}, after {limit} s: (wanted, has) {other}\n{log}")

    def _say(self, text: str) -> None:
        sent = len(self._field.receiver.sent())
        line = f"{time.strftime('%H:%M:%S')} {self.done:6} changes, {sent:6} requests: {text}"
        self.said.append(line)
        print(line, flush=True)


def _platform(index: int) -> Platform:
    return Platform.IOS if index % 3 == 0 else Platform.ANDROID
