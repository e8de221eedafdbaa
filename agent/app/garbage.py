"""When Python looks for garbage: among all that there is only in a turn of the loop of its own.

Objects that refer to each other in a circle are freed by the collector alone. Now and then it looks
through all objects that the process has, and nothing else goes on meanwhile: 20 to 40 ms for a
thousand phones and a few hundred clients that wait. Python does that in whatever turn makes one
object too many, and the longest turns make most objects. So the two are kept apart here.
"""

from __future__ import annotations

import asyncio
import gc

LOOK = 30.0
"""Seconds between two looks at whether it is time: what grows old and dies meanwhile must wait."""
ENOUGH = 10
"""Collections of younger objects after which it is: Python's own number (`gc`, threshold 2)."""
NEVER = 1 << 30


class Garbage:
    """Takes the full collections over from Python, for as long as the agent runs."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()

    def take_over(self) -> None:
        """From now on; what is there by now stays, and is not looked through any more."""
        gc.collect()
        gc.freeze()
        young, middle, _ = self._before
        gc.set_threshold(young, middle, NEVER)

    async def watch(self) -> None:
        """Collect whenever it is time."""
        while True:
            await asyncio.sleep(LOOK)
            self.look()

    def look(self) -> None:
        """Collect if it is time."""
        if gc.get_count()[2] >= ENOUGH:
            gc.collect()

    def give_back(self) -> None:
        """It is Python's matter again."""
        gc.set_threshold(*self._before)
        gc.unfreeze()
