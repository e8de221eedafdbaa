"""The state machine: every triple of readings, every pair of states, and what must never happen."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.config import Flap, Hold
from agent.model import Bridge, DeviceState, Presence, Readings, Usage
from agent.reasons import Reason, ReasonCode
from agent.track.derive import CALLS_BACK, TABLE, Outcome, Policy, Track, quiet, step
from tests.kit.reasons import check
from tests.kit.settings import section

ONLINE, OFFLINE = DeviceState.ONLINE, DeviceState.OFFLINE
UTILIZING, UNPLUGGED = DeviceState.UTILIZING, DeviceState.UNPLUGGED


def held(transitions: int = Flap().transitions, **hold: float) -> Policy:
    """The default holds but for these, in seconds; so many flaps are calm."""
    return Policy(section(Hold, **hold), section(Flap, transitions=transitions))


AT_ONCE = held(10**6, online=0, offline=0, utilizing=0, unplugged=0, arrival=0)


def expected(presence: Presence, bridge: Bridge, usage: Usage) -> Outcome:
    """The design's table, said again in other words."""
    if presence is Presence.ABSENT:
        return Outcome.UNPLUGGED
    if bridge is Bridge.READY:
        return Outcome.UTILIZING if usage is Usage.IN_USE else Outcome.ONLINE
    if bridge is Bridge.NOT_READY:
        return Outcome.OFFLINE
    silent = bridge is Bridge.ABSENT
    if presence is Presence.PRESENT:
        return Outcome.ARRIVING_THEN_OFFLINE if silent else Outcome.LAST_THEN_OFFLINE
    return Outcome.LAST_OR_UNPLUGGED if silent else Outcome.LAST


def meaning(readings: Readings, last: DeviceState | None) -> DeviceState | None:
    """The state in which a device rests that keeps these readings for ever, said once more."""
    outcome = expected(readings.presence, readings.bridge, readings.usage)
    match outcome:
        case Outcome.LAST_OR_UNPLUGGED:
            state = UNPLUGGED if readings.bridge_is_presence else last
        case Outcome.LAST:
            state = last
        case Outcome.LAST_THEN_OFFLINE | Outcome.ARRIVING_THEN_OFFLINE:
            state = OFFLINE
        case _:
            state = DeviceState(outcome.value)
    return None if last is None and state is UNPLUGGED else state


@pytest.mark.parametrize("triple", list(product(Presence, Bridge, Usage)), ids=str)
def test_the_table_is_the_designs(triple: tuple[Presence, Bridge, Usage]) -> None:
    assert TABLE[triple] is expected(*triple)


@pytest.mark.parametrize("bridge_is_presence", [False, True])
@pytest.mark.parametrize("state", [None, *DeviceState], ids=str)
@pytest.mark.parametrize("triple", list(product(Presence, Bridge, Usage)), ids=str)
def test_every_state_meets_every_triple(
    state: DeviceState | None, triple: tuple[Presence, Bridge, Usage], *, bridge_is_presence: bool
) -> None:
    readings = Readings(*triple, bridge_is_presence=bridge_is_presence)
    graced = TABLE[triple] is Outcome.LAST_THEN_OFFLINE
    wanted = state if graced else meaning(readings, state)
    done = step(Track(state=state), readings, 100.0, AT_ONCE)
    assert done.track.state is wanted
    assert done.entered is (wanted if wanted is not state else None)
    again = step(done.track, readings, 100.0, AT_ONCE)
    assert again.entered is None
    assert again.track == done.track
    if graced:
        late = step(done.track, readings, 100.0 + AT_ONCE.hold.source_grace, AT_ONCE)
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
NOT_READY = Readings(
    Presence.PRESENT,
    Bridge.NOT_READY,
    bridge_reason="unauthorized",
    bridge_code=ReasonCode.UNAUTHORIZED,
)
BLIND = Readings(
    Presence.PRESENT,
    Bridge.UNKNOWN,
    bridge_reason="adb server unreachable",
    bridge_code=ReasonCode.SOURCE_DOWN,
)


