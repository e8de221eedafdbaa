"""Lets attempts begin a few a turn of the loop: webhooks that are all due at once take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

BEGIN: Final = 16
"""Attempts that begin in one turn of the loop at most; each takes a millisecond of it, in all."""


class Starts:
    """First come, first served."""

    def __init__(self) -> None:
        self._begun = 0
        """Attempts that have begun in this turn of the loop."""
        self._crowd: deque[asyncio.Future[None]] = deque()
        """Those that are to begin in a later one, in order."""

    def wait(self) -> asyncio.Future[None] | None:
        """Done when one more attempt may begin; None: now, and that is counted."""
        if 0 < self._begun < BEGIN:
            self._begun += 1
            return None
        loop = asyncio.get_running_loop()
        if not self._begun:
            loop.call_soon(self._new_turn)
            self._begun = 1
            return None
        turn: asyncio.Future[None] = loop.create_future()
        self._crowd.append(turn)
        return turn

    def _new_turn(self) -> None:
        self._begun = 0
        while self._crowd and self._begun < BEGIN:
            turn = self._crowd.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._new_turn)
