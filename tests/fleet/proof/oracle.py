"""What must hold whatever failed: nothing lost, nothing out of order, nothing made up. Pure.

From what the agents' logs say and what the receiver was sent. The hub tells each transition of a
phone's log, and may do two things of its own, at times that nobody knows beforehand:

- the phones of a host that is lost go offline, with a reason that says so;
- once that host is heard again, they are what it tells.

So a phone's callbacks are right where there is one way through its log that makes them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import DeviceState
from agent.track.derive import CALLS_BACK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

LOST = "is lost"
"""In the reason of what a hub says of a phone whose host it does not hear."""
UNPLUGGED = DeviceState.UNPLUGGED
OFFLINE = DeviceState.OFFLINE


@dataclass(frozen=True, slots=True)
class Told:
    """A row of an agent's log."""

    host: str
    id: int
    udid: str
    state: DeviceState
    at_ms: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that the receiver got."""

    message_id: str
    webhook: int
    udid: str
    event: DeviceState
    lost: bool
    """By its reason: the phone's host was lost."""
    content: str
    """Of its body, but for when it was made: two hubs make each callback themselves."""


@dataclass(slots=True)
class Verdict:
    """What was found."""

    wrong: list[str] = field(default_factory=list)
    messages: int = 0
    repeats: int = 0
    lost: int = 0
    """Of the messages, those about a lost host."""


def judge(
    told: Iterable[Told],
    sent: Sequence[Sent],
    webhooks: Mapping[int, Collection[DeviceState]],
    moved: Collection[str],
) -> Verdict:
    """Hold what was sent against what the agents have seen.

    Args:
        told: the logs of all agents.
        sent: all requests, in the order in which they came.
        webhooks: id → events.
        moved: the phones that went from host to host, and did nothing else: whatever the hosts
            say of them, they were online all the time.
    """
    verdict = Verdict()
    first = _messages(sent, verdict)
    by_phone: dict[str, list[Told]] = defaultdict(list)
    for each in sorted(told, key=lambda it: (it.host, it.id)):
        by_phone[each.udid].append(each)
    got: dict[tuple[int, str], list[Sent]] = defaultdict(list)
    for message in first:
        got[message.webhook, message.udid].append(message)
    for webhook, udid in got.keys() - {(w, u) for w in webhooks for u in by_phone}:
        verdict.wrong.append(f"webhook {webhook}: {udid}, which no agent has told of")
    for webhook, events in webhooks.items():
        for udid, log in by_phone.items():
            mine = got[webhook, udid]
            problem = (
                _judge_moved(log, mine, events)
                if udid in moved
                else _judge_resident([each.state for each in log], mine, events)
            )
            if problem:
                verdict.wrong.append(f"webhook {webhook}, {udid}: {problem}")
    return verdict


def _messages(sent: Sequence[Sent], verdict: Verdict) -> list[Sent]:
    """Each once, by when it came first; repeated are equal."""
    known: dict[str, Sent] = {}
    for each in sent:
        if each.message_id not in known:
            known[each.message_id] = each
            continue
        verdict.repeats += 1
        if (before := known[each.message_id]) != each:
            verdict.wrong.append(f"one id for two messages: {before} and {each}")
    verdict.messages = len(known)
    verdict.lost = sum(each.lost for each in known.values())
    return list(known.values())


def _judge_resident(
    log: Sequence[DeviceState], sent: Sequence[Sent], events: Collection[DeviceState]
) -> str:
    """Whether there is a way through its host's log that makes just these callbacks; else why not.

    A way is where one is in what was sent, and which state the hub has the phone in.
    """
    ways: set[tuple[int, DeviceState | None]] = {(0, None)}
    last: DeviceState | None = None
    for number, state in enumerate(log):
        ways = _while_lost(ways, last, sent, events)
        after = {way for at in ways for way in _steps(at, state, sent, events)}
        if not after:
            return _stuck(ways, number, log, sent)
        ways, last = after, state
    ways = _while_lost(ways, last, sent, events)
    if (len(sent), last) in ways:
        return ""
    return _stuck(ways, len(log), log, sent)


def _steps(
    at: tuple[int, DeviceState | None],
    state: DeviceState,
    sent: Sequence[Sent],
    events: Collection[DeviceState],
    *,
    lost: bool = False,
) -> Iterable[tuple[int, DeviceState | None]]:
    """Where a transition to that state leads: nowhere, if its callback is not the next one."""
    came, stands = at
    if stands is state:
        yield at
        return
    if (stands, state) not in CALLS_BACK or state not in events:
        yield came, state
        return
    if came < len(sent) and sent[came].event is state and sent[came].lost is lost:
        yield came + 1, state


def _while_lost(
    ways: set[tuple[int, DeviceState | None]],
    last: DeviceState | None,
    sent: Sequence[Sent],
    events: Collection[DeviceState],
) -> set[tuple[int, DeviceState | None]]:
    """Besides, wherever losing the host and hearing it again, as often as it happened, may lead."""
    found, new = set(ways), list(ways)
    while new:
        at = new.pop()
        further: set[tuple[int, DeviceState | None]] = set()
        if at[1] not in {None, UNPLUGGED}:
            further |= set(_steps(at, OFFLINE, sent, events, lost=True))
        if at[1] is OFFLINE and last is not None:
            further |= set(_steps(at, last, sent, events))
        new += further - found
        found |= further
    return found


def _stuck(
    ways: set[tuple[int, DeviceState | None]],
    number: int,
    log: Sequence[DeviceState],
    sent: Sequence[Sent],
) -> str:
    came = max((at[0] for at in ways), default=0)
    around = " ".join(log[max(0, number - 4) : number + 3])
    got = " ".join(
        each.event + (" (lost)" if each.lost else "") for each in sent[max(0, came - 3) : came + 4]
    )
    return (
        f"after {number} of {len(log)} transitions ({around}) and {came} of {len(sent)} "
        f"callbacks ({got}) nothing fits"
    )


def _judge_moved(log: Sequence[Told], sent: Sequence[Sent], events: Collection[DeviceState]) -> str:
    """It was online all the time; only losing its host may have been told."""
    if not any(each.state is DeviceState.ONLINE for each in log):
        return "never online"
    stands: DeviceState | None = None
    for each in sent:
        if each.event is UNPLUGGED:
            return "said to be unplugged: it was moved"
        if each.event is OFFLINE and not each.lost:
            return "said to be offline: it was moved"
        if each.event is stands and {DeviceState.ONLINE, OFFLINE} <= set(events):
            return f"twice {each.event} running"
        stands = each.event
    if DeviceState.ONLINE in events and stands is not DeviceState.ONLINE:
        return f"last told as {stands}: it is online"
    return ""