class Run:
    """Steps one device through readings at times, as the pipeline would."""

    def __init__(self, policy: Policy, state: DeviceState | None = None) -> None:
        self.policy = policy
        self.track = Track(state=state)
        self.entered: list[tuple[float, DeviceState]] = []
        self.wake: float | None = None
        self.readings = READY

    def at(self, now: float, readings: Readings) -> DeviceState | None:
        """Pass time until `now`, waking when asked to, then take the readings."""
        while self.wake is not None and self.wake <= now:
            self._step(self.readings, self.wake)
        self.readings = readings
        return self._step(readings, now)

    def _step(self, readings: Readings, now: float) -> DeviceState | None:
        done = step(self.track, readings, now, self.policy)
        assert done.wake is None or done.wake > now, "a wake in the past would spin"
        check(done.track.reason, done.track.code)
        self.track, self.wake = done.track, done.wake
        if done.entered is not None:
            self.entered.append((now, done.entered))
        return done.entered


def test_a_state_counts_after_its_hold_time() -> None:
    run = Run(held(), ONLINE)
    run.at(10, NOT_READY)
    assert run.wake == 15
    run.at(20, NOT_READY)
    assert run.entered == [(15, OFFLINE)]
    assert run.track.reason == "unauthorized"


def test_a_break_starts_the_hold_anew() -> None:
    run = Run(held(), ONLINE)
    run.at(10, NOT_READY)
    run.at(14.9, READY)
    run.at(15, NOT_READY)
    run.at(19.9, NOT_READY)
    assert run.entered == []
    run.at(20, NOT_READY)
    assert run.entered == [(20, OFFLINE)]


def test_a_flickering_cable_makes_no_transition() -> None:
    run = Run(held(), ONLINE)
    for n in range(50):
        run.at(10 + n * 4, ABSENT)
        run.at(12 + n * 4, READY)
    assert run.entered == []


def test_a_source_that_is_down_keeps_the_state_for_its_grace() -> None:
    run = Run(held(offline=0), UTILIZING)
    run.at(10, BLIND)
    assert run.entered == []
    run.at(39.9, BLIND)
    assert run.entered == []
    run.at(40, BLIND)
    assert run.entered == [(40, OFFLINE)]
    assert run.track.reason == "adb server unreachable"


def test_a_source_that_recovers_within_its_grace_changes_nothing() -> None:
    run = Run(held(offline=0), ONLINE)
    run.at(10, BLIND)
    run.at(30, READY)
    run.at(50, BLIND)
    run.at(79, BLIND)
    assert run.entered == []


def test_unknown_usage_keeps_the_last_one_for_its_grace() -> None:
    run = Run(held(), ONLINE)
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


AWAY = [(UNPLUGGED, ABSENT, 3), (OFFLINE, NOT_READY, 5)]


@pytest.mark.parametrize(("state", "away", "hold"), AWAY)
def test_an_unknown_usage_ends_as_the_phone_goes_away(
    state: DeviceState, away: Readings, hold: float
) -> None:
    """The source that knew of the use is silent, as after a restart: no second use is made up."""
    run = Run(held(), ONLINE)
    run.at(10, BUSY)
    silent = Readings(Presence.PRESENT, Bridge.READY, Usage.UNKNOWN, holder="alice")
    run.at(20, silent)
    run.at(21, replace(away, usage=Usage.UNKNOWN, holder="alice"))
    run.at(27, silent)
    assert run.entered == [(10, UTILIZING), (21 + hold, state), (27, ONLINE)]
    run.at(28, BUSY)
    assert run.entered[3:] == [(28, UTILIZING)], "a use that goes on is told"


