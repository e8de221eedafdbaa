"""Figures of a range: packed days, and what is gone through anew; long work is off the loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.history.days import Sums
from agent.history.plan import plan
from agent.history.replay import Figures, Place, Replay
from agent.history.seen import Watch
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.history.plan import Piece
    from agent.history.seen import Watched
    from agent.model import Platform
    from agent.store import Store, StoredTransition

log = structlog.get_logger(__name__)

_PAGE: Final = 2_000
"""Transitions that the store is asked for at once."""
_DAYS: Final = 16
"""Packed days likewise: some 500 KB of a rack of 1,000 phones."""
_TRIES: Final = 3


class Reckoned(NamedTuple):
    """What came of it."""

    since: int
    """Where the days that are left are whole ones, earlier than what was asked for."""
    until: int
    """Later, likewise."""
    figures: dict[Place, Figures]


async def reckon(
    store: Store,
    platforms: Mapping[str, Platform],
    unsaved: Sequence[Watched],
    since: int,
    until: int,
) -> Reckoned:
    """Of all phones in that range.

    Args:
        store: what they went through.
        platforms: of each phone.
        unsaved: what was watched that the store may not know yet.
        since: the range.
        until: its end.
    """
    for _ in range(_TRIES):
        listed = await store.days.listed()
        made = plan(since, until, {each.day: each.final for each in listed.days})
        sums = Sums()
        for start in range(0, len(made.days), _DAYS):
            packed = await store.days.packed(made.days[start : start + _DAYS])
            await in_thread(partial(_add, sums, packed), "report")
        figures = await in_thread(sums.figures, "report")
        for piece in made.pieces:
            replay = await _replayed(store, platforms, unsaved, piece)
            await in_thread(partial(_merge, figures, replay.figures), "report")
        if listed == await store.days.listed():
            break  # else a day was packed meanwhile, or its transitions are deleted
    return Reckoned(made.since, made.until, figures)


def _add(sums: Sums, packed: Sequence[bytes]) -> None:
    for each in packed:
        try:
            sums.add(each)
        except ValueError as error:
            log.error("report.day_unreadable", error=str(error))  # noqa: TRY400 - says it all


async def _replayed(
    store: Store, platforms: Mapping[str, Platform], unsaved: Sequence[Watched], piece: Piece
) -> Replay:
    left = await store.days.left_before(piece.day)
    begin = left.end_ms
    watched = [*await store.watching.within(begin, piece.until), *unsaved]
    replay = Replay(
        left.through,
        left.standing,
        Watch(watched),
        platforms,
        begin,
        piece.since,
        piece.until,
    )
    after, last = left.next - 1, await store.transitions.last_for(left, piece.until)
    while page := await store.transitions.between(after, last, _PAGE):
        await in_thread(partial(_take, replay, page), "report")
        after = page[-1].id
    await in_thread(replay.close, "report")
    return replay


def _merge(figures: dict[Place, Figures], more: Mapping[Place, Figures]) -> None:
    for place, each in more.items():
        figures.setdefault(place, Figures()).add(each)


def _take(replay: Replay, page: Sequence[StoredTransition]) -> None:
    for each in page:
        replay.take(each.id, each.transition)
