"""Leases against a simple model, whatever is asked in whatever order, and in one turn of the loop.

The model knows who has what because it hears what each client is told. The leases are the real
ones, over a store that takes changes in the order of the calls, as the real one does, and that can
be slow, refuse, or lose what it has not written yet. Clients are tasks, as the API's requests are:
they wait, time out, are cancelled, are tied to their lease.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from agent.config import UsageSection
from agent.errors import (
    DeviceHeldError,
    LeaseError,
    LeasesOffError,
    StoreError,
    UnknownDeviceError,
    UnknownLeaseError,
)
from agent.model import Lease, Usage
from agent.subscribers import Subscribers, Topic
from agent.usage.lease_book import LATE, SECOND_CHANCE
from agent.usage.lease_queue import Candidate, Wish
from agent.usage.leases import Leases
from tests.kit.clock import ClockLoop
from tests.kit.examples import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TURNS = 12
ON, OFF = UsageSection(leases=True), UsageSection(leases=False)
"""More than anything here needs to come to rest."""


class OrderedStore:
    """Takes changes in the order of the calls; `written` is what a crash leaves."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        """Lease → device, as if everything that was asked for were written."""
        self.holders: set[str] = set()
        """Of all leases there ever were."""
        self.written: dict[str, Lease] = {}
        self.deleted: list[str] = []
        self.slow = self.refusing = self.dead = False
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    async def all(self) -> list[Lease]:
        return sorted(self.written.values(), key=lambda lease: lease.acquired_ms)

    def put(self, lease: Lease) -> asyncio.Future[None]:
        self.asked[lease.id] = lease.udid
        self.holders.add(lease.holder)
        return self._change(lambda: self.written.update({lease.id: lease}))

    def delete(self, lease_id: str) -> asyncio.Future[None]:
        self.asked.pop(lease_id, None)
        if not self.dead:
            self.deleted.append(lease_id)
        return self._change(lambda: self.written.pop(lease_id, None))

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        for change, done in waiting:
            if not self.dead:
                change()
            if not done.done():
                done.set_result(None)

    def _change(self, change: Callable[[], object]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.refusing:
            done.set_exception(StoreError("the disk is full"))
        else:
            self._waiting.append((change, done))
            if not self.slow:
                asyncio.get_running_loop().call_soon(self.flush)
        return done


@dataclass(eq=False)
class Client:
    """One request, and what came of it."""

    number: int
    wish: Wish
    ttl: float
    deadline: float
    """When its waiting ends."""
    steal: str
    tied: bool
    task: asyncio.Task[None] | None = None
    refused: Exception | None = None
    lease_id: str = ""


@dataclass
class Held:
    """A lease that a client was told of, or that was stored."""

    udid: str
    ttl: float
    expires: float | None
    """None: it is tied."""


WISHES = [Wish("a"), Wish("a"), Wish("b"), Wish("c"), Wish(), Wish(tags=("t",))]
ACTIONS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.sampled_from(WISHES),
        st.sampled_from([0.0, 2.0, 2.0, 60.0]),
        st.sampled_from([2.0, 30.0]),
        st.booleans(),
    ),
    st.tuples(st.just("steal"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["go", "go", "release", "renew"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["off", "on", "flush"])),
    st.tuples(st.sampled_from(["plug", "unplug"]), st.sampled_from("abc")),
    st.tuples(st.just("rename"), st.sampled_from("abc"), st.sampled_from("abcxy")),
)


class Machine(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def start(self) -> None:
        self.loop = ClockLoop()
        self.store = OrderedStore()
        self.devices = {
            "a": Candidate("a", None, ("t",), online=True),
            "b": Candidate("b", None, ("t",), online=True),
            "c": Candidate("c", None, (), online=False),
        }
        self.clients: list[Client] = []
        self.held: dict[str, Held] = {}
        self.ended: set[str] = set()
        self.on = True
        self.stopping = False
        self._begin()

    def _begin(self) -> None:
        self.told: dict[str, Usage] = {}
        self.untold: set[str] = set()
        """To be told in the next turn."""
        self.news = Subscribers()
        self.news.subscribe(Topic.LEASE, self._hear)
        self.leases = Leases(
            self.store,
            self._changed,
            candidates=lambda: list(self.devices.values()),
            candidate=self._candidate,
            clock=self.loop,
        )
        loading = self.loop.create_task(self.leases.load())
        while not loading.done():
            self.loop.turn()
        loading.result()
        self.rest()

    def _candidate(self, udid: str) -> Candidate | None:
        return self.devices.get(udid)

    def _changed(self, udid: str) -> None:
        self.untold.add(udid)
        self.news.publish(Topic.LEASE, udid)

    def _hear(self, udid: str) -> None:
        self.untold.remove(udid)
        self.told[udid] = self.leases.reading(udid).usage

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.store.slow = False
        for client in self.clients:
            if client.task is not None:
                client.task.cancel()
        closing = self.loop.create_task(self.leases.close())
        self.loop.turn(self.store.flush)
        for _ in range(TURNS):
            self.loop.turn()
        assert closing.done()
        self.loop.close()

    # --- what may happen -------------------------------------------------------------------

    @rule(actions=st.lists(ACTIONS, min_size=1, max_size=4), due=st.booleans())
    def at_once(self, actions: list[tuple[object, ...]], due: bool) -> None:
        """All of it in one turn of the loop, with the time at which somebody's waiting ends."""
        deadlines = [client.deadline for client in self._waiting()]
        if due and deadlines:
            self._pass_to(min(deadlines) - 0.5)
            self.loop.now += 0.5

        def act() -> None:
            for name, *arguments in actions:
                getattr(self, f"do_{name}")(*arguments)

        self.loop.turn(act)
        self.rest()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass_to(self.loop.now + seconds)

    @rule(seconds=st.sampled_from([1.0, 2.5, 40.0]))
    def the_agent_stands_still(self, seconds: float) -> None:
        self.loop.now += seconds
        for held in self.held.values():
            if held.expires is not None and self.loop.now - held.expires > LATE:
                held.expires = self.loop.now + min(held.ttl, SECOND_CHANCE)
        self.rest()

    @rule(slow=st.booleans(), refusing=st.sampled_from([False, False, True]))
    def the_disk(self, slow: bool, refusing: bool) -> None:
        self.store.slow, self.store.refusing = slow, refusing
        if not slow:
            self.loop.turn(self.store.flush)
        self.rest()

    @rule(crash=st.booleans())
    def a_restart(self, crash: bool) -> None:
        before = {id_ for id_, held in self.held.items()}
        sound = set(self.store.written) == set(self.store.asked)
        if crash:
            self.store.dead = True
        else:
            self.stopping = True
        for client in self.clients:
            if client.task is not None:
                client.task.cancel()
        closing = self.loop.create_task(self.leases.close())
        for _ in range(TURNS):
            self.loop.turn(self.store.flush)
        assert closing.done()
        kept: dict[str, Lease] = {}
        for lease in sorted(self.store.written.values(), key=lambda lease: lease.acquired_ms):
            kept[lease.udid] = lease
        if not crash and sound and not self._waiting():
            assert {lease.id for lease in kept.values()} == before, "a stop loses and revives none"
        self.clients.clear()
        self.held = {
            lease.id: Held(lease.udid, lease.ttl, self.loop.now + lease.ttl)
            for lease in kept.values()
        }
        self.ended -= set(self.held)
        store, self.store = self.store, OrderedStore()
        self.store.written = {lease.id: lease for lease in kept.values()}
        self.store.asked = {lease.id: lease.udid for lease in kept.values()}
        del store
        self.stopping, self.on = False, True
        self._begin()

    # --- one thing each, without a turn of the loop ----------------------------------------

    def do_ask(self, wish: Wish, wait: float, ttl: float, tied: bool) -> None:
        self._ask(wish, wait, ttl, "", tied)

    def do_steal(self, udid: str) -> None:
        self._ask(Wish(udid), 0.0, 30.0, "why not", False)

    def do_go(self, which: int) -> None:
        """A client's connection is lost, whatever it is at: it waits, is told, or holds."""
        there = [client for client in self.clients if client.task and not client.task.done()]
        if there:
            task = there[which % len(there)].task
            assert task is not None
            task.cancel()

    def do_release(self, which: int) -> None:
        if self.held:
            id_ = list(self.held)[which % len(self.held)]
            self._spawn(self._release(id_))

    def do_renew(self, which: int) -> None:
        if self.held:
            id_ = list(self.held)[which % len(self.held)]
            self._spawn(self._renew(id_))

    def do_off(self) -> None:
        self.on = False
        self.leases.reconfigure(OFF)
        for id_ in list(self.held):
            self._gone(id_)

    def do_on(self) -> None:
        self.on = True
        self.leases.reconfigure(ON)

    def do_flush(self) -> None:
        self.store.flush()

    def do_plug(self, udid: str, online: bool = True) -> None:
        if udid in self.devices:
            self.devices[udid] = self.devices[udid]._replace(online=online)
            self.leases.serve(udid)

    def do_unplug(self, udid: str) -> None:
        self.do_plug(udid, online=False)

    def do_rename(self, old: str, new: str) -> None:
        if old not in self.devices or old == new:
            return
        self.devices[new] = self.devices.pop(old)._replace(udid=new)
        if old in self.told:
            self.told[new] = self.told.pop(old)
        for client in self.clients:
            if client.wish.udid == old:
                client.wish = replace(client.wish, udid=new)
        taken = new in {lease.udid for lease in self.leases.all()}
        for id_, held in list(self.held.items()):
            if held.udid == old and taken:
                self._gone(id_)
            elif held.udid == old:
                held.udid = new
        self.leases.rename(old, new)

    # --- clients ---------------------------------------------------------------------------

    def _ask(self, wish: Wish, wait: float, ttl: float, steal: str, tied: bool) -> None:
        client = Client(len(self.clients), wish, ttl, self.loop.now + wait, steal, tied)
        self.clients.append(client)
        client.task = self.loop.create_task(self._serve(client, wait))

    async def _serve(self, client: Client, wait: float) -> None:
        try:
            lease = await self.leases.acquire(
                client.wish, f"c{client.number}", "", client.ttl, wait=wait, steal=client.steal
            )
        except LeaseError as error:
            client.refused = error
            return
        self._take()
        assert lease.udid not in {held.udid for held in self.held.values()}, "one lease a device"
        client.lease_id = lease.id
        expires = None if client.tied else self.loop.now + client.ttl
        self.held[lease.id] = Held(lease.udid, client.ttl, expires)
        self._in_order(client)
        if not client.tied:
            return
        self.leases.tie(lease.id)
        try:
            await self.leases.ended(lease.id, 1e9)
        finally:
            held = self.held.get(lease.id)
            if held is not None and not self.stopping:
                self._gone(lease.id)
            elif held is not None:
                held.expires = self.loop.now + held.ttl
            await self.leases.untie(lease.id, stopping=self.stopping)

    def _in_order(self, client: Client) -> None:
        before = [
            other
            for other in self._waiting()
            if other.wish == client.wish and other.number < client.number and not client.steal
        ]
        # Who was served before may be told by the store after; what counts is who still queues.
        assert self.leases.waiting == 0 or not before or self._served(before)

    def _served(self, before: list[Client]) -> bool:
        return all(
            f"c{other.number}" in self.store.holders
            or self.loop.now >= other.deadline
            or _leaves(other)
            for other in before
        )

    async def _release(self, id_: str) -> None:
        try:
            releasing = self.leases.release(id_)
            self._take()
            if id_ in self.held:
                self._gone(id_)
            await releasing
        except UnknownLeaseError:
            self._take()
            assert id_ in self.ended

    async def _renew(self, id_: str) -> None:
        try:
            await self.leases.renew(id_)
        except UnknownLeaseError:
            self._take()
            assert id_ not in self.held
            return
        held = self.held[id_]
        if held.expires is not None:
            held.expires = self.loop.now + held.ttl

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        client = Client(len(self.clients), Wish("-"), 0, float("inf"), "-", tied=False)
        client.lease_id = "-"
        client.task = self.loop.create_task(work)
        self.clients.append(client)

    def _gone(self, id_: str) -> None:
        del self.held[id_]
        self.ended.add(id_)

    def _take(self) -> None:
        """Whose device somebody took, with a reason, has it no more."""
        taken = {lease.udid: lease.id for lease in self.leases.all() if lease.taken}
        for id_, held in list(self.held.items()):
            if taken.get(held.udid, id_) != id_:
                self._gone(id_)

    def _waiting(self) -> list[Client]:
        return [
            client
            for client in self.clients
            if client.task and not client.task.done() and not client.lease_id
        ]

    # --- what must hold --------------------------------------------------------------------

    def _pass_to(self, end: float) -> None:
        while self.loop.now < end:
            self.loop.now += 0.5
            self.rest()

    def rest(self) -> None:
        """Let everything come to rest, looking at it after every turn."""
        for _ in range(TURNS):
            for id_, held in list(self.held.items()):
                if held.expires is not None and held.expires <= self.loop.now:
                    self._gone(id_)
            self.loop.turn()
            self._take()
            self.always()
        self.at_rest()

    def always(self) -> None:
        assert not self.loop.broken, self.loop.broken
        leases = self.leases.all()
        held = {lease.udid for lease in leases}
        assert len(held) == len(leases), "one lease a device"
        told = {udid for udid, usage in self.told.items() if usage is Usage.IN_USE}
        assert told - self.untold == held - self.untold, "told in the next turn, and as it is then"
        assert self.store.asked == {lease.id: lease.udid for lease in leases}, "stored as it is"
        assert len(self.store.deleted) == len(set(self.store.deleted)), "ends once"

    def at_rest(self) -> None:
        assert not self.untold, "all is told"
        for client in self.clients:
            if client.task is None or not client.task.done() or client.task.cancelled():
                continue
            assert client.task.exception() is None, client.task.exception()
            if client.refused is not None:
                assert isinstance(
                    client.refused,
                    DeviceHeldError | LeasesOffError | UnknownDeviceError | UnknownLeaseError,
                ), client.refused
        leases = {lease.id: lease.udid for lease in self.leases.all()}
        known = {id_: held.udid for id_, held in self.held.items()}
        untold = {client.number for client in self._waiting()} if self.store.slow else set()
        assert known.items() <= leases.items(), "nobody's lease ends without a reason"
        assert len(leases) - len(known) <= len(untold), "nor lasts longer than it may"
        for client in self._waiting():
            if f"c{client.number}" in self.store.holders:
                continue  # it waits for the store
            assert self.on, "turned off, nobody waits"
            assert self.loop.now < client.deadline, "nobody waits for ever"
            free = [
                each
                for each in self.devices.values()
                if client.wish.fits(each)
                and each.udid not in leases.values()
                and (each.online or client.wish.udid)
            ]
            assert not free, "a device is free that somebody waits for"
        assert self.leases.waiting <= len(self._waiting())


def _leaves(client: Client) -> bool:
    return client.task is None or client.task.cancelling() > 0 or client.refused is not None


Machine.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=25, deadline=None
)
TestLeases = Machine.TestCase


@pytest.mark.long
def test_leases_at_length() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=3000, stateful_step_count=60, deadline=None)
    )