@pytest.mark.parametrize(("state", "away", "hold"), AWAY)
def test_a_use_that_ends_while_its_phone_is_away_is_forgotten(
    state: DeviceState, away: Readings, hold: float
) -> None:
    """A lease is given back, and what a session below it would be is not known yet."""
    run = Run(held(), ONLINE)
    run.at(10, BUSY)
    run.at(21, replace(away, usage=Usage.IN_USE, holder="alice"))
    run.at(27, replace(away, usage=Usage.UNKNOWN))
    run.at(28, Readings(Presence.PRESENT, Bridge.READY, Usage.UNKNOWN))
    assert run.entered == [(10, UTILIZING), (21 + hold, state), (28, ONLINE)]


UNSURE = Readings(Presence.PRESENT, Bridge.READY, Usage.UNKNOWN, holder="alice")


@pytest.mark.parametrize("state", [None, ONLINE])
def test_a_use_that_is_only_remembered_does_not_begin(state: DeviceState | None) -> None:
    """Its source goes silent while the use waits out its hold."""
    run = Run(held(utilizing=10), state)
    run.at(10, BUSY)
    run.at(13, UNSURE)
    run.at(40, UNSURE)
    assert run.track.state is ONLINE
    assert UTILIZING not in [entered for _, entered in run.entered]
    run.at(41, BUSY)
    run.at(52, BUSY)
    assert run.entered[-1] == (51, UTILIZING), "one that lasts is told"


def test_a_use_that_its_grace_ended_does_not_begin_again() -> None:
    """Its source is still silent as states are derived anew: its platform was turned off and on."""
    run = Run(held(), ONLINE)
    run.at(10, BUSY)
    run.at(20, UNSURE)
    run.at(81, UNSURE)
    assert run.entered == [(10, UTILIZING), (80, ONLINE)]
    run.track = quiet(run.track)
    run.at(90, UNSURE)
    assert run.track.state is ONLINE


@pytest.mark.parametrize(("state", "away"), [(state, away) for state, away, _ in AWAY])
def test_the_step_that_takes_a_phone_away_forgets_the_use(
    state: DeviceState, away: Readings
) -> None:
    run = Run(held(unplugged=0, offline=0), ONLINE)
    run.at(10, BUSY)
    gone = replace(away, usage=Usage.UNKNOWN)
    run.at(11, gone)
    assert run.entered[-1] == (11.0, state)
    assert (run.track.usage, run.track.usage_holder) == (Usage.IDLE, "")
    assert step(run.track, gone, 11, run.policy).track == run.track


def test_an_unknown_usage_outlives_a_short_loss() -> None:
    run = Run(held(), ONLINE)
    run.at(10, BUSY)
    silent = Readings(Presence.PRESENT, Bridge.READY, Usage.UNKNOWN, holder="alice")
    run.at(21, replace(silent, presence=Presence.ABSENT, bridge=Bridge.ABSENT))
    run.at(22, silent)
    assert run.entered == [(10, UTILIZING)]


def flapping(run: Run) -> bool:
    return run.track.flapping


def test_flapping_lengthens_the_holds_until_the_phone_is_quiet() -> None:
    policy = held(offline=1, unplugged=1)
    run = Run(policy, ONLINE)
    for n in range(4):  # a transition every 2 s: past 6 in 60 s
        run.at(n * 4, ABSENT)
        run.at(n * 4 + 2, READY)
    count = len(run.entered)
    assert count == policy.flap.transitions + 1
    assert flapping(run)
    for n in range(4, 40):
        run.at(n * 4, ABSENT)
        run.at(n * 4 + 2, READY)
    assert len(run.entered) == count, "damped"
    assert flapping(run)
    quiet_since = 39 * 4 + 2
    run.at(quiet_since + 29, READY)
    assert flapping(run)
    run.at(quiet_since + 31, READY)
    assert not flapping(run)
    run.at(quiet_since + 40, ABSENT)
    run.at(quiet_since + 42, ABSENT)
    assert run.entered[-1] == (quiet_since + 41, UNPLUGGED)


