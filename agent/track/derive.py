"""Which state a device is in, and when a change of it counts. Pure: no clock, no I/O, no await.

Theory of operation. A device has three readings (presence, bridge, usage). `TABLE` gives an outcome
for every triple of them: a state, the last state, or one of three that need one more fact:

- *present, bridge unknown*: the last state, and after `source_grace` offline;
- *present, bridge absent*: offline, but the last state while the phone is arriving. A phone arrives
  when it comes onto USB, and when its bridge comes back (a server that was started anew finds the
  phones one by one). It has arrived once its bridge has listed it, or has been able to and did not
  for `arrival` seconds. One whose bridge cannot see it in that mode does not arrive: why it is
  silent is known;
- *unknown, bridge absent*: unplugged where the bridge's list is the presence, else the last state.

`step` turns the outcome into the *derived* state; a derived state that differs from the device's
state becomes a candidate, and once it has lasted its hold time without a break (debounce) it
becomes the device's state: that is a transition. `CALLS_BACK` says which transitions call back.
Nothing outside these two tables decides a state; two rules bound what a phone that flickers can do
to the holds:

- *No endless in-between*: a device is away from its state from the first reading that says another
  one to the next that says its own; "the last state" ends it not. Once it has been away for longer
  than the longest hold (and `arrival`, `source_grace`, where such waits lay in it) and takes up a
  candidate that it had before, it enters the worst state that it showed since it left. A phone that
  goes through several states once, and stays in the last, only waits for that one's hold.
- *Flapping*: past `flap.transitions` in `flap.window` every hold grows to `flap.hold` at least,
  until nothing has changed for that long. Counted are transitions, and what was too short to be
  one: a phone that re-enumerates over and over, or that its bridge loses for a second each time.

Times are seconds of any monotonic clock; `now` is passed in and never runs backwards. The time in
which nobody looked (a frozen process) is the caller's to leave out.

A long file, for the tables and the rules that bound them are read together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from agent.model import Bridge, DeviceState, Presence, Readings, Usage
from agent.reasons import Reason, ReasonCode
from agent.track.causes import stand_of

if TYPE_CHECKING:
    from agent.config import Flap, Hold
    from agent.track.cause import Cause


class Outcome(StrEnum):
    """What a triple of readings means."""

    ONLINE = "online"
    OFFLINE = "offline"
    UTILIZING = "utilizing"
    UNPLUGGED = "unplugged"
    LAST = "last state"
    LAST_THEN_OFFLINE = "last state, after source_grace offline"
    ARRIVING_THEN_OFFLINE = "last state while it arrives, then offline"
    LAST_OR_UNPLUGGED = "unplugged where the bridge's list is the presence, else last state"


_ANY_BRIDGE = tuple(Bridge)
_ANY_USAGE = tuple(Usage)
_FREE = (Usage.IDLE, Usage.UNKNOWN)
"""An unknown usage reaches the table only when `usage_grace` has run out: see `_usage`."""

_ROWS: tuple[tuple[Presence, tuple[Bridge, ...], tuple[Usage, ...], Outcome], ...] = (
    (Presence.ABSENT, _ANY_BRIDGE, _ANY_USAGE, Outcome.UNPLUGGED),
    (Presence.PRESENT, (Bridge.READY,), (Usage.IN_USE,), Outcome.UTILIZING),
    (Presence.PRESENT, (Bridge.READY,), _FREE, Outcome.ONLINE),
    (Presence.PRESENT, (Bridge.NOT_READY,), _ANY_USAGE, Outcome.OFFLINE),
    (Presence.PRESENT, (Bridge.ABSENT,), _ANY_USAGE, Outcome.ARRIVING_THEN_OFFLINE),
    (Presence.PRESENT, (Bridge.UNKNOWN,), _ANY_USAGE, Outcome.LAST_THEN_OFFLINE),
    # udev cannot see it: it is down, it was never there, or the device is not on this host's USB.
    (Presence.UNKNOWN, (Bridge.READY,), (Usage.IN_USE,), Outcome.UTILIZING),
    (Presence.UNKNOWN, (Bridge.READY,), _FREE, Outcome.ONLINE),
    (Presence.UNKNOWN, (Bridge.NOT_READY,), _ANY_USAGE, Outcome.OFFLINE),
    (Presence.UNKNOWN, (Bridge.ABSENT,), _ANY_USAGE, Outcome.LAST_OR_UNPLUGGED),
    (Presence.UNKNOWN, (Bridge.UNKNOWN,), _ANY_USAGE, Outcome.LAST),
)

TABLE: dict[tuple[Presence, Bridge, Usage], Outcome] = {
    (presence, bridge, usage): outcome
    for presence, bridges, usages, outcome in _ROWS
    for bridge, usage in product(bridges, usages)
}

CALLS_BACK: frozenset[tuple[DeviceState | None, DeviceState]] = frozenset(
    (previous, state)
    for previous, state in product((None, *DeviceState), DeviceState)
    if previous is not state
    and (previous, state) != (DeviceState.UTILIZING, DeviceState.ONLINE)  # a session's end
    and (previous, state) != (None, DeviceState.UNPLUGGED)  # never seen: no transition at all
)
"""(previous, state) of every transition that calls back; None: a device never seen before."""

_SESSION_EDGES = frozenset(
    {
        (DeviceState.ONLINE, DeviceState.UTILIZING),
        (DeviceState.UTILIZING, DeviceState.ONLINE),
    }
)
"""A session's start and end say nothing about the cable: no flaps, and never damped."""

