"""A webhook whose organisation alone is new is the same webhook."""

from __future__ import annotations

import pytest

from agent.config.carried import InForce, Wanted, carried, unsure

OLD = [InForce(1, 2, "a"), InForce(2, 2, "b"), InForce(3, 7, "a"), InForce(9, 2, "named")]


def found(*wanted: Wanted) -> list[tuple[int, str, list[int], bool]]:
    return [
        (each.org_id, each.name, [old.id for old in each.old], each.sure)
        for each in carried(OLD, wanted)
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        # Nothing new; and the default's change, with one that has an organisation of its own.
        ([(2, "a", None), (2, "b", None), (7, "a", None)], []),
        (
            [(5, "a", None), (5, "b", None), (7, "a", None)],
            [(5, "a", [1], True), (5, "b", [2], True)],
        ),
        # Its own organisation's change.
        ([(2, "a", None), (2, "b", None), (8, "a", None)], [(8, "a", [3], True)]),
        # Deleted, new, renamed, and ids that are said: nothing to find out.
        ([(2, "a", None), (7, "a", None)], []),
        ([(2, "a", None), (2, "b", None), (7, "a", None), (5, "c", None)], []),
        ([(2, "a", None), (2, "B", None), (7, "a", None)], []),
        ([(5, "named", 9), (5, "b", 2)], []),
        # The id of the old one is said for another: it is that one's.
        ([(5, "a", None), (5, "x", 1), (7, "a", None)], []),
        # It cannot be told which is which.
        ([(5, "a", None), (6, "a", None)], [(5, "a", [1, 3], False), (6, "a", [1, 3], False)]),
        ([(5, "a", None), (2, "b", None)], [(5, "a", [1, 3], False)]),
        (
            [(2, "a", None), (7, "a", None), (5, "b", None), (6, "b", None)],
            [(5, "b", [2], False), (6, "b", [2], False)],
        ),
        # One of that organisation was there already: it is that one.
        ([(7, "a", None), (2, "b", None)], []),
    ],
)
def test_who_is_who(wanted: list[Wanted], expected: list[tuple[int, str, list[int], bool]]) -> None:
    assert found(*wanted) == expected


def test_what_cannot_be_told_names_the_ids() -> None:
    (one,) = carried(OLD, [(5, "a", None)])
    assert "whether it is webhook 1 (organisation 2) or 3 (organisation 7)" in unsure(one)
    assert "id = 1" in unsure(one)
