"""Simulated hosts of a fleet: the agents' own uplinks, over logs that are in memory.

`python -m benchmarks.fleet_hosts SERVER FIRST COUNT PHONES` is the hosts `rack-FIRST` and so on,
with as many online phones each, and prints `0` once it runs. Then, for each line of standard input
(JSON: `[RATE, SECONDS]`), that many phones a second change, one after the other, at an even pace; a
line of JSON says what was: `[[HOST, EPOCH, ID, UDID, MONOTONIC], …]`. It ends with its standard
input.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from agent.clock import LoopClock
from agent.config.model import Fleet
from agent.config.secret import PrivateUrl
from agent.fleet.nats_link import dial
from agent.fleet.own import Own
from agent.fleet.uplink import Uplink
from agent.model import DeviceRecord, DeviceState, Platform, Transition, Visibility
from agent.store.tables.log import LogRow, LogSlice, LogSnapshot, LogState, check_of
from agent.store.tables.transitions import StoredTransition
from agent.track.views import DeviceView
from benchmarks.sample import quiet

if TYPE_CHECKING:
    from agent.model import Sighting

ONLINE, OFFLINE = DeviceState.ONLINE, DeviceState.OFFLINE


class MemoryLog:
    """As the store's, of phones that are online since ever."""

    def __init__(self, host: str, phones: int) -> None:
        self._epoch = random.getrandbits(62)
        self._acked = 0
        self._rows: list[LogRow] = []
        self.devices: dict[str, tuple[DeviceRecord, int]] = {}
        for number in range(phones):
            self.change(f"{host}-R58M{number:04}", number)

    def change(self, udid: str, number: int = 0) -> int:
        """Its phone goes offline, or online; the id of that in the log."""
        known = self.devices.get(udid)
        before = None if known is None else known[0].state
        state = OFFLINE if before is ONLINE else ONLINE
        now_ms, id_ = time.time_ns() // 1_000_000, len(self._rows) + 1
        reason = "" if state is ONLINE else "offline: attached, but it does not answer adb"
        record = DeviceRecord(
            udid,
            Platform.ANDROID,
            state,
            now_ms,
            name=f"Galaxy {number}" if known is None else known[0].name,
            model="SM-N950F",
            port=f"1-1.{number % 7 + 1}.{number // 7}" if known is None else known[0].port,
            ways="adb udev",
            reason=reason,
        )
        self.devices[udid] = record, id_
        moved = Transition(udid, before, state, reason, now_ms)
        stored = StoredTransition(id_, moved)
        last = self._check_at(len(self._rows))
        self._rows.append(LogRow(stored, record, check_of(stored), last))
        return id_

    @property
    def epoch(self) -> int:
        """Of the log."""
        return self._epoch

    def _state(self) -> LogState:
        return LogState(self._epoch, len(self._rows), self._acked)

    async def state(self) -> LogState:
        """Where it stands."""
        return self._state()

    async def after(self, id_: int, limit: int) -> LogSlice:
        """The rows behind that id."""
        found = tuple(
            row._replace(device=self.devices[row.device.udid][0])
            for row in self._rows[id_ : id_ + limit]
        )
        first, check = id_ + 1 if found else 0, self._check_at(id_)
        return LogSlice(self._state(), found, hole=False, first=first, check=check)

    async def snapshot(self) -> LogSnapshot:
        """What they have come to."""
        check = self._check_at(len(self._rows))
        return LogSnapshot(self._state(), check, tuple(self.devices.values()))

    def _check_at(self, id_: int) -> int:
        return self._rows[id_ - 1].check if id_ else 0

    def join(self) -> asyncio.Future[LogState]:
        """What is there by now needs no telling."""
        self._acked = len(self._rows)
        return self._done(self._state())

    def leave(self) -> asyncio.Future[None]:
        """Never."""
        return self._done(None)

    def acknowledge(self, epoch: int, through: int, check: int) -> asyncio.Future[LogState]:
        """The hub has all up to that id."""
        del check
        if epoch == self._epoch:
            self._acked = max(self._acked, through)
        return self._done(self._state())

    def compare(self, epoch: int, through: int, check: int) -> asyncio.Future[LogState]:
        """The hub has nothing else."""
        del epoch, through, check
        return self._done(self._state())

    @staticmethod
    def _done(what: Any) -> asyncio.Future[Any]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(what)
        return done


class Shown:
    """Its devices as the agent would show them; nothing is leased or silenced."""

    now_ms = 0

    def __init__(self, log: MemoryLog) -> None:
        self._devices = log.devices

    def one(self, udid: str) -> DeviceView | None:
        """That device."""
        record = self._devices[udid][0]
        return DeviceView(
            udid,
            record.name,
            record.platform,
            record.state,
            record.reason,
            record.since_ms,
            record.holder,
            record.port,
            ("android-12", "shelf"),
            Visibility.PRIVATE,
            flapping=False,
            model=record.model,
            silence=None,
            told=record.state,
        )

    def seen(self, udid: str) -> tuple[Sighting, ...]:
        """Nothing of it: how it was seen is stored."""
        del udid
        return ()

    def rows(self) -> list[dict[str, object]]:
        """None."""
        return []

    async def acquire(self, *_: object, **__: object) -> dict[str, object]:
        """Nobody asks for that here."""
        raise NotImplementedError

    renew = release = add = end = acquire


class Host:
    """One agent, as far as the fleet knows."""

    def __init__(self, server: str, name: str, phones: int) -> None:
        self.name = name
        self.log = MemoryLog(name, phones)
        shown: Any = Shown(self.log)
        own = Own(
            log=self.log,
            devices=shown,
            leases=shown,
            silences=shown,
            sights=dict,
            clock=LoopClock(),
        )
        fleet = Fleet.model_construct(servers=(PrivateUrl(server),), host=name)
        self._uplink = Uplink(fleet, own, lambda: None, dial)
        self.running = asyncio.ensure_future(self._uplink.run())

    def change(self, udid: str) -> list[object]:
        """Its phone changes: what was noted of it."""
        id_ = self.log.change(udid)
        at = time.monotonic()
        self._uplink.transition_stored()
        return [self.name, self.log.epoch, id_, udid, at]


async def _change(hosts: list[Host], rate: float, seconds: float) -> list[list[object]]:
    """At an even pace, each phone as often as any other."""
    phones = [(host, udid) for host in hosts for udid in host.log.devices]
    random.Random(1).shuffle(phones)
    began = time.monotonic()
    made: list[list[object]] = []
    while len(made) < rate * seconds:
        if len(made) < (now := time.monotonic() - began) * rate:
            host, udid = phones[len(made) % len(phones)]
            made.append(host.change(udid))
        else:
            await asyncio.sleep(len(made) / rate - now)
    return made


async def serve(server: str, first: int, count: int, phones: int) -> None:
    """Serve until standard input ends."""
    quiet()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hosts = [Host(server, f"rack-{number}", phones) for number in range(first, first + count)]
    print(0, flush=True)
    while line := await reader.readline():
        rate, seconds = json.loads(line)
        print(json.dumps(await _change(hosts, rate, seconds)), flush=True)
    for host in hosts:
        host.running.cancel()
    await asyncio.wait([host.running for host in hosts])


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], *map(int, sys.argv[2:5])))
