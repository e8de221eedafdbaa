"""Which state a device is in, and when a change of it counts. Pure: no clock, no I/O, no await.

Theory of operation. A device has three readings (presence, bridge, usage). `TABLE` gives an outcome
for every triple of them: a state, "the last state", or "the last state, and after source_grace
offline". `step` turns the outcome into the *derived* state; a derived state that differs from the
device's state becomes a candidate, and once it has lasted its hold time without a break it becomes
the device's state: that is a transition. `CALLS_BACK` says which transitions call back. Nothing
outside these two tables decides a state.

Times are seconds of any monotonic clock; `now` is passed in and never runs backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

from agent.model import Bridge, DeviceState, Presence, Readings, Usage


class Outcome(StrEnum):
    """What a triple of readings means."""

    ONLINE = "online"
    OFFLINE = "offline"
    UTILIZING = "utilizing"
    UNPLUGGED = "unplugged"
    LAST = "last state"
    LAST_THEN_OFFLINE = "last state, after source_grace offline"


_ANY_BRIDGE = tuple(Bridge)
_ANY_USAGE = tuple(Usage)
_FREE = (Usage.IDLE, Usage.UNKNOWN)
"""An unknown usage reaches the table only when `usage_grace` has run out: see `_usage`."""

_ROWS: tuple[tuple[Presence, tuple[Bridge, ...], tuple[Usage, ...], Outcome], ...] = (
    (Presence.ABSENT, _ANY_BRIDGE, _ANY_USAGE, Outcome.UNPLUGGED),
    (Presence.PRESENT, (Bridge.READY,), (Usage.IN_USE,), Outcome.UTILIZING),
    (Presence.PRESENT, (Bridge.READY,), _FREE, Outcome.ONLINE),
    (Presence.PRESENT, (Bridge.NOT_READY,), _ANY_USAGE, Outcome.OFFLINE),
    (Presence.PRESENT, (Bridge.ABSENT,), _ANY_USAGE, Outcome.OFFLINE),
    (Presence.PRESENT, (Bridge.UNKNOWN,), _ANY_USAGE, Outcome.LAST_THEN_OFFLINE),
    # No udevd (a container), or a device that is not on USB: the bridge's list is the presence.
    (Presence.UNKNOWN, (Bridge.READY,), (Usage.IN_USE,), Outcome.UTILIZING),
    (Presence.UNKNOWN, (Bridge.READY,), _FREE, Outcome.ONLINE),
    (Presence.UNKNOWN, (Bridge.NOT_READY,), _ANY_USAGE, Outcome.OFFLINE),
    (Presence.UNKNOWN, (Bridge.ABSENT,), _ANY_USAGE, Outcome.UNPLUGGED),
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


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold and grace times, in seconds."""

    hold_online: float = 0.0
    hold_offline: float = 5.0
    hold_utilizing: float = 0.0
    hold_unplugged: float = 3.0
    source_grace: float = 30.0
    usage_grace: float = 60.0
    flap_transitions: int = 6
    flap_window: float = 60.0
    flap_hold: float = 30.0

    def hold(self, state: DeviceState) -> float:
        """How long a derived state must last before it counts."""
        match state:
            case DeviceState.ONLINE:
                return self.hold_online
            case DeviceState.OFFLINE:
                return self.hold_offline
            case DeviceState.UTILIZING:
                return self.hold_utilizing
            case DeviceState.UNPLUGGED:
                return self.hold_unplugged


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one device between two readings."""

    state: DeviceState | None = None
    """The state that counts; None: never seen."""
    reason: str = ""
    holder: str = ""
    candidate: DeviceState | None = None
    candidate_since: float = 0.0
    bridge_unknown_since: float | None = None
    """Since when the phone is present and its bridge down."""
    usage: Usage = Usage.IDLE
    """The last known usage."""
    usage_holder: str = ""
    usage_unknown_since: float | None = None
    flips: tuple[float, ...] = ()
    """When the transitions inside the flap window happened."""
    flapping: bool = False
    changed_at: float = 0.0
    """When the derived state last changed, whether it came to count or not."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one reading, or the passing of time, came to."""

    track: Track
    previous: DeviceState | None = None
    entered: DeviceState | None = None
    """The state of a transition that counts from now; None: no transition."""
    wake: float | None = None
    """When to call `step` again with the same readings, at the latest; None: never."""


