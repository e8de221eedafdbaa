"""What a report of a range is made of: packed days, and pieces that are reckoned up anew. Pure.

A day that is packed, and in the range as a whole, is taken as it is. Of any other the transitions
are gone through; where they are deleted, the whole day is taken instead, and the range grows to its
edge. A day that is missing among those that are reckoned up has no transition, and nobody looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.history.days import DAY_MS, day_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Piece:
    """To be reckoned up anew: from the beginning of a day on, and counted within it."""

    day: int
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to take for a range."""

    since: int
    """May be earlier than what was asked for."""
    until: int
    """May be later."""
    days: tuple[int, ...]
    """Packed ones, whole."""
    pieces: tuple[Piece, ...]
    """In order; together with the days they are the range."""


def plan(since: int, until: int, packed: Mapping[int, bool]) -> Plan:
    """For that range; `packed`: the days that count, and whether their transitions are deleted."""
    if packed.get(day_of(since)):
        since = day_of(since) * DAY_MS
    if packed.get(day_of(until)):
        until = -(-until // DAY_MS) * DAY_MS
    whole = [day for day in packed if since <= day * DAY_MS and (day + 1) * DAY_MS <= until]
    pieces = []
    at = since
    for day in [*sorted(whole), None]:
        end = until if day is None else day * DAY_MS
        if at < end:
            pieces.append(Piece(day_of(at), at, end))
        at = end if day is None else end + DAY_MS
    return Plan(since, until, tuple(sorted(whole)), tuple(pieces))