_SEVERITY = {
    DeviceState.ONLINE: 0,
    DeviceState.UTILIZING: 0,
    DeviceState.OFFLINE: 1,
    DeviceState.UNPLUGGED: 2,
}
"""Which of the states that a flickering phone shows counts."""

NEVER = math.inf
"""The moment of what is not waited for."""

ASK_LEAD = 0.5
"""Seconds before a state counts at which the sources are asked once more, at most."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold and grace times, and what flapping is; in seconds."""

    hold: Hold
    flap: Flap

    def hold_of(self, state: DeviceState) -> float:
        """How long a derived state must last before it counts."""
        match state:
            case DeviceState.ONLINE:
                return self.hold.online
            case DeviceState.OFFLINE:
                return self.hold.offline
            case DeviceState.UTILIZING:
                return self.hold.utilizing
            case DeviceState.UNPLUGGED:
                return self.hold.unplugged

    @property
    def longest_hold(self) -> float:
        """Of the undamped ones."""
        return max(self.hold_of(state) for state in DeviceState)


class Away(NamedTuple):
    """What a device showed since it left its state."""

    since: float
    shown: frozenset[DeviceState] = frozenset()
    arriving: bool = False
    """It was arriving in between."""
    blind: bool = False
    """Its state could not be told in between."""
    found: bool = False
    """It began as the bridge found the phone anew, which is no fault of the phone."""


class Track(NamedTuple):
    """What is remembered of one device between two readings.

    A tuple: a transition makes five of them, and `_replace` takes a quarter of the time.
    """

    state: DeviceState | None = None
    """The state that counts; None: never seen."""
    reason: str = ""
    holder: str = ""
    cause: Cause | None = None
    """What took it together with others, so that it is in that state."""
    candidate: DeviceState | None = None
    candidate_since: float = 0.0
    bridge_unknown_since: float | None = None
    """Since when the phone is present and its bridge down; nothing was told of it since."""
    usage: Usage = Usage.IDLE
    """The last known usage."""
    usage_holder: str = ""
    usage_unknown_since: float | None = None
    away: Away | None = None
    there: bool | None = None
    """Whether the phone was there when that was last known; None: it never was."""
    lost: bool = False
    """That was known before, and is not now."""
    left: bool = False
    """It was seen leaving, which has not come to count."""
    arriving: bool = False
    listed: bool = False
    """Its bridge has listed it since it last began to arrive."""
    silent_since: float | None = None
    """While it arrives: since when its bridge is able to list it, and does not."""
    flips: tuple[float, ...] = ()
    """When the flaps inside the flap window happened."""
    flapping: bool = False
    changed_at: float = 0.0
    """When the derived state last changed, whether it came to count or not."""
    code: str = ""
    """The reason's; see `agent.reasons`."""


