"""The state machine: every triple of readings, every pair of states, and what must never happen."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.derive import CALLS_BACK, TABLE, Outcome, Policy, Track, step
from agent.model import Bridge, DeviceState, Presence, Readings, Usage

ONLINE, OFFLINE = DeviceState.ONLINE, DeviceState.OFFLINE
UTILIZING, UNPLUGGED = DeviceState.UTILIZING, DeviceState.UNPLUGGED
AT_ONCE = Policy(
    hold_online=0, hold_offline=0, hold_utilizing=0, hold_unplugged=0, flap_transitions=10**6
)


def expected(presence: Presence, bridge: Bridge, usage: Usage) -> Outcome:
    """The design's table, said again in other words."""
    if presence is Presence.ABSENT:
        return Outcome.UNPLUGGED
    if bridge is Bridge.READY:
        return Outcome.UTILIZING if usage is Usage.IN_USE else Outcome.ONLINE
    if bridge is Bridge.NOT_READY:
        return Outcome.OFFLINE
    if presence is Presence.PRESENT:
        return Outcome.OFFLINE if bridge is Bridge.ABSENT else Outcome.LAST_THEN_OFFLINE
    return Outcome.UNPLUGGED if bridge is Bridge.ABSENT else Outcome.LAST


@pytest.mark.parametrize("triple", list(product(Presence, Bridge, Usage)), ids=str)
def test_the_table_is_the_designs(triple: tuple[Presence, Bridge, Usage]) -> None:
    assert TABLE[triple] is expected(*triple)


@pytest.mark.parametrize("state", [None, *DeviceState], ids=str)
@pytest.mark.parametrize("triple", list(product(Presence, Bridge, Usage)), ids=str)
def test_every_state_meets_every_triple(
    state: DeviceState | None, triple: tuple[Presence, Bridge, Usage]
) -> None:
    presence, bridge, usage = triple
    readings = Readings(presence, bridge, usage)
    outcome = TABLE[triple]
    done = step(Track(state=state), readings, 100.0, AT_ONCE)
    if outcome in {Outcome.LAST, Outcome.LAST_THEN_OFFLINE}:
        wanted = state
    else:
        wanted = DeviceState(outcome.value)
        if usage is Usage.UNKNOWN and wanted is UTILIZING:
            wanted = ONLINE
        if state is None and wanted is UNPLUGGED:
            wanted = None
    assert done.track.state is wanted
    assert done.entered is (wanted if wanted is not state else None)
    again = step(done.track, readings, 100.0, AT_ONCE)
    assert again.entered is None
    assert again.track == done.track
    if outcome is Outcome.LAST_THEN_OFFLINE:
        late = step(done.track, readings, 100.0 + AT_ONCE.source_grace, AT_ONCE)
        assert late.track.state is OFFLINE


@pytest.mark.parametrize(("previous", "state"), list(product([None, *DeviceState], DeviceState)))
def test_which_transition_calls_back(previous: DeviceState | None, state: DeviceState) -> None:
    silent = (
        previous is state
        or (previous is UTILIZING and state is ONLINE)
        or (previous is None and state is UNPLUGGED)
    )
    assert ((previous, state) in CALLS_BACK) is not silent


READY = Readings(Presence.PRESENT, Bridge.READY)
BUSY = Readings(Presence.PRESENT, Bridge.READY, Usage.IN_USE, holder="alice")
ABSENT = Readings(Presence.ABSENT, Bridge.ABSENT)
NOT_READY = Readings(Presence.PRESENT, Bridge.NOT_READY, bridge_reason="unauthorized")
BLIND = Readings(Presence.PRESENT, Bridge.UNKNOWN, bridge_reason="adb server unreachable")


class Run:
    """Steps one device through readings at times, as the pipeline would."""

    def __init__(self, policy: Policy, state: DeviceState | None = None) -> None:
        self.policy = policy
        self.track = Track(state=state)
        self.entered: list[tuple[float, DeviceState]] = []
        self.wake: float | None = None
        self._readings = READY

    def at(self, now: float, readings: Readings) -> DeviceState | None:
        """Pass time until `now`, waking when asked to, then take the readings."""
        while self.wake is not None and self.wake <= now:
            self._step(self._readings, self.wake)
        self._readings = readings
        return self._step(readings, now)

    def _step(self, readings: Readings, now: float) -> DeviceState | None:
        done = step(self.track, readings, now, self.policy)
        assert done.wake is None or done.wake > now, "a wake in the past would spin"
        self.track, self.wake = done.track, done.wake
        if done.entered is not None:
            self.entered.append((now, done.entered))
        return done.entered


def test_a_state_counts_after_its_hold_time() -> None:
    run = Run(Policy(), ONLINE)
    run.at(10, NOT_READY)
    assert run.wake == 15
    run.at(20, NOT_READY)
    assert run.entered == [(15, OFFLINE)]
    assert run.track.reason == "unauthorized"


def test_a_break_starts_the_hold_anew() -> None:
    run = Run(Policy(), ONLINE)
    run.at(10, NOT_READY)
    run.at(14.9, READY)
    run.at(15, NOT_READY)
    run.at(19.9, NOT_READY)
    assert run.entered == []
    run.at(20, NOT_READY)
    assert run.entered == [(20, OFFLINE)]


def test_a_flickering_cable_makes_no_transition() -> None:
    run = Run(Policy(), ONLINE)
    for n in range(50):
        run.at(10 + n * 4, ABSENT)
        run.at(12 + n * 4, READY)
    assert run.entered == []


