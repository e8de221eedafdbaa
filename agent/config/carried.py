"""Which webhook of a new configuration is one of the old, with another organisation. Pure.

A webhook is known by its id; one whose file names none is known by organisation and name. Another
organisation alone, be it the default of `[agent]`, makes it no other webhook: it keeps its id, and
what waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Wanted = tuple[int, str, int | None]
"""Organisation, name, explicit id."""


class InForce(NamedTuple):
    """A webhook of the configuration that was last in force."""

    id: int
    org_id: int
    name: str


class Carried(NamedTuple):
    """A webhook that is wanted, and which of the old ones it may be."""

    org_id: int
    name: str
    old: tuple[InForce, ...]
    sure: bool
    """There is one old, and no other wants to be it."""


def carried(in_force: Iterable[InForce], wanted: Sequence[Wanted]) -> list[Carried]:
    """Those that have another organisation than what they may be had."""
    asked = {(org_id, name) for org_id, name, _ in wanted}
    asked_ids = {explicit for _, _, explicit in wanted}
    had = set()
    gone: defaultdict[str, list[InForce]] = defaultdict(list)
    for each in in_force:
        had.add((each.org_id, each.name))
        if (each.org_id, each.name) not in asked and each.id not in asked_ids:
            gone[each.name].append(each)
    new: defaultdict[str, list[int]] = defaultdict(list)
    for org_id, name, explicit in wanted:
        if explicit is None and name in gone and (org_id, name) not in had:
            new[name].append(org_id)
    return [
        Carried(org_id, name, tuple(gone[name]), sure=len(gone[name]) == len(orgs) == 1)
        for name, orgs in new.items()
        for org_id in orgs
    ]


def unsure(one: Carried) -> str:
    """What to tell the operator of one that is not `sure`."""
    which = " or ".join(f"{each.id} (organisation {each.org_id})" for each in one.old)
    first = one.old[0].id
    return (
        f"webhook {one.name!r} (organisation {one.org_id}) has a new organisation, and it cannot "
        f"be told whether it is webhook {which} with what waits for that: write its id into the "
        f"file, id = {first}, or a new one where it is another webhook"
    )
