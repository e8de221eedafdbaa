"""Webhooks that wait (`after`): what each goes by, of one device, and what it is told when. Pure.

A state counts for such a webhook once it has lasted `after` seconds without a break. So it is told
the device's history with every shorter stay taken out and repeats joined, by the same table of
transitions as any other webhook.

Every webhook *goes by* a state: the one that it was told last, or would have been if it wanted it.
Those that do not wait all go by the same one: the device's state, or the one before a silence (its
*debt*, see `silence_book`). `Owed.by` keeps those that go by another one, and nothing else is kept
of a webhook: not whether it waits, nor until when. That follows from the settings in force and from
when the device's stay in its state began. Hence:

- another `after` counts from when the stay began; a webhook that waits no more is told at once;
- one that begins to wait, or is new, goes by what all go by;
- a state that comes back in time takes the entry away, and nothing was ever made of it;
- however many webhooks wait, a device has one time at which to look at it again.

A silence keeps back what is due until it ends; what then still lasts is told then.

Stays are measured in seconds that were seen. At the start of an agent nothing is due until the
device was seen to be in its state still (`Owed.since` is None): one that left it meanwhile was not
seen to stay. Where it did stay, the time in which no agent ran counts, by the wall clock.
"""

from __future__ import annotations

import json
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from agent.track.silence_book import SAID, Debt, debt_after, debt_of, last_told, said

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.model import DeviceRecord, DeviceState

NOBODY: Final[Mapping[int, DeviceState | None]] = MappingProxyType({})


class Hooks(Protocol):
    """The webhooks in force, by id."""

    @property
    def after(self) -> Mapping[int, float]:
        """Those that wait, and how many seconds."""

    @property
    def direct(self) -> Mapping[int, object]:
        """Those that do not."""


class Telling(NamedTuple):
    """Some webhooks are to be told of a transition; the table may say that it calls nobody back."""

    previous: DeviceState | None
    state: DeviceState
    webhooks: Collection[int] | None
    """None: all that do not wait."""
    late: bool = False
    """The stay that is told of has lasted: it is not what just happened."""


class Owed(NamedTuple):
    """What webhooks are still to be told of a device, one day."""

    debt: Debt | None = None
    by: Mapping[int, DeviceState | None] = NOBODY
    """The webhooks that go by another state than those that do not wait; None: never seen."""
    since: float | None = None
    """Seen seconds at which the device's stay in its state began; None: since the agent's start it
    was not seen to be in it still."""
    since_ms: int = 0
    """The same by the wall clock, as if that had never been set, and all time been seen."""


NOTHING: Final = Owed()


class Waiting(NamedTuple):
    """A webhook that is told of the device's state if that lasts."""

    webhook: int
    previous: DeviceState | None
    """The one that it goes by."""
    after: float
    until_ms: int
    """When it is told, by the wall clock; has that passed, something else keeps it back."""


def entered(
    owed: Owed,
    previous: DeviceState | None,
    state: DeviceState,
    now: float,
    now_ms: int,
    hooks: Hooks,
    *,
    silenced: bool,
) -> tuple[Owed, list[Telling]]:
    """What is owed after a transition, and what is told with it: of the stay that ends, first."""
    base = last_told(owed.debt, previous)
    debt = debt_after(owed.debt, previous, state, silenced=silenced)
    if not owed.by and not hooks.after:
        told = [] if silenced else [Telling(base, state, None)]
        return Owed(debt, NOBODY, now, now_ms), told
    goes, told = _goes_by(owed, base, hooks), []
    if not silenced and previous is not None:
        told += _ripe(goes, owed, previous, now, hooks)
    if not silenced:
        own = [each for each in goes if each not in hooks.after]
        told += _groups(own, goes, state, late=False)
        told.append(Telling(base, state, _others(own, hooks)))
    return Owed(debt, _apart(goes, last_told(debt, state)), now, now_ms), told


def settled(
    owed: Owed, state: DeviceState, now: float, hooks: Hooks, *, pay: bool, late: bool
) -> tuple[Owed, list[Telling]]:
    """What is owed after that was told, of a device that nothing silences.

    `pay`: its debt; `late`: those who have waited.
    """
    goes = _goes_by(owed, last_told(owed.debt, state), hooks)
    told = _ripe(goes, owed, state, now, hooks) if late else []
    debt = owed.debt
    if pay and debt is not None:
        own = [each for each in goes if each not in hooks.after]
        told.append(Telling(debt.before, state, _others(own, hooks)))
        debt = None
    return owed._replace(debt=debt, by=_apart(goes, last_told(debt, state))), told