def test_a_source_that_is_down_keeps_the_state_for_its_grace() -> None:
    run = Run(Policy(hold_offline=0), UTILIZING)
    run.at(10, BLIND)
    assert run.entered == []
    run.at(39.9, BLIND)
    assert run.entered == []
    run.at(40, BLIND)
    assert run.entered == [(40, OFFLINE)]
    assert run.track.reason == "adb server unreachable"


def test_a_source_that_recovers_within_its_grace_changes_nothing() -> None:
    run = Run(Policy(hold_offline=0), ONLINE)
    run.at(10, BLIND)
    run.at(30, READY)
    run.at(50, BLIND)
    run.at(79, BLIND)
    assert run.entered == []


def test_unknown_usage_keeps_the_last_one_for_its_grace() -> None:
    run = Run(Policy(), ONLINE)
    run.at(10, BUSY)
    unknown = Readings(
        Presence.PRESENT, Bridge.READY, Usage.UNKNOWN, usage_reason="appium unreachable"
    )
    run.at(20, unknown)
    assert run.track.state is UTILIZING
    assert run.track.reason == "in use by alice when last known (appium unreachable)"
    run.at(79.9, unknown)
    assert run.entered == [(10, UTILIZING)]
    run.at(80, unknown)
    assert run.entered == [(10, UTILIZING), (80, ONLINE)]


def test_flapping_lengthens_the_holds_until_the_phone_is_quiet() -> None:
    policy = Policy(hold_offline=1, hold_unplugged=1)
    run = Run(policy, ONLINE)
    for n in range(4):  # a transition every 2 s: past 6 in 60 s
        run.at(n * 4, ABSENT)
        run.at(n * 4 + 2, READY)
    count = len(run.entered)
    assert count == policy.flap_transitions + 1
    assert run.track.flapping
    for n in range(4, 40):
        run.at(n * 4, ABSENT)
        run.at(n * 4 + 2, READY)
    assert len(run.entered) == count, "damped"
    assert run.track.flapping
    quiet_since = 39 * 4 + 2
    run.at(quiet_since + 29, READY)
    assert run.track.flapping
    run.at(quiet_since + 31, READY)
    assert not run.track.flapping
    run.at(quiet_since + 40, ABSENT)
    run.at(quiet_since + 42, ABSENT)
    assert run.entered[-1] == (quiet_since + 41, UNPLUGGED)


def test_a_damped_state_that_stays_comes_to_count() -> None:
    run = Run(Policy(hold_unplugged=0, hold_online=0), ONLINE)
    for n in range(4):
        run.at(n, READY)
        run.at(n + 0.5, ABSENT)
    assert run.track.flapping
    assert run.track.state is ONLINE or run.track.state is UNPLUGGED
    run.at(10, READY)
    run.at(45, READY)
    assert run.track.state is ONLINE
    assert not run.track.flapping


def test_sessions_are_no_flaps_and_never_damped() -> None:
    run = Run(Policy(), ONLINE)
    for n in range(40):
        run.at(n * 2, BUSY)
        run.at(n * 2 + 1, READY)
    assert len(run.entered) == 80
    assert not run.track.flapping


def test_a_phone_never_seen_makes_no_transition_by_being_absent() -> None:
    run = Run(Policy())
    run.at(0, ABSENT)
    run.at(100, ABSENT)
    assert run.entered == []
    run.at(101, READY)
    assert run.entered == [(101, ONLINE)]


READINGS = st.builds(
    Readings, st.sampled_from(Presence), st.sampled_from(Bridge), st.sampled_from(Usage)
)
TIMED = st.lists(st.tuples(st.floats(0.01, 90), READINGS), max_size=60)
POLICIES = st.builds(
    Policy,
    *(st.sampled_from([0.0, 1.0, 5.0, 40.0]) for _ in range(4)),
    flap_transitions=st.integers(1, 8),
)
STATES = st.sampled_from([None, *DeviceState])


@given(TIMED, POLICIES, STATES)
def test_no_device_enters_one_state_twice_running(
    timed: list[tuple[float, Readings]], policy: Policy, state: DeviceState | None
) -> None:
    run, now = Run(policy, state), 0.0
    for wait, readings in timed:
        now += wait
        run.at(now, readings)
    states = [state, *(entered for _, entered in run.entered)]
    assert all(a is not b for a, b in pairwise(states))


@given(TIMED, POLICIES, STATES, READINGS)
def test_any_interleaving_ends_in_the_state_of_the_table(
    timed: list[tuple[float, Readings]],
    policy: Policy,
    state: DeviceState | None,
    last: Readings,
) -> None:
    run, now = Run(policy, state), 0.0
    for wait, readings in timed:
        now += wait
        run.at(now, readings)
    run.at(now + 1, last)
    before = run.track.state
    run.at(now + 10_000, last)
    # Unknown usage has outlived its grace by now: it counts as idle.
    usage = Usage.IDLE if last.usage is Usage.UNKNOWN else last.usage
    outcome = TABLE[last.presence, last.bridge, usage]
    match outcome:
        case Outcome.LAST:
            assert run.track.state is before or run.track.candidate is None
        case Outcome.LAST_THEN_OFFLINE:
            assert run.track.state is OFFLINE
        case Outcome.UNPLUGGED if before is None:
            assert run.track.state is None
        case _:
            assert run.track.state is DeviceState(outcome.value)
    assert run.wake is None, "a device at rest needs no timer"


@given(TIMED, POLICIES, STATES)
def test_feeding_the_same_readings_again_yields_nothing(
    timed: list[tuple[float, Readings]], policy: Policy, state: DeviceState | None
) -> None:
    run, now = Run(policy, state), 0.0
    for wait, readings in timed:
        now += wait
        run.at(now, readings)
        again = step(run.track, readings, now, policy)
        assert again.entered is None
        assert again.track == run.track