def test_a_damped_state_that_stays_comes_to_count() -> None:
    run = Run(held(unplugged=0, online=0), ONLINE)
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
    run = Run(held(), ONLINE)
    for n in range(40):
        run.at(n * 2, BUSY)
        run.at(n * 2 + 1, READY)
    assert len(run.entered) == 80
    assert not run.track.flapping


def test_a_phone_never_seen_makes_no_transition_by_being_absent() -> None:
    run = Run(held())
    run.at(0, ABSENT)
    run.at(100, ABSENT)
    assert run.entered == []
    run.at(101, READY)
    assert run.entered == [(101, ONLINE)]


SILENT = Readings(Presence.PRESENT, Bridge.ABSENT, bridge_name="adb")
"""On USB, and its bridge does not list it."""
BLIND_USB = Readings(
    Presence.UNKNOWN,
    Bridge.ABSENT,
    presence_reason="udevd is not running",
    presence_code=ReasonCode.SOURCE_DOWN,
)


def test_a_phone_that_only_udev_saw_keeps_its_state_while_udev_is_down() -> None:
    run = Run(held(), OFFLINE)
    run.at(0, replace(SILENT, bridge_ruled_out=True))
    run.at(10, BLIND_USB)
    run.at(10_000, BLIND_USB)
    assert run.entered == []
    run = Run(held(), ONLINE)
    run.at(0, READY)
    run.at(10, BLIND_USB)
    assert run.track.reason == "when last known (udevd is not running)"


def test_an_answer_is_proof_and_its_doubt_is_told() -> None:
    doubted = Readings(
        Presence.UNKNOWN,
        Bridge.READY,
        bridge_is_presence=True,
        presence_reason="udev does not see it",
        presence_code=ReasonCode.NOT_ON_USB,
    )
    run = Run(held(), UNPLUGGED)
    run.at(0, doubted)
    assert (run.track.state, run.track.reason) == (ONLINE, "udev does not see it")
    run.at(1, replace(doubted, usage=Usage.IN_USE, holder="alice"))
    assert run.track.reason == "in use by alice; udev does not see it"


def read(bridge: Reason, presence: Reason, usage: str, bare: Readings) -> Readings:
    """With these reasons."""
    return replace(
        bare,
        bridge_reason=bridge.text,
        bridge_code=bridge.code,
        presence_reason=presence.text,
        presence_code=presence.code,
        usage_reason=usage,
    )


NO_REASON = Reason()
UNSEEN = Reason("udev does not see it", ReasonCode.NOT_ON_USB)
LEFT = Reason("adb still lists it", ReasonCode.LEFT_USB)
DOWN = Reason("no adb server", ReasonCode.SOURCE_DOWN)


def being(
    presence: Presence,
    bridge: Bridge,
    usage: Usage = Usage.IDLE,
    *,
    of_bridge: Reason = NO_REASON,
    of_presence: Reason = NO_REASON,
    of_usage: str = "",
    bridge_is_presence: bool = False,
) -> Readings:
    """Readings with their reasons."""
    bare = Readings(presence, bridge, usage, bridge_is_presence=bridge_is_presence)
    return read(of_bridge, of_presence, of_usage, bare)