class Step(NamedTuple):
    """What one reading, or the passing of time, came to."""

    track: Track
    previous: DeviceState | None = None
    entered: DeviceState | None = None
    """The state of a transition that counts from now; None: no transition."""
    wake: float | None = None
    """When to call `step` again with the same readings, at the latest; None: never."""
    ask_at: float | None = None
    """When the sources are to be asked once more, as a state is about to count; None: not now."""
    shown: bool = False
    """The readings say that it is in its state, which is not only the last one that was known."""


def quiet(track: Track) -> Track:
    """The track of a device that is no longer looked at: its state, and nothing under way."""
    return Track(
        track.state,
        track.reason,
        track.holder,
        track.cause,
        usage=track.usage,
        usage_holder=track.usage_holder,
        code=track.code,
    )


def rests(track: Track) -> bool:
    """Whether nothing is waited for that may soon change its state."""
    return (
        track.candidate is None
        and track.silent_since is None
        and (track.bridge_unknown_since is None or track.state is DeviceState.OFFLINE)
    )


def is_here(readings: Readings) -> bool:
    """Whether the phone is there, or may be."""
    outcome = _outcome(readings, readings.usage)
    return outcome is not Outcome.UNPLUGGED


def step(track: Track, readings: Readings, now: float, policy: Policy) -> Step:
    """Take the device's readings at `now`; total over all readings, and idempotent.

    Args:
        track: what the last step returned, or a fresh Track.
        readings: all three, complete.
        now: monotonic seconds.
        policy: the hold and grace times in force.
    """
    found = track.arriving or track.bridge_unknown_since is not None
    track = _come_and_go(track, readings, now, policy)
    track, usage, usage_ends = _usage(track, readings, now, policy)
    track, derived, sight, wait_ends = _derived(track, readings, usage, now, policy)
    track, strayed = _follow(track, derived, sight, now, policy, found=found)

    previous, entered, ask_at = track.state, None, None
    ripe_at = quiet_at = NEVER
    if _ripe(track, now, policy):
        entered = track.candidate
    elif strayed is not None:
        entered = strayed
    if entered is not None:
        track = _forgotten_use(_enter(track, entered, derived, now, policy), readings)
    if track.candidate is not None:
        hold = _hold(track, track.candidate, policy)
        ripe_at = track.candidate_since + hold
        ask_at = ripe_at - min(ASK_LEAD, hold / 2)

    if track.flapping:
        quiet_at = track.changed_at + policy.flap.hold
        if now >= quiet_at:
            track = track._replace(flapping=False, flips=())
            quiet_at = NEVER

    if entered is not None and derived is not entered:
        track = track._replace(
            reason=f"it comes and goes; at the moment it is {derived}",
            code=ReasonCode.FLAPPING,
            holder="",
        )
    else:
        track = _explained(track, derived, sight, readings)
    wake = min(usage_ends, wait_ends, ripe_at, quiet_at)
    shown = sight is _Sight.CLEAR and derived is track.state
    return Step(track, previous, entered, None if wake == NEVER else wake, ask_at, shown)


def _explained(
    track: Track, derived: DeviceState | None, sight: _Sight, readings: Readings
) -> Track:
    """The track with the newest reason of its state, where the readings give one."""
    reason, holder = Reason(track.reason, track.code), track.holder
    if sight is _Sight.ARRIVING:
        arriving = f"arriving: not yet seen by {readings.bridge_name}"
        reason = Reason(arriving, ReasonCode.ARRIVING)
    elif track.state is None:
        reason = _of_bridge(readings) if sight is _Sight.BLIND else Reason()
        if derived is None:
            reason = reason or _of_presence(readings)
    elif derived is track.state and not _nothing_new(derived, readings, sight):
        if track.cause is not None and not _is_lost(derived, readings):
            track = track._replace(cause=None)  # it says itself why it is offline
        reason = explain(derived, readings, track)
        if track.cause is not None:
            reason = track.cause.reason(reason)
        holder = track.usage_holder if derived is DeviceState.UTILIZING else ""
    if (*reason, holder) == (track.reason, track.code, track.holder):
        return track
    return track._replace(reason=reason.text, code=reason.code, holder=holder)


