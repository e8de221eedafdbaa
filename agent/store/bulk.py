"""The frequent changes as data, and many of them in a few statements.

Every statement gives the interpreter's lock away and has to get it back from a busy event loop, so
that one statement for 64 rows does more than spare the parsing. At the first thing that does not
fit the usual case everything is taken back, and the changes are applied one by one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Sequence
    from typing import Self

T = TypeVar("T")


class UnusualError(Exception):
    """Not to be applied in bulk; nothing of it may be committed."""


class Bulk(Generic[T]):
    """A change of a frequent kind; T is its result.

    No `ABC`: `isinstance` of one is Python code, and is asked for every change.
    """

    __slots__ = ()

    @property
    def subject(self) -> Hashable:
        """What it changes: two of a kind with the same subject are not applied together."""
        return self

    @classmethod
    @abstractmethod
    def apply_all(cls, conn: sqlite3.Connection, changes: Sequence[Self]) -> list[T]:
        """Apply them, in order; their results.

        Raises:
            UnusualError: to be rolled back, and applied one by one.
        """

    @abstractmethod
    def __call__(self, conn: sqlite3.Connection) -> T:
        """Apply it alone."""


def apply(
    conn: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[Any]:
    """Apply the changes; their results.

    Those in bulk overtake one another (an outcome is of a callback that an earlier transaction
    stored), but none of their own kind, and no other change.

    Raises:
        UnusualError: to be rolled back, and applied one by one.
    """
    results: list[Any] = [None] * len(changes)
    piles: dict[type[Bulk[Any]], dict[Hashable, tuple[int, Bulk[Any]]]] = {}

    def flush() -> None:
        for kind, pile in piles.items():
            found = kind.apply_all(conn, [change for _, change in pile.values()])
            for (place, _), result in zip(pile.values(), found, strict=True):
                results[place] = result
        piles.clear()

    for place, change in enumerate(changes):
        if not isinstance(change, Bulk):
            flush()
            results[place] = change(conn)
            continue
        kind, subject = type(change), change.subject
        if subject in piles.get(kind, ()):
            flush()
        if kind not in piles:
            piles[kind] = {}
        piles[kind][subject] = place, change
    flush()
    return results
