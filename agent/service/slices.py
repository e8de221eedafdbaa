"""Long work on the loop, in slices."""

from __future__ import annotations

import asyncio
import time

SLICE = 0.01
"""Seconds of one turn of the loop."""


class Slices:
    """Lets others have the loop now and then."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE

    async def let_go(self) -> None:
        """Go on in a later turn, if this one was long enough."""
        if time.monotonic() >= self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + SLICE
