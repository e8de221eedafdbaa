"""Who keeps a name that two agents want."""

from __future__ import annotations

from itertools import permutations

from agent.fleet.claim import loses_to, yields_to
from agent.fleet.words import Heartbeat, Holder


def beat(instance: str) -> Heartbeat:
    return Heartbeat(host="rack-3", epoch=1, instance=instance, last=0)


def test_who_has_the_name_keeps_it() -> None:
    for mine, other in permutations(("a", "b")):
        assert loses_to(mine, Holder(instance=other, holding=True))
        assert yields_to(mine, beat(other), holding=False)


def test_of_two_who_have_or_want_it_at_once_exactly_one_keeps_it() -> None:
    both = (("a", "b"), ("b", "a"))
    assert [loses_to(mine, Holder(instance=other, holding=False)) for mine, other in both] == [
        False,
        True,
    ]
    assert [yields_to(mine, beat(other), holding=True) for mine, other in both] == [False, True]


def test_nobody_loses_to_itself() -> None:
    assert not loses_to("a", Holder(instance="a", holding=True))
    assert not yields_to("a", beat("a"), holding=True)
