"""Random fleets: moves, twins, replays, gaps, lost hosts, blind times, restarts of the hub."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.track.derive import CALLS_BACK
from tests.fleet.world import (
    GONE_AFTER,
    MOVE_HOLD,
    OFFLINE,
    ONLINE,
    TWINS_AFTER,
    UNPLUGGED,
    UTILIZING,
    MemoryStore,
    World,
)
from tests.kit.examples import examples

if TYPE_CHECKING:
    from agent.fleet.words import HostSnapshot
    from agent.model import Callback, DeviceState

HERE = (ONLINE, OFFLINE, UTILIZING)
_NUMBER = st.integers(0, 11)
_OPS = (
    "plug",
    "plug",
    "unplug",
    "state",
    "state",
    "deliver",
    "deliver",
    "replay",
    "flow",
    "beat",
    "beat_one",
    "glimpse",
    "old_glimpse",
    "wait",
    "long",
    "blind",
    "cut",
    "restart",
    "anew",
    "silence",
    "forget",
    "forget",
)
_WALK = st.lists(st.tuples(st.sampled_from(_OPS), _NUMBER, _NUMBER), min_size=25, max_size=70)


@dataclass
class Walk:
    """A world, and phones in somebody's hands."""

    world: World
    serials: tuple[str, ...]
    """Of each phone; two alike are twins."""
    places: dict[int, str] = field(default_factory=dict)
    """Phone → the host that it is plugged in at."""
    old: list[HostSnapshot] = field(default_factory=list)
    cursors: dict[tuple[str, int], int] = field(default_factory=dict)

    async def step(self, op: str, a: int, b: int) -> None:  # noqa: C901, PLR0912, PLR0915 - a table
        names = sorted(self.world.hosts)
        name = names[a % len(names)]
        host = self.world.hosts[name]
        phone = b % len(self.serials)
        serial = self.serials[phone]
        match op:
            case "plug":
                if serial not in self._at(name):
                    self._unplug(phone)
                    self.places[phone] = name
                    host.move(serial, HERE[b % 2])
            case "unplug":
                self._unplug(phone)
            case "state":
                if phone in self.places:
                    self.world.hosts[self.places[phone]].move(serial, HERE[a % 3])
            case "deliver":
                known = self.world.hub.core.hosts.get(name)
                if not host.cut and known is not None:
                    await self.world.deliver(name, known.cursor + 1 + b % 3, 1 + b)
            case "replay":
                await self.world.deliver(name, 1 + b, 4)
            case "flow":
                if not any(each.cut for each in self.world.hosts.values()):
                    await self.world.flow()
            case "beat":
                await self.world.beat()
            case "beat_one":
                await self.world.beat(name)
            case "glimpse":
                self.old.append(host.snapshot)
                if not host.cut:
                    self.world.hub.core.glimpse(host.snapshot)
                    await self.world.done()
            case "old_glimpse":
                if self.old:
                    self.world.hub.core.glimpse(self.old[b % len(self.old)])
                    await self.world.done()
            case "wait":
                await self.world.wait(2.0 * (1 + b))
            case "long":
                await self.world.wait(40.0 + 10 * b)
            case "blind":
                before = len(self.world.store.moves)
                await self.world.wait(50.0 * (1 + b), blind=True)
                assert len(self.world.store.moves) == before
                self.world.hear_itself()
                await self.world.done()
            case "cut":
                host.cut = not host.cut
            case "restart":
                await self.world.restart()
                self.world.hear_itself()
                for each in self.world.hub.core.hosts.values():
                    key = each.name, each.epoch or 0
                    assert each.cursor >= self.cursors.get(key, 0)
            case "anew":
                if b == 0:
                    host.begin_anew(empty=False)
                    self.old.clear()
            case "silence":
                if serial in host.devices:
                    host.silence(serial, None if b % 3 == 0 else 20.0 * b)
            case "forget":
                await self._forget(name)
        self._check()

    async def _forget(self, name: str) -> None:
        """One that is lost; in the end it is back, and a new one."""
        hub, store = self.world.hub, self.world.store
        known = hub.core.hosts.get(name)
        if known is None or known.why_keep(hub.seen.seconds, 60.0):
            return
        shown = {view.udid: view for view in hub.views.all()}
        sent, before = len(store.callbacks), len(store.moves)
        await self.world.forget(name)
        kept = {udid for udid, view in shown.items() if view.host != name}
        left = {view.udid: view for view in hub.views.all()}
        assert kept <= left.keys()
        assert all(view.host != name for view in left.values())
        # Nothing is invented: what happens, another host tells.
        for record in store.moves[before:]:
            assert record.device.host != name
            assert record.device.udid in left
        assert all(each.udid in left for each in store.callbacks[sent:])
        assert name not in {host for host, _ in store.rows}
        self.cursors = {key: at for key, at in self.cursors.items() if key[0] != name}

    def _at(self, name: str) -> list[str]:
        return [self.serials[phone] for phone, place in self.places.items() if place == name]

    def _unplug(self, phone: int) -> None:
        place = self.places.pop(phone, None)
        if place is not None:
            self.world.hosts[place].move(self.serials[phone], UNPLUGGED)

    def _check(self) -> None:
        for mark in self.world.hub.core.marks():
            key = mark.host, mark.epoch
            assert mark.cursor >= self.cursors.get(key, 0), "a cursor went back"
            self.cursors[key] = mark.cursor

    async def end(self) -> None:
        """All that happened is told, and what waits has ripened."""
        for host in self.world.hosts.values():
            host.cut = False
            for udid in host.devices:
                host.silence(udid, None)
        self.world.hear_itself()
        await self.world.beat()
        await self.world.flow()
        for host in self.world.hosts.values():
            self.world.hub.core.glimpse(host.snapshot)
        await self.world.done()
        await self.world.wait(GONE_AFTER + TWINS_AFTER + MOVE_HOLD)

    def truth(self) -> dict[str, list[tuple[str, DeviceState]]]:
        """Serial → (host, state) of each phone of it that is plugged in."""
        found: dict[str, list[tuple[str, DeviceState]]] = {serial: [] for serial in self.serials}
        for name, host in sorted(self.world.hosts.items()):
            for serial, device in host.devices.items():
                if device.state is not UNPLUGGED:
                    found[serial].append((name, device.state))
        return found