def took(track: Track, cause: Cause | None) -> Track:
    """The track of a phone that has just come to count as lost, and what took it."""
    if cause is None:
        return track
    reason = cause.reason(Reason(track.reason, track.code))
    return track._replace(cause=cause, reason=reason.text, code=reason.code)


def _is_lost(state: DeviceState, readings: Readings) -> bool:
    return state is DeviceState.UNPLUGGED or not stand_of(readings).listed


def _nothing_new(state: DeviceState, readings: Readings, sight: _Sight) -> bool:
    """Whether it is offline for what udev told when it still saw: debugging off, fastboot."""
    offline = state is DeviceState.OFFLINE and sight is _Sight.BLIND
    return offline and readings.bridge is Bridge.ABSENT


def explain(state: DeviceState, readings: Readings, track: Track) -> Reason:
    """Why the device is in that state, in the operator's words; none where the state says it all.

    The code is that of what is said first; of a use that is only remembered, that it is.
    """
    match state:
        case DeviceState.OFFLINE:
            told = Reason(f"the phone is {readings.bridge}", ReasonCode.NOT_READY)
            return _of_bridge(readings) or told
        case DeviceState.UTILIZING:
            who = f"in use by {track.usage_holder}" if track.usage_holder else "in use"
            code = ReasonCode.IN_USE
            if readings.usage is Usage.UNKNOWN:
                who = f"{who} when last known ({readings.usage_reason or 'usage unknown'})"
                code = ReasonCode.USAGE_UNKNOWN
            return Reason(who, code).and_(_unseen(readings)).and_(_of_battery(readings))
        case DeviceState.UNPLUGGED:
            return _of_presence(readings)
        case DeviceState.ONLINE:
            return _doubts(readings).and_(_of_battery(readings))


def _doubts(readings: Readings) -> Reason:
    """What an online phone's readings leave open."""
    if readings.bridge is Bridge.UNKNOWN:
        told = _of_bridge(readings) or Reason("its bridge is down", ReasonCode.SOURCE_DOWN)
        return Reason(f"when last known ({told.text})", told.code)
    if readings.bridge is Bridge.ABSENT:
        told = _of_presence(readings) or Reason("USB cannot be seen", ReasonCode.SOURCE_DOWN)
        return Reason(f"when last known ({told.text})", told.code)
    usage = readings.usage_reason
    if readings.usage is Usage.UNKNOWN:
        usage = f"usage unknown: {usage or 'its source is down'}"
    doubt = Reason(usage, ReasonCode.USAGE_UNKNOWN) if usage else Reason()
    return _unseen(readings).and_(doubt)


def _unseen(readings: Readings) -> Reason:
    """Why a phone that its bridge reaches is not seen on USB, where that is worth telling."""
    told = readings.presence is Presence.UNKNOWN and readings.bridge_is_presence
    return _of_presence(readings) if told else Reason()


def _of_bridge(readings: Readings) -> Reason:
    return Reason(readings.bridge_reason, readings.bridge_code)


def _of_presence(readings: Readings) -> Reason:
    return Reason(readings.presence_reason, readings.presence_code)


def _of_battery(readings: Readings) -> Reason:
    return Reason(readings.battery, readings.battery_code)


def _come_and_go(track: Track, readings: Readings, now: float, policy: Policy) -> Track:
    """Note whether the phone is there, and what that makes of it: arriving, or one flap more."""
    there = _there(readings)
    if there is None:
        if track.lost:
            return track
        return track._replace(lost=True, left=False)
    if there is track.there:
        return track._replace(lost=False) if track.lost else track
    if not there:
        left = track.there is True and not track.lost
        return track._replace(there=False, lost=False, left=left, arriving=False)
    if track.left:
        track = _flap(track, now, policy)._replace(changed_at=now)
    return track._replace(
        there=True, lost=False, left=False, arriving=True, listed=False, silent_since=None
    )


def _there(readings: Readings) -> bool | None:
    if readings.presence is not Presence.UNKNOWN:
        return readings.presence is Presence.PRESENT
    if not readings.bridge_is_presence or readings.bridge is Bridge.UNKNOWN:
        return None
    return readings.bridge is not Bridge.ABSENT


