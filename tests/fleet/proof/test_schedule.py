"""The faults of the proof are those of their seed, and every one is tried."""

from __future__ import annotations

from collections import Counter

from tests.fleet.proof.schedule import LASTS, Fault, schedule


def test_a_seed_gives_the_same_faults_and_another_one_others() -> None:
    assert schedule(7, 2) == schedule(7, 2)
    assert schedule(7, 2) != schedule(8, 2)


def test_each_round_has_every_fault_for_as_long_as_it_takes() -> None:
    made = schedule(7, 3)
    assert Counter(each.fault for each in made) == dict.fromkeys(Fault, 3)
    for each in made:
        shortest, longest = LASTS[each.fault]
        assert shortest <= each.lasts <= longest