HERE, GONE, UNKNOWN = Presence.PRESENT, Presence.ABSENT, Presence.UNKNOWN
CODES: list[tuple[DeviceState | None, Readings, float, DeviceState | None, str]] = [
    (None, being(HERE, Bridge.READY), 0, ONLINE, ""),
    (None, being(HERE, Bridge.READY, of_usage="appium hangs"), 0, ONLINE, "usage_unknown"),
    (None, being(HERE, Bridge.READY, Usage.UNKNOWN), 0, ONLINE, "usage_unknown"),
    (None, being(HERE, Bridge.READY, Usage.IN_USE), 0, UTILIZING, "in_use"),
    (UTILIZING, being(HERE, Bridge.READY, Usage.UNKNOWN), 0, UTILIZING, "usage_unknown"),
    (UTILIZING, being(HERE, Bridge.READY, Usage.UNKNOWN), 300, ONLINE, "usage_unknown"),
    (None, being(HERE, Bridge.NOT_READY), 0, OFFLINE, "not_ready"),
    (None, being(HERE, Bridge.NOT_READY, of_bridge=LEFT), 0, OFFLINE, "left_usb"),
    (ONLINE, being(HERE, Bridge.ABSENT), 0, ONLINE, "arriving"),
    (ONLINE, being(HERE, Bridge.ABSENT), 300, OFFLINE, "not_ready"),
    (ONLINE, being(HERE, Bridge.ABSENT, of_bridge=DOWN), 300, OFFLINE, "source_down"),
    (None, being(HERE, Bridge.ABSENT), 0, None, "arriving"),
    (ONLINE, being(HERE, Bridge.UNKNOWN), 0, ONLINE, "source_down"),
    (ONLINE, being(HERE, Bridge.UNKNOWN, of_bridge=LEFT), 0, ONLINE, "left_usb"),
    (ONLINE, being(HERE, Bridge.UNKNOWN, of_bridge=LEFT), 300, OFFLINE, "left_usb"),
    (None, being(HERE, Bridge.UNKNOWN, of_bridge=LEFT), 0, None, "left_usb"),
    (OFFLINE, being(HERE, Bridge.UNKNOWN), 0, OFFLINE, "not_ready"),
    (ONLINE, being(GONE, Bridge.ABSENT), 0, UNPLUGGED, ""),
    (ONLINE, being(GONE, Bridge.READY, of_presence=LEFT), 0, UNPLUGGED, "left_usb"),
    (None, being(GONE, Bridge.ABSENT, of_presence=LEFT), 0, None, "left_usb"),
    (ONLINE, being(UNKNOWN, Bridge.UNKNOWN, of_bridge=DOWN), 0, ONLINE, "source_down"),
    (UTILIZING, being(UNKNOWN, Bridge.UNKNOWN, of_bridge=DOWN), 0, UTILIZING, "in_use"),
    (ONLINE, being(UNKNOWN, Bridge.ABSENT), 0, ONLINE, "source_down"),
    (ONLINE, being(UNKNOWN, Bridge.ABSENT, of_presence=DOWN), 0, ONLINE, "source_down"),
    (OFFLINE, being(UNKNOWN, Bridge.ABSENT, of_bridge=DOWN), 0, OFFLINE, ""),
    (ONLINE, being(UNKNOWN, Bridge.ABSENT, bridge_is_presence=True), 0, UNPLUGGED, ""),
    (
        None,
        being(UNKNOWN, Bridge.READY, of_presence=UNSEEN, bridge_is_presence=True),
        *(0, ONLINE, "not_on_usb"),
    ),
    (
        None,
        being(
            *(UNKNOWN, Bridge.READY, Usage.UNKNOWN),
            of_presence=UNSEEN,
            bridge_is_presence=True,
        ),
        *(0, ONLINE, "not_on_usb"),
    ),
    (
        UTILIZING,
        being(
            *(UNKNOWN, Bridge.READY, Usage.IN_USE),
            of_presence=UNSEEN,
            bridge_is_presence=True,
        ),
        *(0, UTILIZING, "in_use"),
    ),
]
"""State before, readings, seconds in which they last; the state and the reason's code then."""


@pytest.mark.parametrize(("before", "readings", "seconds", "state", "code"), CODES)
def test_every_outcome_has_the_code_of_its_reason(
    before: DeviceState | None,
    readings: Readings,
    seconds: float,
    state: DeviceState | None,
    code: str,
) -> None:
    run = Run(held(online=0, offline=0, utilizing=0, unplugged=0), before)
    if before is UTILIZING:
        run.track = run.track._replace(usage=Usage.IN_USE)
    run.at(1, readings)
    run.at(1 + seconds, readings)
    assert (run.track.state, run.track.code) == (state, code)
    assert quiet(run.track).code == code