def _usage(
    track: Track, readings: Readings, now: float, policy: Policy
) -> tuple[Track, Usage, float]:
    """An unknown usage keeps the last known one, for `usage_grace` at most; and when that ends."""
    if readings.usage is not Usage.UNKNOWN:
        holder = readings.holder if readings.usage is Usage.IN_USE else ""
        if (track.usage, track.usage_holder, track.usage_unknown_since) != (
            readings.usage,
            holder,
            None,
        ):
            track = track._replace(
                usage=readings.usage, usage_holder=holder, usage_unknown_since=None
            )
        return track, readings.usage, NEVER
    if track.usage_unknown_since is None:
        track = track._replace(usage_unknown_since=now)
    track = _forgotten_use(track, readings)
    if track.usage is Usage.IN_USE and readings.holder not in {"", track.usage_holder}:
        track = track._replace(usage_holder=readings.holder)
    since = track.usage_unknown_since
    assert since is not None
    ends = since + policy.hold.usage_grace
    return (track, track.usage, ends) if now < ends else (track, Usage.UNKNOWN, NEVER)


def _forgotten_use(track: Track, readings: Readings) -> Track:
    """A use that is only remembered goes on, but begins nothing; one that lasts is told anew.

    Else a phone would come back, or come out of a hold, as utilizing for a use that may be over,
    and the end of that use, once it is known, calls nobody back: receivers would keep a false
    state.
    """
    only_remembered = readings.usage is Usage.UNKNOWN and track.usage is not Usage.IDLE
    if track.state is not DeviceState.UTILIZING and only_remembered:
        return track._replace(usage=Usage.IDLE, usage_holder="")
    return track


class _Sight(StrEnum):
    """How much the readings say of the state."""

    CLEAR = "clear"
    ARRIVING = "arriving"
    BLIND = "blind"


_SAY_NOTHING = frozenset({Outcome.LAST, Outcome.LAST_THEN_OFFLINE})


def _outcome(readings: Readings, usage: Usage) -> Outcome:
    """What the table says, without what only time can tell."""
    outcome = TABLE[readings.presence, readings.bridge, usage]
    if outcome is Outcome.LAST_OR_UNPLUGGED:
        return Outcome.UNPLUGGED if readings.bridge_is_presence else Outcome.LAST
    return outcome


def _derived(
    track: Track,
    readings: Readings,
    usage: Usage,
    now: float,
    policy: Policy,
) -> tuple[Track, DeviceState | None, _Sight, float]:
    """The state the table gives; None where it says "the last state" and there is none.

    Last, when the waiting for another one ends.
    """
    outcome = _outcome(readings, usage)
    if outcome not in _SAY_NOTHING and track.bridge_unknown_since is not None:
        track = track._replace(bridge_unknown_since=None)
    track = _met(track, readings)
    match outcome:
        case Outcome.LAST:
            return track, track.state, _Sight.BLIND, NEVER
        case Outcome.ARRIVING_THEN_OFFLINE:
            return _arrived(track, now, policy)
        case Outcome.LAST_THEN_OFFLINE:
            return _blind(track, now, policy)
    state = DeviceState(outcome.value)
    if track.state is None and state is DeviceState.UNPLUGGED:
        return track, None, _Sight.CLEAR, NEVER  # never seen, and not here: nothing happened
    return track, state, _Sight.CLEAR, NEVER


def _met(track: Track, readings: Readings) -> Track:
    """Note what the bridge says about whether the phone is still arriving."""
    if readings.bridge in {Bridge.READY, Bridge.NOT_READY}:
        if track.arriving or not track.listed:
            track = track._replace(arriving=False, silent_since=None, listed=True)
    elif readings.bridge_ruled_out:
        if track.arriving:
            track = track._replace(arriving=False, silent_since=None)
    elif readings.bridge is Bridge.UNKNOWN and track.listed:
        track = track._replace(arriving=True, silent_since=None, listed=False)
    return track


def _arrived(
    track: Track, now: float, policy: Policy
) -> tuple[Track, DeviceState | None, _Sight, float]:
    """The bridge is silent: that counts once the phone has had its time to arrive."""
    if track.arriving:
        since = track.silent_since
        if since is None:
            since = now
            track = track._replace(silent_since=now)
        ends = since + policy.hold.arrival
        if now < ends:
            return track, track.state, _Sight.ARRIVING, ends
        track = track._replace(arriving=False, silent_since=None)
    return track, DeviceState.OFFLINE, _Sight.CLEAR, NEVER


