"""What one phone went through, as stays one after the other. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.model import DeviceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.model import Transition

_WORSE: Final = {
    DeviceState.UTILIZING: 0,
    DeviceState.ONLINE: 1,
    DeviceState.OFFLINE: 2,
    DeviceState.UNPLUGGED: 3,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stay in one state."""

    start_ms: int
    end_ms: int
    state: DeviceState
    made_by: Transition
    began_ms: int
    """When the stay began, which may be before the range."""


def spans_of(transitions: Iterable[Transition], since: int, until: int) -> list[Span]:
    """The stays of one phone in that range, by its transitions in the order of their ids."""
    found: list[Span] = []
    last: tuple[int, Transition] | None = None
    for each in transitions:
        at = each.at_ms if last is None else max(last[0], each.at_ms)
        if last is not None:
            _add(found, *last, at, since, until)
        last = at, each
    if last is not None:
        _add(found, *last, until, since, until)
    return found


def _add(
    found: list[Span], began: int, made_by: Transition, end: int, since: int, until: int
) -> None:
    start, end = max(began, since), min(end, until)
    if start < end:
        found.append(Span(start, end, made_by.state, made_by, began))


def coarse(spans: Sequence[Span], below: int) -> tuple[list[Span], int]:
    """The same for a picture: a run of stays shorter than that is one, in the worst of them.

    One short stay between two long ones remains; a run is cut where it has become long enough. And
    how many stays are left out.
    """
    found: list[Span] = []
    run: Span | None = None
    for each in spans:
        if each.end_ms - each.start_ms >= below:
            if run is not None:
                found.append(run)
                run = None
            found.append(each)
            continue
        run = each if run is None else _joined(run, each)
        if run.end_ms - run.start_ms >= below:
            found.append(run)
            run = None
    if run is not None:
        found.append(run)
    return found, len(spans) - len(found)


def _joined(one: Span, other: Span) -> Span:
    worse = other if _WORSE[other.state] > _WORSE[one.state] else one
    return Span(one.start_ms, other.end_ms, worse.state, worse.made_by, worse.began_ms)
