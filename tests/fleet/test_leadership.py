"""Who may send: hubs on clocks of their own, and a broker that does what brokers do."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from agent.fleet.hub.leadership import Found, Leadership, Pace, Try
from agent.fleet.words import Leading
from tests.kit.seed import seed

PACE = Pace()
DRIFT = 0.09
"""How far a clock may be off, see the module."""


@dataclass
class Broker:
    """One key, in real time."""

    raw: bytes | None = None
    value: Leading | None = None
    revision: int = 0

    def get(self) -> Found | None:
        return None if self.raw is None else Found(self.revision, self.raw, self.value)

    def swap(self, tried: Try) -> int | None:
        there = self.revision if self.raw is not None else 0
        if tried.revision != there:
            return None
        self.revision += 1
        self.value = tried.value
        self.raw = tried.value.model_dump_json().encode()
        return self.revision

    def wipe(self, *, counts_on: bool) -> None:
        self.raw = self.value = None
        if not counts_on:
            self.revision = 0


@dataclass
class Hub:
    """A process: its clock has a rate and an origin of its own; what it awaits takes a while."""

    name: str
    rate: float
    origin: float
    place: str = ""
    leadership: Leadership = field(init=False)
    next: float = 0.0
    """Real time of its next step."""
    stopped_until: float = 0.0
    cut_until: float = 0.0
    restarts: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.restarts += 1
        instance = f"{self.name}.{self.restarts}"
        self.leadership = Leadership(self.name, instance, self.place, PACE)

    def now(self, real: float) -> float:
        return self.origin + real * self.rate


@dataclass
class Late:
    """A swap that the broker is yet to hear of."""

    at: float
    hub: Hub
    leadership: Leadership
    tried: Try
    answered: bool


class World:
    """Steps in real time; looks at every moment who may send."""

    def __init__(
        self, chance: random.Random, hubs: int, *, faults: bool, forgetful: bool = False
    ) -> None:
        self.chance = chance
        self.broker = Broker()
        self.hubs = [
            Hub(
                f"hub-{n}",
                1 + chance.uniform(-DRIFT, DRIFT) / 2,
                chance.uniform(0, 1e6),
                f"place-{n}" if chance.random() < 0.5 else "",
            )
            for n in range(hubs)
        ]
        self.faults = faults
        self.forgetful = forgetful
        """The broker forgets every few seconds, whatever is under way, but for its count; else
        its count as well, but seldom, and while no swap is on its way."""
        self.real = 0.0
        self.late: list[Late] = []
        self.down_until = 0.0
        self.wiped_at = -100.0
        self.spells = 0

    def run(self, seconds: float) -> None:
        end = self.real + seconds
        while self.real < end:
            self.real += self.chance.choice((0.01, 0.05, 0.2))
            self._break()
            self._deliver()
            for hub in self.hubs:
                if self.real >= max(hub.next, hub.stopped_until):
                    self._step(hub)
            self.check()

    def active(self) -> list[str]:
        """Who would begin an attempt now, if it ran; a stopped one does when it goes on."""
        return [
            hub.name
            for hub in self.hubs
            if self.real >= hub.stopped_until and hub.leadership.may_send(hub.now(self.real))
        ]

    def check(self) -> None:
        # Stopped ones too: one may be continued at any moment.
        may = [hub for hub in self.hubs if hub.leadership.may_send(hub.now(self.real))]
        assert len(may) <= 1, [hub.leadership.leader for hub in may]

    def _step(self, hub: Hub) -> None:
        chance, leadership = self.chance, hub.leadership
        hub.next = self.real + chance.uniform(0.2, PACE.look)
        if max(self.down_until, hub.cut_until) > self.real:
            return
        took = chance.uniform(0, 1.0) if self.faults else 0.01
        found = self.broker.get()
        if took > 0.9:
            return  # no answer
        leadership.seen(hub.now(self.real), found)
        if leadership.leads(hub.now(self.real)):
            leadership.open(leadership.spell)
        tried = leadership.wants(hub.now(self.real))
        if tried is None:
            return
        if self.faults and chance.random() < 0.3:
            # It arrives late, if ever, and its answer may be lost.
            delay = chance.choice((0.1, 1.0, 7.0, 40.0))
            if chance.random() < 0.7:
                answered = chance.random() < 0.5 and delay < 3
                self.late.append(Late(self.real + delay, hub, leadership, tried, answered))
            return
        revision = self.broker.swap(tried)
        self._answer(hub, leadership, tried, revision)

    def _answer(self, hub: Hub, leadership: Leadership, tried: Try, revision: int | None) -> None:
        if revision is None or leadership is not hub.leadership:
            return
        raw = tried.value.model_dump_json().encode()
        before = leadership.spell
        leadership.swapped(hub.now(self.real), tried, Found(revision, raw, tried.value))
        if leadership.leads(hub.now(self.real)):
            leadership.open(leadership.spell)
            self.spells += leadership.spell - before

    def _deliver(self) -> None:
        due = [each for each in self.late if each.at <= self.real]
        self.late = [each for each in self.late if each.at > self.real]
        for each in due:
            if self.down_until > self.real:
                each.at = self.down_until
                self.late.append(each)
                continue
            revision = self.broker.swap(each.tried)
            if each.answered and each.hub.stopped_until <= self.real:
                self._answer(each.hub, each.leadership, each.tried, revision)

    def _break(self) -> None:
        if not self.faults:
            return
        chance = self.chance
        hub = chance.choice(self.hubs)
        what = chance.random()
        if what < 0.004:
            hub.stopped_until = self.real + chance.choice((0.5, 3, 9, 12, 16, 40))
        elif what < 0.008:
            hub.cut_until = self.real + chance.choice((1, 6, 12, 20, 60))
        elif what < 0.009:
            hub.begin()  # killed, and begun anew
            hub.stopped_until = 0.0
        elif what < 0.0095:
            leadership = hub.leadership
            tried = leadership.leave()
            if tried is not None and hub.stopped_until <= self.real >= hub.cut_until:
                self.broker.swap(tried)
            hub.begin()
        elif what < 0.012:
            self.down_until = self.real + chance.choice((1, 5, 12, 30))
        elif what < (0.022 if self.forgetful else 0.013):
            self._wipe()

    def _wipe(self) -> None:
        if self.forgetful:
            self.broker.wipe(counts_on=True)
        elif self.real - self.wiped_at > 2 * PACE.take and not self.late:
            self.wiped_at = self.real
            self.broker.wipe(counts_on=False)


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("hubs", [2, 3])
@pytest.mark.parametrize("count", [15, pytest.param(60, marks=pytest.mark.long)])
def test_never_two_that_may_send_whatever_happens(
    hubs: int, count: int, *, forgetful: bool
) -> None:
    chance = random.Random(seed(hubs))
    spells = 0
    for _ in range(count):
        world = World(chance, hubs, faults=True, forgetful=forgetful)
        world.run(400)
        # Then all is well again: somebody leads, and goes on.
        world.faults = False
        world.late.clear()
        for hub in world.hubs:
            hub.stopped_until = hub.cut_until = 0.0
        world.down_until = 0.0
        world.run(2 * PACE.take + 5)
        (leading,) = world.active()
        world.run(60)
        assert world.active() == [leading], "nobody takes over from who is well"
        spells += world.spells
    assert spells > count * (2.5 if forgetful else 5), "much happened"


def leading(name: str = "a", instance: str = "a.1", place: str = "") -> Leadership:
    """One that leads since 0, of an empty broker; its claim stood there before."""
    it = Leadership(name, instance, place, PACE)
    claim = claimed(it, -PACE.again)
    for n in range(1, 12):
        it.seen(n - PACE.again, claim)
    tried = it.wants(0.0)
    assert tried is not None
    assert (tried.revision, tried.value.term, tried.value.claim) == (1, 1, False)
    it.swapped(0.1, tried, as_found(tried, 2))
    it.open(it.spell)
    return it


def claimed(it: Leadership, now: float) -> Found:
    """It has written its claim, for nothing was there."""
    for n in range(5):
        assert it.wants(now + n - PACE.empty) is None
        it.seen(now + n - PACE.empty, None)
    tried = it.wants(now)
    assert tried is not None
    assert (tried.revision, tried.value.claim) == (0, True)
    found = as_found(tried, 1)
    it.swapped(now, tried, found)
    return found


def as_found(tried: Try, revision: int) -> Found:
    return Found(revision, tried.value.model_dump_json().encode(), tried.value)


def test_a_hub_that_was_stopped_may_not_send_before_it_noticed() -> None:
    it = leading()
    assert it.may_send(9.9)
    assert not it.may_send(10.0), "from when its renewal was sent, not from when it was answered"
    assert not it.may_send(50.0)


def test_it_renews_and_leads_on() -> None:
    it = leading()
    assert it.wants(4.9) is None
    tried = it.wants(5.0)
    assert tried is not None
    assert (tried.revision, tried.value.term, tried.value.beat) == (2, 1, 3)
    it.swapped(5.2, tried, as_found(tried, 2))
    assert (it.may_send(14.9), it.may_send(15.0), it.spell) == (True, False, 1)


def test_a_lost_answer_is_found_in_the_key() -> None:
    it = leading()
    tried = it.wants(5.0)
    assert tried is not None
    it.seen(8.0, as_found(tried, 2))
    assert (it.may_send(14.9), it.may_send(15.0)) == (True, False)


def test_what_was_sent_too_long_ago_gives_nothing() -> None:
    it = leading()
    tried = it.wants(5.0)
    assert tried is not None
    it.seen(15.5, as_found(tried, 2))
    assert not it.may_send(15.5)
    assert it.wants(15.6) is None, "somebody else may have led meanwhile: it waits like the others"
    for n in range(6):
        it.seen(18.5 + 3 * n, as_found(tried, 2))
    again = it.wants(33.5)
    assert again is not None
    it.swapped(33.6, again, as_found(again, 3))
    assert not it.may_send(33.6), "a new spell: first it reads what others have sent"
    it.open(it.spell)
    assert it.may_send(33.6)


def test_a_standby_takes_over_after_its_own_fifteen_seconds_of_looking() -> None:
    other = as_found(Try(Leading(hub="b", instance="b.1", term=7, beat=3), 0), 9)
    it = Leadership("a", "a.1", "", PACE)
    it.seen(0.0, other)
    it.seen(1000.0, other)
    assert it.wants(1000.0) is None, "it did not look: three seconds count of it"
    for n in range(1, 5):
        it.seen(1000.0 + 3 * n, other)
    tried = it.wants(1012.0)
    assert tried is not None
    assert (tried.revision, tried.value.term) == (9, 8)


@pytest.mark.parametrize("why", ["released", "place"])
def test_nobody_waits_for_one_that_is_surely_gone(why: str) -> None:
    value = Leading(hub="b", instance="b.1", term=7, beat=3, place="x", released=why == "released")
    it = Leadership("a", "a.1", "x" if why == "place" else "y", PACE)
    it.seen(0.0, as_found(Try(value, 0), 9))
    assert it.wants(0.0) is not None


def test_somebody_elses_value_ends_it_at_once() -> None:
    it = leading()
    it.seen(2.0, as_found(Try(Leading(hub="b", instance="b.1", term=2, beat=1), 0), 2))
    assert not it.may_send(2.0)


def test_a_broker_that_forgot_is_told_again_by_who_leads_and_by_nobody_else() -> None:
    it = leading()
    it.seen(3.0, None)
    tried = it.wants(3.0)
    assert tried is not None
    assert tried.revision == 0
    standby = Leadership("b", "b.1", "", PACE)
    for n in range(2):
        standby.seen(3.0 * n, None)
        assert standby.wants(3.0 * n) is None


def test_a_claim_lets_nobody_send_until_it_has_stood_there() -> None:
    """Who else found nothing may have set something that the broker has forgotten since."""
    it = Leadership("a", "a.1", "", PACE)
    claim = claimed(it, 0.0)
    for n in range(1, 11):
        it.seen(n, claim)
        assert (it.leads(n), it.wants(n)) == (False, None)
    it.seen(11.0, claim)
    assert it.wants(11.0) is not None


@pytest.mark.parametrize("why", ["released", "place"])
def test_after_a_claim_nobody_takes_over_at_once(why: str) -> None:
    """Who led before the broker forgot may lead still: that who claimed is gone says nothing."""
    it = Leadership("a", "a.1", "x", PACE)
    claim = claimed(it, 0.0)
    if why == "released":
        assert it.leave() is None
    again = Leadership("a", "a.2", "x", PACE)
    for n in range(5):
        again.seen(3.0 * n, claim)
        assert again.wants(3.0 * n) is None
    again.seen(15.0, claim)
    assert again.wants(15.0) is not None


def test_leaving_is_told_and_ends_it() -> None:
    it = leading()
    tried = it.leave()
    assert tried is not None
    assert (tried.value.released, tried.revision, it.may_send(1.0)) == (True, 2, False)
    assert Leadership("b", "b.1", "", PACE).leave() is None
