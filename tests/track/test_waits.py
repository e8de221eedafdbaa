"""What webhooks that wait are owed: against a model, and against each webhook alone."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import DeviceRecord, DeviceState, Platform
from agent.track.derive import CALLS_BACK
from agent.track.silence_book import Debt, stored_debt
from agent.track.waits import (
    NOTHING,
    Owed,
    due,
    entered,
    known,
    owed_of,
    seen,
    settled,
    stored_waits,
    waiting,
)
from tests.kit.alone import EachAlone
from tests.kit.examples import examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.track.waits import Telling
    from tests.kit.alone import Told

START_MS = 1_700_000_000_000
ONLINE, OFFLINE, UTILIZING, UNPLUGGED = DeviceState


def model(history: Sequence[tuple[float, DeviceState]], after: float, now: float) -> list[Told]:
    """What a webhook is sent by now: short stays taken out, repeats joined, by the table."""
    lasted: list[DeviceState] = []
    for (at, state), (end, _) in pairwise([*history, (now, ONLINE)]):
        if end - at >= after and lasted[-1:] != [state]:
            lasted.append(state)
    return [move for move in pairwise([None, *lasted]) if move in CALLS_BACK]


@dataclass
class Hooks:
    """The webhooks in force."""

    all: Mapping[int, float]

    @property
    def after(self) -> dict[int, float]:
        return {each: after for each, after in self.all.items() if after}

    @property
    def direct(self) -> dict[int, float]:
        return {each: after for each, after in self.all.items() if not after}


@dataclass
class Phone:
    """A device as the deriver has it: looked at when something is due, and with each event."""

    hooks: Hooks
    owed: Owed = NOTHING
    state: DeviceState | None = None
    now: float = 0.0
    ahead: float = 0.0
    """Seconds that the wall clock was set forward by."""
    silenced: bool = False
    told: dict[int, list[Told]] = field(default_factory=lambda: defaultdict(list))

    @property
    def wall_ms(self) -> int:
        return START_MS + round((self.now + self.ahead) * 1000)

    def enter(self, state: DeviceState) -> None:
        self.owed, told = entered(
            self.owed,
            self.state,
            state,
            self.now,
            self.wall_ms,
            self.hooks,
            silenced=self.silenced,
        )
        self.state = state
        self._tell(told)

    def settle(self) -> None:
        if self.state is not None and not self.silenced:
            self.owed, told = settled(
                self.owed, self.state, self.now, self.hooks, pay=True, late=True
            )
            self._tell(told)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.state is not None and not self.silenced:
            at = due(self.owed, self.state, self.hooks)
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self.settle()
        self.now = end

    def silence(self, *, on: bool) -> None:
        self.silenced = on
        self.settle()

    def reload(self, hooks: Mapping[int, float]) -> None:
        self._know(hooks)
        self.owed = known(self.owed, hooks)
        self.settle()

    def set_wall(self, seconds: float) -> None:
        self.ahead += seconds
        since_ms = self.owed.since_ms + round(seconds * 1000)
        self.owed = self.owed._replace(since_ms=since_ms)

    def restart(self, down: float, hooks: Mapping[int, float]) -> None:
        """Killed; begun again after so long, with these webhooks. Nobody has looked yet."""
        record = DeviceRecord(
            "ce09",
            Platform.ANDROID,
            self.state or ONLINE,
            1,
            debt=stored_debt(self.owed.debt),
            waits=stored_waits(self.owed),
        )
        self.now += down
        self._know(hooks)
        self.owed = known(owed_of(record)[0], hooks) if self.state is not None else NOTHING
        assert self.owed.since is None

    def look(self) -> None:
        """It is in its state still."""
        if self.state is not None:
            self.owed = seen(self.owed, self.now, self.wall_ms)
            self.settle()

    def _know(self, hooks: Mapping[int, float]) -> None:
        self.hooks = Hooks(hooks)
        for gone in self.told.keys() - hooks.keys():
            del self.told[gone]

    def _tell(self, told: Sequence[Telling]) -> None:
        for each in told:
            for webhook in self.hooks.direct if each.webhooks is None else each.webhooks:
                if (each.previous, each.state) in CALLS_BACK:
                    self.told[webhook].append((each.previous, each.state))


STATES = st.sampled_from(list(DeviceState))
SECONDS = st.integers(0, 12)
AFTER = st.sampled_from([0.0, 1.0, 3.0, 5.0, 10.0])


@settings(max_examples=examples(600))
@given(st.lists(st.tuples(SECONDS, STATES), max_size=12), st.lists(AFTER, min_size=1, max_size=5))
def test_what_is_sent_is_the_history_without_what_was_short(
    steps: list[tuple[int, DeviceState]], afters: list[float]
) -> None:
    """At any moment; a stay that lasts to the very second counts."""
    hooks = dict(enumerate(afters, start=1))
    phone = Phone(Hooks(hooks))
    history: list[tuple[float, DeviceState]] = []
    for seconds, state in steps:
        phone.wait(seconds)
        if may_enter(phone.state, state):
            phone.enter(state)
            history.append((phone.now, state))
        for webhook, after in hooks.items():
            assert phone.told[webhook] == model(history, after, phone.now), (webhook, after)
    assert (phone.owed.by == {}) is all(  # nothing is kept of those that are even
        model_state(history, after, phone.now) is phone.state for after in afters
    )


def model_state(
    history: Sequence[tuple[float, DeviceState]], after: float, now: float
) -> DeviceState | None:
    """What a webhook goes by."""
    stays = pairwise([*history, (now, ONLINE)])
    lasted = [state for (at, state), (end, _) in stays if end - at >= after]
    return lasted[-1] if lasted else None


HOOKS = st.dictionaries(st.integers(1, 4), AFTER, max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("enter"), STATES),
    st.tuples(st.just("enter"), STATES),
    st.tuples(st.just("wait"), SECONDS),
    st.tuples(st.just("wait"), SECONDS),
    st.tuples(st.just("silence"), st.booleans()),
    st.tuples(st.just("reload"), HOOKS),
    st.tuples(st.just("set"), st.integers(-10_000, 10_000)),
    st.tuples(st.just("restart"), st.tuples(SECONDS, HOOKS, STATES, st.booleans())),
)


class Both:
    """The phone, and each of its webhooks alone."""

    def __init__(self, hooks: Mapping[int, float]) -> None:
        self.phone, self.expected = Phone(Hooks(hooks)), EachAlone(hooks)

    def do(self, kind: str, value: object) -> None:
        phone, expected = self.phone, self.expected
        match kind, value:
            case "enter", DeviceState() as state if may_enter(phone.state, state):
                phone.enter(state)
                expected.enter(state)
            case "wait", int(seconds):
                phone.wait(seconds)
                expected.wait(seconds)
            case "silence", bool(on):
                phone.silence(on=on)
                expected.silence(on=on)
            case "reload", dict(new):
                phone.reload(new)
                expected.reload(new)
            case "set", int(seconds):
                phone.set_wall(seconds)
            case "restart", (int(down), dict(new), DeviceState() as state, bool(silenced)):
                self.restart(down, new, None if phone.state is None else state, silenced=silenced)

    def restart(
        self, down: int, hooks: Mapping[int, float], state: DeviceState | None, *, silenced: bool
    ) -> None:
        phone = self.phone
        phone.restart(down, hooks)
        phone.silenced = silenced
        self.expected.restart(down, hooks, state, silenced=silenced)
        if state is phone.state:
            phone.look()
        elif state is not None:
            phone.enter(state)

    def check(self) -> None:
        phone, alone = self.phone, self.expected.alone
        assert {each: phone.told[each] for each in phone.hooks.all} == self.expected.told
        if phone.state is not None:
            waits = {each.webhook for each in waiting(phone.owed, phone.state, phone.hooks)}
            apart = {e for e in phone.hooks.all if alone[e].goes_by is not phone.state}
            assert apart & phone.hooks.after.keys() <= waits <= apart


def may_enter(before: DeviceState | None, state: DeviceState) -> bool:
    return state is not before and (before is not None or state is not UNPLUGGED)


@settings(max_examples=examples(1000))
@given(HOOKS, st.lists(STEPS, max_size=25))
def test_each_webhook_is_told_what_it_would_be_told_alone(
    hooks: dict[int, float], steps: list[tuple[str, object]]
) -> None:
    """Whatever is silenced, reloaded, killed and set meanwhile."""
    both = Both(hooks)
    for kind, value in steps:
        both.do(kind, value)
        both.check()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "1e999",
        "[" * 9000,
        '{"since":1}',
        '{"since":"x","by":{}}',
        '{"since":1e999,"by":{}}',
        '{"since":1,"by":{"melted":[1]}}',
        '{"since":1,"by":{"online":["x"]}}',
    ],
)
def test_what_is_stored_and_makes_no_sense_is_nothing(text: str) -> None:
    record = DeviceRecord("ce09", Platform.ANDROID, ONLINE, START_MS, debt="offline", waits=text)
    assert owed_of(record) == (Owed(Debt(OFFLINE), since_ms=START_MS), ())


def test_what_is_stored_is_short() -> None:
    owed = Owed(None, dict.fromkeys(range(1, 101), ONLINE) | {200: None}, 5.0, START_MS)
    text = stored_waits(owed, ("rack-1", 7, 3, ""))
    assert len(text) < 450
    record = DeviceRecord("ce09", Platform.ANDROID, OFFLINE, 1, waits=text)
    assert owed_of(record) == (owed._replace(since=None), ("rack-1", 7, 3, ""))
    assert stored_waits(Owed(None, {}, 5.0, START_MS)) == ""


def test_nothing_is_due_before_the_device_was_looked_at() -> None:
    hooks = Hooks({1: 10.0})
    owed = Owed(None, {1: ONLINE}, None, START_MS)
    assert due(owed, OFFLINE, hooks) is None
    assert due(seen(owed, 100.0, START_MS + 4_000), OFFLINE, hooks) == 106.0
    assert due(seen(owed, 100.0, START_MS - 50_000), OFFLINE, hooks) == 110.0, "never longer"
    late = due(seen(owed, 100.0, START_MS + 10**12), OFFLINE, hooks)
    assert late is not None
    assert -math.inf < late < 100.0