def check_stories(store: MemoryStore) -> None:
    """Per phone: each transition goes on from the one before; each callback from the last told."""
    states: dict[str, DeviceState] = {}
    for record in store.moves:
        move = record.transition
        assert move is not None
        before = states.get(move.udid)
        assert move.previous is before or (before is None and move.previous is UNPLUGGED)
        assert move.state is not move.previous
        states[move.udid] = move.state
    told: dict[str, DeviceState | None] = {}
    for callback in store.callbacks:
        state = callback.state
        assert state is not None
        assert state is not told.get(callback.udid) or state is UTILIZING or state is OFFLINE
        told[callback.udid] = state
    for udid, device in store.devices.items():
        if not device.debt and udid in told:
            last = told[udid]
            assert last is device.state or (last, device.state) not in CALLS_BACK


def run(serials: tuple[str, ...], hosts: int, walk: list[tuple[str, int, int]]) -> Walk:
    async def body() -> Walk:
        made = Walk(World("ABCD"[:hosts]), serials)
        await made.world.begin()
        for op, a, b in walk:
            await made.step(op, a, b)
        await made.end()
        return made

    return asyncio.run(body())


@settings(max_examples=examples(80), deadline=None)
@given(st.integers(2, 4), _WALK)
def test_a_fleet_comes_to_what_is_true(hosts: int, walk: list[tuple[str, int, int]]) -> None:
    serials = ("p", "q", "r")
    made = run(serials, hosts, walk)
    store = made.world.store
    check_stories(store)
    for serial, there in made.truth().items():
        record = store.devices.get(serial)
        if there:
            ((host, state),) = there
            assert record is not None
            assert (record.host, record.state) == (host, state), serial
        else:
            assert record is None or record.state is UNPLUGGED
    assert store.devices.keys() <= set(serials), "one phone was taken for two"


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(2, 4), _WALK)
def test_twins_come_to_what_is_true(hosts: int, walk: list[tuple[str, int, int]]) -> None:
    made = run(("p", "p", "q"), hosts, walk)
    store = made.world.store
    check_stories(store)
    there = made.truth()["p"]
    found = {
        (record.host, record.state)
        for udid, record in store.devices.items()
        if udid.partition("@")[0] == "p" and record.state is not UNPLUGGED
    }
    assert found == set(there)


def test_nothing_of_a_log_is_lost_whatever_the_broker_loses() -> None:
    """Phones that stay at their hosts, which are never lost: each transition, in order, once."""
    ops = ("state", "plug_own", "unplug", "deliver", "replay", "beat", "wait", "restart", "blind")

    @settings(max_examples=examples(80), deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(ops), _NUMBER, _NUMBER), min_size=25, max_size=70))
    def walks(walk: list[tuple[str, int, int]]) -> None:
        async def body() -> None:
            world = World("AB")
            made = Walk(world, ("pA", "pB"))
            await world.begin()
            for op, a, b in walk:
                if op == "plug_own":
                    phone = b % 2
                    if phone not in made.places:
                        made.places[phone] = "AB"[phone]
                        world.hosts["AB"[phone]].move(made.serials[phone], HERE[a % 2])
                else:
                    await made.step(op, a, b)
            await made.end()
            for name in "AB":
                log = [told.device.state for told in world.hosts[name].log]
                assert world.story(f"p{name}") == log
            check_stories(world.store)

        asyncio.run(body())

    walks()


@settings(max_examples=examples(60), deadline=None)
@given(_WALK, st.integers(0, 59), st.booleans())
def test_what_is_made_anew_has_the_same_ids(
    walk: list[tuple[str, int, int]],
    crash: int,
    moving: bool,
) -> None:
    """A hub that dies before its disk had the last of it derives it again, with equal ids.

    What it makes of a phone that moves hangs on whom it has heard by then; yet no id is of two.
    """

    async def body() -> None:
        made = Walk(World("ABC"), ("p", "q"))
        await made.world.begin()

        async def steps(some: list[tuple[str, int, int]]) -> None:
            for op, a, b in some:
                await made.step(op, b % 2 if op == "plug" and not moving else a, b)

        await steps(walk[:crash])
        before = made.world.store.copy()
        await steps([one for one in walk[crash:] if one[0] in {"plug", "unplug", "state"}])
        await made.world.flow()
        first = made.world.store.callbacks
        made.world.store = before
        known = len(before.callbacks)
        await made.world.restart()
        made.world.hear_itself()
        await made.world.flow()
        again = made.world.store.callbacks
        if not moving:
            assert list(map(_essence, again[known:])) == list(map(_essence, first[known:]))
        essences = set(map(_essence, [*first, *again]))
        assert len(essences) == len({message_id for message_id, _, _ in essences})

    asyncio.run(body())


def _essence(callback: Callback) -> tuple[str, str, DeviceState | None]:
    return callback.message_id, callback.udid, callback.state