def test_the_table_of_codes_leaves_no_outcome_out() -> None:
    told = {(readings.presence, readings.bridge, readings.usage) for _, readings, *_ in CODES}
    assert {TABLE[triple] for triple in told} == set(Outcome)


@pytest.mark.parametrize("state", [None, *DeviceState], ids=str)
def test_a_phone_that_has_just_arrived_keeps_its_state_until_its_bridge_has_had_time(
    state: DeviceState | None,
) -> None:
    run = Run(held(), state)
    run.at(0, SILENT)
    run.at(9.9, SILENT)
    assert run.track.reason == "arriving: not yet seen by adb"
    run.at(14.9, SILENT)
    assert run.track.state is state
    run.at(15, SILENT)
    assert run.track.state is OFFLINE


def test_what_a_bridge_says_of_a_phone_counts_though_it_has_just_arrived() -> None:
    run = Run(held(), UNPLUGGED)
    run.at(0, ABSENT)
    run.at(10, SILENT)
    run.at(11, NOT_READY)
    run.at(16, NOT_READY)
    assert run.entered == [(16, OFFLINE)]


@pytest.mark.parametrize("said", [READY, NOT_READY], ids=["ready", "not ready"])
def test_a_phone_that_its_bridge_has_listed_has_arrived(said: Readings) -> None:
    run = Run(held(), ONLINE)
    run.at(0, said)
    run.at(1, READY)
    run.at(20, SILENT)
    run.at(25, SILENT)
    assert run.entered == [(25, OFFLINE)], "debugging was turned off"


def test_a_phone_whose_mode_its_bridge_cannot_see_does_not_arrive() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    run.at(10, ABSENT)
    booting = replace(
        SILENT,
        bridge_ruled_out=True,
        bridge_reason="in the bootloader",
        bridge_code=ReasonCode.BOOTLOADER,
    )
    run.at(12, booting)
    run.at(17, booting)
    assert run.entered == [(17, OFFLINE)]
    assert run.track.reason == "in the bootloader"


def test_a_phone_arrives_only_once_its_bridge_can_list_it() -> None:
    """A host boots: the adb server comes after the phones."""
    run = Run(held(source_grace=60), ONLINE)
    run.at(0, BLIND)
    run.at(20, SILENT)
    run.at(29, SILENT)
    run.at(29.5, READY)
    assert run.entered == []


def test_a_bridge_that_was_started_anew_finds_its_phones_one_by_one() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    run.at(10, BLIND)
    run.at(12, SILENT)
    run.at(21, READY)
    assert run.entered == []
    alternate(run, 30, 20, (0.1, BLIND), (9, SILENT))
    assert [state for _, state in run.entered] == [OFFLINE]
    assert run.entered[0][0] < 30 + 60, "but not as often as it likes"


def test_udev_that_was_down_makes_nobody_arrive() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    run.at(10, replace(READY, presence=Presence.UNKNOWN))
    run.at(20, SILENT)
    run.at(25, SILENT)
    assert run.entered == [(25, OFFLINE)]


def alternate(
    run: Run, start: float, cycles: int, *phases: tuple[float, Readings]
) -> list[tuple[float, DeviceState]]:
    now = start
    for _ in range(cycles):
        for length, readings in phases:
            run.at(now, readings)
            now += length
    return run.entered


def test_a_phone_that_flickers_between_two_wrongs_counts_as_the_worse() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    alternate(run, 100, 2400, (4, NOT_READY), (2, ABSENT))
    assert run.entered == [(106, UNPLUGGED)]
    assert run.track.flapping
    assert run.track.reason == ""


def test_the_reason_of_a_flickering_phone_says_so() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    alternate(run, 100, 1, (4, NOT_READY), (2, ABSENT), (0, NOT_READY))
    assert run.track.state is UNPLUGGED
    assert run.track.reason == "it comes and goes; at the moment it is offline"
    assert run.track.code == ReasonCode.FLAPPING


