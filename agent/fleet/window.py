"""Which rows of the log go into the stream next, and how many at a time. Pure.

The stream only makes it fast: a hub asks for what it misses. So a row that the broker did not take
is not repeated at once; those behind it come to their end, and then all from that row on go again.
"""

from __future__ import annotations

from typing import Final

SIZE: Final = 64
"""Rows under way at once."""


class Window:
    """The appends of one connection and one epoch.

    Args:
        acked: the hub has all up to that id.
        size: see SIZE.
    """

    def __init__(self, acked: int, size: int = SIZE) -> None:
        self._size = size
        self._under_way: set[int] = set()
        self._failed: int | None = None
        self.position = acked
        """Everything up to here needs no append, or has had its own."""

    @property
    def room(self) -> int:
        """How many more may go now."""
        return 0 if self._failed is not None else self._size - len(self._under_way)

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not self._under_way

    @property
    def stalled(self) -> bool:
        """A row was not taken and nothing is under way any more: `resume` after a pause."""
        return self._failed is not None and self.idle

    def begin(self, id_: int) -> bool:
        """Whether that row, the next one of those that were read, is to go now.

        While they were read the hub may have got them, or an earlier one may have failed.
        """
        if id_ <= self.position or not self.room:
            return False
        self.position = id_
        self._under_way.add(id_)
        return True

    def skip(self, id_: int) -> None:
        """Nothing is there up to that id (any more)."""
        self.position = max(self.position, id_)

    def acked(self, id_: int) -> None:
        """The hub has all up to that id, however it came there."""
        self.skip(id_)
        if self._failed is not None and self._failed <= id_:
            self._failed = None

    def done(self, id_: int) -> None:
        """The broker has that row."""
        self._under_way.discard(id_)

    def failed(self, id_: int) -> None:
        """The broker did not take that row, or has not said so."""
        self._under_way.discard(id_)
        self._failed = id_ if self._failed is None else min(id_, self._failed)

    def resume(self) -> None:
        """Go on from the first row that was not taken, if there still is one."""
        if self._failed is not None and self.idle:
            self.position, self._failed = self._failed - 1, None
