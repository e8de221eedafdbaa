"""When garbage is looked for; Python's own collector is what is tried."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from agent.app.garbage import ENOUGH, Garbage

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = 2
MIDDLE = 1


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


class Collections:
    """Counts the full ones."""

    def __init__(self) -> None:
        self.full = 0

    def note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == FULL:
            self.full += 1


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    made = Garbage()
    yield made
    made.give_back()


@pytest.fixture
def seen(garbage: Garbage) -> Iterator[Collections]:
    garbage.take_over()
    counted = Collections()
    gc.callbacks.append(counted.note)
    yield counted
    gc.callbacks.remove(counted.note)


def many() -> list[Node]:
    """So many objects that Python would collect, and more than once."""
    return [Node() for _ in range(100_000)]


def test_nothing_that_makes_objects_is_held_up(seen: Collections) -> None:
    kept = many()
    assert seen.full == 0, "in the middle of it"
    assert kept


def test_a_circle_that_has_grown_old_is_freed(garbage: Garbage, seen: Collections) -> None:
    node = Node()
    gone = weakref.ref(node)
    gc.collect(MIDDLE)
    del node
    # Python decides by numbers that differ from version to version when to collect younger ones.
    for _ in range(ENOUGH):
        gc.collect(MIDDLE)
    assert gone() is not None, "it is old by now, and of a circle"
    garbage.look()
    assert (gone(), seen.full) == (None, 1)
    garbage.look()
    assert seen.full == 1, "hardly anything is new"


def test_afterwards_it_is_as_it_was() -> None:
    before = gc.get_threshold()
    made = Garbage()
    made.take_over()
    assert gc.get_threshold() != before
    made.give_back()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