def test_a_way_through_several_states_to_one_that_stays_is_no_flicker() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    run.at(10, ABSENT)
    run.at(12.9, NOT_READY)
    run.at(100, NOT_READY)
    assert run.entered == [(17.9, OFFLINE)]
    run = Run(held(), ONLINE)
    run.at(0, READY)
    run.at(10, NOT_READY)
    run.at(11, ABSENT)
    run.at(12, NOT_READY)
    run.at(100, NOT_READY)
    assert run.entered == [(17, OFFLINE)]


def test_a_source_that_comes_and_goes_is_no_endless_in_between() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    entered = alternate(run, 10, 100, (1, NOT_READY), (20, BLIND))
    assert [state for _, state in entered] == [OFFLINE]
    assert entered[0][0] <= 10 + 5 + 30 + 21


def test_a_phone_that_re_enumerates_and_is_never_seen_by_adb_is_not_online_for_ever() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    entered = alternate(run, 100, 20, (1.5, ABSENT), (3, SILENT))
    assert entered == [(118, UNPLUGGED)]
    assert run.track.flapping
    run.at(1000, SILENT)
    assert run.track.state is OFFLINE
    assert not run.track.flapping


def test_re_enumerations_that_never_count_are_flaps() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    assert alternate(run, 100, 10, (0.5, ABSENT), (2.5, READY)) == []
    assert run.track.flapping
    run.at(200, READY)
    assert not run.track.flapping


@pytest.mark.parametrize("spans", [(1, 1), (4.9, 0.1), (0.1, 9)])
def test_a_phone_that_its_bridge_loses_over_and_over_is_flapping(
    spans: tuple[float, float],
) -> None:
    run = Run(held(5), ONLINE)
    run.at(0, READY)
    away, back = spans
    assert alternate(run, 100, 8, (away, NOT_READY), (back, READY)) == []
    assert run.track.flapping
    run.at(300, READY)
    assert not run.track.flapping


def test_an_absence_is_one_flap_however_the_phone_comes_back() -> None:
    run = Run(held(), ONLINE)
    run.at(0, READY)
    alternate(run, 100, 6, (0.5, ABSENT), (1, SILENT), (1, NOT_READY), (3, READY))
    assert len(run.track.flips) == 6
    assert not run.track.flapping
    alternate(run, 200, 20, (1, BUSY), (1, READY))
    assert not run.track.flapping, "a session is none"


def test_a_bridge_that_is_restarted_over_and_over_is_no_flapping_phone() -> None:
    only = Readings(Presence.UNKNOWN, Bridge.READY, bridge_is_presence=True)
    down, gone = replace(only, bridge=Bridge.UNKNOWN), replace(only, bridge=Bridge.ABSENT)
    run = Run(held(), ONLINE)
    run.at(0, only)
    alternate(run, 100, 20, (0.2, down), (1, gone), (2, only))
    assert not run.track.flapping
    alternate(run, 300, 20, (1, gone), (2, only))
    assert run.track.flapping


def test_the_sources_are_asked_before_a_state_counts_but_not_before_it_began() -> None:
    begun = step(Track(ONLINE), NOT_READY, 100, held(offline=5))
    assert (begun.ask_at, begun.wake) == (104.5, 105)
    assert step(Track(ONLINE), NOT_READY, 100, held(offline=0.5)).ask_at == 100.25
    assert step(Track(OFFLINE), READY, 100, held()).ask_at is None, "it counts at once"