def step(track: Track, readings: Readings, now: float, policy: Policy) -> Step:
    """Take the device's readings at `now`; total over all readings, and idempotent.

    Args:
        track: what the last step returned, or a fresh Track.
        readings: all three, complete.
        now: monotonic seconds.
        policy: the hold and grace times in force.
    """
    wakes: list[float] = []
    track, usage = _usage(track, readings, now, policy, wakes)
    track, derived = _derived(track, readings, usage, now, policy, wakes)
    track = _follow(track, derived, now)

    previous, entered = track.state, None
    if track.candidate is not None:
        ripe_at = track.candidate_since + _hold(track, track.candidate, policy)
        if now >= ripe_at:
            entered = track.candidate
            track = _enter(track, entered, now, policy)
        else:
            wakes.append(ripe_at)

    if track.flapping:
        quiet_at = track.changed_at + policy.flap_hold
        if now >= quiet_at:
            track = replace(track, flapping=False, flips=())
        else:
            wakes.append(quiet_at)

    if derived is not None and derived is track.state:
        reason = explain(derived, readings, track)
        holder = track.usage_holder if derived is DeviceState.UTILIZING else ""
        if (reason, holder) != (track.reason, track.holder):
            track = replace(track, reason=reason, holder=holder)
    return Step(track, previous, entered, min(wakes, default=None))


def explain(state: DeviceState, readings: Readings, track: Track) -> str:
    """Why the device is in that state, in the operator's words; "" where the state says it all."""
    match state:
        case DeviceState.OFFLINE:
            return readings.bridge_reason or f"the phone is {readings.bridge}"
        case DeviceState.UTILIZING:
            who = f"in use by {track.usage_holder}" if track.usage_holder else "in use"
            if readings.usage is Usage.UNKNOWN:
                return f"{who} when last known ({readings.usage_reason or 'usage unknown'})"
            return who
        case DeviceState.UNPLUGGED:
            return readings.presence_reason
        case DeviceState.ONLINE:
            return _doubts(readings)


def _doubts(readings: Readings) -> str:
    """What an online phone's readings leave open."""
    if readings.bridge is Bridge.UNKNOWN:
        return f"when last known ({readings.bridge_reason or 'its bridge is down'})"
    if readings.usage is Usage.UNKNOWN:
        return f"usage unknown: {readings.usage_reason or 'its source is down'}"
    return readings.usage_reason


def _usage(
    track: Track, readings: Readings, now: float, policy: Policy, wakes: list[float]
) -> tuple[Track, Usage]:
    """An unknown usage keeps the last known one, for `usage_grace` at most."""
    if readings.usage is not Usage.UNKNOWN:
        holder = readings.holder if readings.usage is Usage.IN_USE else ""
        if (track.usage, track.usage_holder, track.usage_unknown_since) != (
            readings.usage,
            holder,
            None,
        ):
            track = replace(
                track, usage=readings.usage, usage_holder=holder, usage_unknown_since=None
            )
        return track, readings.usage
    if track.usage_unknown_since is None:
        track = replace(track, usage_unknown_since=now)
    if track.usage is Usage.IN_USE and readings.holder not in {"", track.usage_holder}:
        track = replace(track, usage_holder=readings.holder)
    since = track.usage_unknown_since
    assert since is not None
    if now < since + policy.usage_grace:
        wakes.append(since + policy.usage_grace)
        return track, track.usage
    return track, Usage.UNKNOWN


def _derived(
    track: Track,
    readings: Readings,
    usage: Usage,
    now: float,
    policy: Policy,
    wakes: list[float],
) -> tuple[Track, DeviceState | None]:
    """The state the table gives; None where it says "the last state" and there is none."""
    outcome = TABLE[readings.presence, readings.bridge, usage]
    if outcome is not Outcome.LAST_THEN_OFFLINE:
        if track.bridge_unknown_since is not None:
            track = replace(track, bridge_unknown_since=None)
        if outcome is Outcome.LAST:
            return track, track.state
        state = DeviceState(outcome.value)
        if track.state is None and state is DeviceState.UNPLUGGED:
            return track, None  # never seen, and not here: nothing happened
        return track, state
    since = track.bridge_unknown_since
    if since is None:
        since = now
        track = replace(track, bridge_unknown_since=now)
    if now < since + policy.source_grace:
        wakes.append(since + policy.source_grace)
        return track, track.state
    return track, DeviceState.OFFLINE


def _follow(track: Track, derived: DeviceState | None, now: float) -> Track:
    """Keep the candidate in step with the derived state: a break starts its hold anew."""
    if derived is None or derived is track.state:
        if track.candidate is None:
            return track
        return replace(track, candidate=None, changed_at=now)
    if derived is track.candidate:
        return track
    return replace(track, candidate=derived, candidate_since=now, changed_at=now)


def _hold(track: Track, state: DeviceState, policy: Policy) -> float:
    hold = policy.hold(state)
    if track.flapping and (track.state, state) not in _SESSION_EDGES:
        return max(hold, policy.flap_hold)
    return hold


def _enter(track: Track, state: DeviceState, now: float, policy: Policy) -> Track:
    flips = track.flips
    flapping = track.flapping
    if (track.state, state) not in _SESSION_EDGES:
        flips = (*(at for at in flips if at > now - policy.flap_window), now)
        flapping = flapping or len(flips) > policy.flap_transitions
    # Only as many as the rule looks at: a flapping phone must not grow this without bound.
    flips = flips[-(policy.flap_transitions + 1) :]
    return replace(track, state=state, candidate=None, flips=flips, flapping=flapping)
