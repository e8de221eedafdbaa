"""The last causes that transitions told of, for operators. Pure.

It only reads what counted: of this host's phones, or at a hub of its hosts'. So it says the same
whether a cause was found here, told by an agent, or stored before the last start.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.track.cause import CauseKind, read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.history.evidence import Move
    from agent.model import Transition

MOST: Final = 64
"""Causes that are remembered."""
MOST_DEVICES: Final = 5_000
"""Of one of them."""


@dataclass(slots=True)
class ToldCause:
    """One, by the transitions that have it."""

    id: str
    kind: CauseKind
    place: str
    """`1-4.2`, `0000:00:14.0`, `adb`; of a host, its name."""
    host: str
    """Of its phones; "": this one."""
    at_ms: int
    """When the first of them counted."""
    devices: dict[str, None] = field(default_factory=dict)
    """In the order in which they counted."""


class CauseList:
    """Takes every transition, before it is stored."""

    def __init__(self) -> None:
        self.counts: Counter[CauseKind] = Counter()
        """Since the start."""
        self._causes: dict[str, ToldCause] = {}
        """In the order in which they were first told of."""

    def take(self, transition: Transition) -> None:
        """It counts from now on."""
        if transition.cause:
            new = transition.cause not in self._causes
            told = _take(self._causes, transition)
            if told is not None and new:
                self.counts[told.kind] += 1
                while len(self._causes) > MOST:
                    del self._causes[next(iter(self._causes))]

    def all(self, stored: Iterable[Transition] = ()) -> list[ToldCause]:
        """The newest first; `stored`, oldest first, are those of before, which may be known too."""
        causes: dict[str, ToldCause] = {}
        for transition in stored:
            _take(causes, transition)
        for id_, told in self._causes.items():
            known = causes.pop(id_, None)
            before = known.devices if known is not None else {}
            at_ms = told.at_ms if known is None else min(told.at_ms, known.at_ms)
            causes[id_] = ToldCause(
                id_, told.kind, told.place, told.host, at_ms, {**before, **told.devices}
            )
        return list(reversed(causes.values()))[:MOST]


def hub_of_cause(transition: Transition | Move) -> str:
    """The hub that took it, where it was one; "": none."""
    found = read(transition.cause, transition.reason) if transition.cause else None
    return found.place if found is not None and found.kind is CauseKind.HUB else ""


def _take(causes: dict[str, ToldCause], transition: Transition) -> ToldCause | None:
    """None: it is none that is known here, of a newer agent."""
    if transition.code == CauseKind.HOST.code:
        kind, place = CauseKind.HOST, transition.host
    elif (found := read(transition.cause, transition.reason)) is not None:
        kind, place = found.kind, found.place
    else:
        return None
    told = causes.get(transition.cause)
    if told is None:
        told = causes[transition.cause] = ToldCause(
            transition.cause, kind, place, transition.host, transition.at_ms
        )
    told.kind, told.place = kind, place  # it may have grown: a controller, after its first hub
    if len(told.devices) < MOST_DEVICES:
        told.devices.setdefault(transition.udid)
    return told