READINGS = st.builds(
    read,
    st.sampled_from([Reason(), Reason("unauthorized", ReasonCode.UNAUTHORIZED)]),
    st.sampled_from([Reason(), Reason("no udevd", ReasonCode.SOURCE_DOWN)]),
    st.sampled_from(["", "appium unreachable"]),
    st.builds(
        Readings,
        st.sampled_from(Presence),
        st.sampled_from(Bridge),
        st.sampled_from(Usage),
        bridge_is_presence=st.booleans(),
        bridge_ruled_out=st.booleans(),
    ),
)
TIMED = st.lists(st.tuples(st.floats(0.01, 90), READINGS), max_size=60)
POLICIES = st.builds(
    held,
    st.integers(1, 8),
    **{state: st.sampled_from([0.0, 1.0, 5.0, 40.0]) for state in DeviceState},
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


class Seeing(Run):
    """Sees that what begins is said to be so at that very moment."""

    def _step(self, readings: Readings, now: float) -> DeviceState | None:
        entered = super()._step(readings, now)
        if entered in {ONLINE, UTILIZING}:
            assert readings.bridge is Bridge.READY
        if entered is UTILIZING:
            assert readings.usage is Usage.IN_USE
        return entered


@given(TIMED, POLICIES, STATES, st.sampled_from(Usage))
def test_nothing_begins_by_memory_alone(
    timed: list[tuple[float, Readings]], policy: Policy, state: DeviceState | None, usage: Usage
) -> None:
    run, now = Seeing(policy, state), 0.0
    run.track = run.track._replace(usage=usage)
    for wait, readings in timed:
        now += wait
        run.at(now, readings)
    run.at(now + 1000, run.readings)


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
    graces = max(policy.hold.arrival, policy.hold.source_grace, policy.hold.usage_grace)
    run.at(now + 1 + graces + max(policy.longest_hold, policy.flap.hold), last)
    # Unknown usage has outlived its grace by now: it counts as idle.
    usage = Usage.IDLE if last.usage is Usage.UNKNOWN else last.usage
    assert run.track.state is meaning(replace(last, usage=usage), before)
    run.at(now + 10_000, last)
    assert run.wake is None, "a device at rest needs no timer"


@given(st.lists(st.tuples(st.floats(0.05, 3), READINGS), min_size=1, max_size=4), POLICIES, STATES)
def test_flickering_of_any_kind_leaves_no_state_that_is_never_shown(
    phases: list[tuple[float, Readings]], policy: Policy, state: DeviceState | None
) -> None:
    run, now = Run(policy, state), 0.0
    ends = 2 * (
        max(policy.longest_hold, policy.flap.hold) + policy.hold.arrival + policy.hold.source_grace
    )
    states: set[DeviceState | None] = set()
    while now < 2 * ends:
        for wait, readings in phases:
            run.at(now, readings)
            now += wait
            if now > ends:
                states.add(run.track.state)
    telling = [each for _, each in phases if not _says_nothing(each)]
    # The last known usage counts while it is unknown.
    usages = [replace(each, usage=usage) for each in telling for usage in Usage]
    shown = {meaning(each, last) for each in usages for last in states}
    assert states <= shown or not telling


def _says_nothing(readings: Readings) -> bool:
    outcome = expected(readings.presence, readings.bridge, readings.usage)
    if outcome is Outcome.LAST_OR_UNPLUGGED:
        return not readings.bridge_is_presence
    return outcome is Outcome.LAST


@given(TIMED, POLICIES, STATES, st.floats(0.01, 500))
def test_a_late_tick_yields_nothing_that_those_on_time_would_not(
    timed: list[tuple[float, Readings]], policy: Policy, state: DeviceState | None, late: float
) -> None:
    run, now = Run(policy, state), 0.0
    readings = READY
    for wait, each in timed:
        now, readings = now + wait, each
        run.at(now, readings)
    entered = step(run.track, readings, now + late, policy).entered
    before = len(run.entered)
    run.at(now + late, readings)
    assert entered in {None, *(state for _, state in run.entered[before:])}


@given(TIMED, POLICIES, STATES)
@example(
    [
        (1.0, Readings(Presence.PRESENT, Bridge.READY, Usage.IN_USE)),
        (1.0, Readings(Presence.ABSENT, Bridge.READY, Usage.UNKNOWN)),
    ],
    held(online=0.0, offline=0.0, utilizing=0.0, unplugged=0.0),
    None,
)
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