def waiting(owed: Owed, state: DeviceState, hooks: Hooks) -> list[Waiting]:
    """Who waits for the device's state to last."""
    if not owed.by and (owed.debt is None or not hooks.after):
        return []
    goes = _goes_by(owed, last_told(owed.debt, state), hooks)
    return [
        Waiting(each, before, after, owed.since_ms + round(after * 1000))
        for each, before in goes.items()
        if before is not state
        for after in (hooks.after.get(each, 0.0),)
    ]


def due(owed: Owed, state: DeviceState, hooks: Hooks) -> float | None:
    """Seen seconds at which the first of them is to be told; None: nobody is, by time alone."""
    if owed.since is None:
        return None
    if owed.debt is not None:
        afters = [each.after for each in waiting(owed, state, hooks)]
    elif owed.by:  # asked for with each reading: it is they alone, and each of them
        after = hooks.after
        afters = [after.get(each, 0.0) for each in owed.by if each in after or each in hooks.direct]
    else:
        return None
    return owed.since + min(afters) if afters else None


def count(all_owed: Iterable[Owed]) -> int:
    """How many webhooks wait, for one device each; but for those that a silence keeps back."""
    return sum(len(owed.by) for owed in all_owed if owed.debt is None)


def seen(owed: Owed, now: float, now_ms: int) -> Owed:
    """The device was looked at, and is in its state still; if that is new, its stay goes on."""
    if owed.since is not None:
        return owed
    return owed._replace(since=now - max(0, now_ms - owed.since_ms) / 1000)


def known(owed: Owed, webhooks: Collection[int]) -> Owed:
    """The same without webhooks that are no more."""
    if owed.by.keys() <= set(webhooks):
        return owed
    return owed._replace(by={each: by for each, by in owed.by.items() if each in webhooks})


def stored_waits(owed: Owed, cause: Sequence[str | int] = ()) -> str:
    """As `DeviceRecord` has it, beside its debt. `cause`: of the stay, where somebody needs it."""
    if not owed.by and owed.debt is None:
        return ""
    by: defaultdict[str, list[int]] = defaultdict(list)
    for each in sorted(owed.by):
        by[said(owed.by[each])].append(each)
    row: dict[str, object] = {"since": owed.since_ms, "by": by}
    if cause:
        row["cause"] = list(cause)
    return json.dumps(row, separators=(",", ":"))


def owed_of(record: DeviceRecord) -> tuple[Owed, tuple[object, ...]]:
    """As it is stored, with the cause of its stay; what makes no sense is nothing."""
    owed = Owed(debt_of(record), since_ms=record.since_ms)
    if not record.waits:
        return owed, ()
    try:
        row = json.loads(record.waits)
        by = {int(each): SAID[name] for name, some in row["by"].items() for each in some}
        return owed._replace(by=by, since_ms=int(row["since"])), tuple(row.get("cause", ()))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return owed, ()


def _goes_by(owed: Owed, base: DeviceState | None, hooks: Hooks) -> dict[int, DeviceState | None]:
    """Each that waits, or goes by another state than the others."""
    goes: dict[int, DeviceState | None] = dict.fromkeys(hooks.after, base)
    for each, by in owed.by.items():
        if each in goes or each in hooks.direct:
            goes[each] = by
    return goes


def _ripe(
    goes: dict[int, DeviceState | None], owed: Owed, state: DeviceState, now: float, hooks: Hooks
) -> list[Telling]:
    """Who is told of the stay in that state, which has lasted until now; they go by it then."""
    if owed.since is None:
        return []
    since, after = owed.since, hooks.after
    return _groups(
        (each for each in goes if now >= since + after.get(each, 0.0)), goes, state, late=True
    )


def _groups(
    some: Iterable[int], goes: dict[int, DeviceState | None], state: DeviceState, *, late: bool
) -> list[Telling]:
    """Those of them that go by another state are told of that one, and go by it then."""
    told: defaultdict[DeviceState | None, list[int]] = defaultdict(list)
    for each in some:
        if goes[each] is not state:
            told[goes[each]].append(each)
    for group in told.values():
        goes.update(dict.fromkeys(group, state))
    return [Telling(before, state, group, late) for before, group in told.items()]


def _others(own: Collection[int], hooks: Hooks) -> Collection[int] | None:
    """All that do not wait, but for these."""
    return [each for each in hooks.direct if each not in own] if own else None


def _apart(
    goes: Mapping[int, DeviceState | None], base: DeviceState | None
) -> Mapping[int, DeviceState | None]:
    return {each: by for each, by in goes.items() if by is not base} or NOBODY