def _blind(
    track: Track, now: float, policy: Policy
) -> tuple[Track, DeviceState | None, _Sight, float]:
    """The bridge is down: that counts once `source_grace` has run out."""
    since = track.bridge_unknown_since
    if since is None:
        since = now
        track = track._replace(bridge_unknown_since=now)
    ends = since + policy.hold.source_grace
    if now < ends:
        return track, track.state, _Sight.BLIND, ends
    return track, DeviceState.OFFLINE, _Sight.CLEAR, NEVER


def _follow(
    track: Track,
    derived: DeviceState | None,
    sight: _Sight,
    now: float,
    policy: Policy,
    *,
    found: bool,
) -> tuple[Track, DeviceState | None]:
    """Keep the candidate in step with the derived state: a break starts its hold anew.

    Returns the state that a phone which only flickers is to enter now, too.
    """
    if derived is None or derived is track.state:
        away = track.away
        if sight is _Sight.CLEAR:
            track = _flickered(track, now, policy)
            away = None
        elif away is not None:
            away = away._replace(
                arriving=away.arriving or sight is _Sight.ARRIVING,
                blind=away.blind or sight is _Sight.BLIND,
            )
        changed_at = track.changed_at if track.candidate is None else now
        if (track.candidate, track.away) == (None, away):
            return track, None
        return track._replace(candidate=None, changed_at=changed_at, away=away), None
    if derived is track.candidate:
        return track, None
    away = track.away or Away(now, found=found)
    strayed = None
    if derived in away.shown and now - away.since >= _patience(track, away, policy):
        strayed = max((derived, *away.shown), key=lambda state: _SEVERITY[state])
    away = away._replace(shown=away.shown | {derived})
    track = track._replace(candidate=derived, candidate_since=now, changed_at=now, away=away)
    return track, strayed


def _flickered(track: Track, now: float, policy: Policy) -> Track:
    """Its bridge lost it for less than a hold, and has it again: one flap.

    What comes and goes with the cable is counted where it does, see `_come_and_go`.
    """
    away = track.away
    if away is None or away.shown != {DeviceState.OFFLINE} or away.found or away.blind:
        return track
    if any(at >= away.since for at in track.flips):
        return track
    return _flap(track, now, policy)


def _patience(track: Track, away: Away, policy: Policy) -> float:
    """How long a phone may be away from its state, however it flickers."""
    longest = policy.longest_hold
    if track.flapping:
        longest = max(longest, policy.flap.hold)
    return (
        longest
        + (policy.hold.arrival if away.arriving else 0.0)
        + (policy.hold.source_grace if away.blind else 0.0)
    )


def _hold(track: Track, state: DeviceState, policy: Policy) -> float:
    hold = policy.hold_of(state)
    if track.flapping and (track.state, state) not in _SESSION_EDGES:
        return max(hold, policy.flap.hold)
    return hold


def _ripe(track: Track, now: float, policy: Policy) -> bool:
    """Whether the candidate has lasted its hold."""
    if track.candidate is None:
        return False
    return now >= track.candidate_since + _hold(track, track.candidate, policy)


def _enter(
    track: Track, state: DeviceState, derived: DeviceState | None, now: float, policy: Policy
) -> Track:
    if (track.state, state) not in _SESSION_EDGES:
        track = _flap(track, now, policy)
    track = track._replace(state=state, candidate=None, away=None, cause=None)
    if state is DeviceState.UNPLUGGED:
        track = track._replace(left=False)
    if derived is not None and derived is not state:
        away = Away(now, frozenset({derived}))
        track = track._replace(candidate=derived, candidate_since=now, away=away)
    return track


def _flap(track: Track, now: float, policy: Policy) -> Track:
    flips = (*(at for at in track.flips if at > now - policy.flap.window), now)
    flapping = track.flapping or len(flips) > policy.flap.transitions
    # Only as many as the rule looks at: a flapping phone must not grow this without bound.
    return track._replace(flips=flips[-(policy.flap.transitions + 1) :], flapping=flapping)
