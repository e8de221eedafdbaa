"""A receiver's behaviour that fails at random, and remembers what it accepted when."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.fakes.receiver import answer, hang_up, raw, reset

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from tests.fakes.receiver import Request

SLOW = 0.2
"""Seconds until a slow answer, at most."""


class Flaky:
    """To be a Receiver's `default`.

    Args:
        dice: decides.
        failing: the share of requests that are not accepted; may be changed at any time.
    """

    def __init__(self, dice: random.Random, failing: float) -> None:
        self.failing = failing
        self._dice = dice
        self._failures = (
            answer(503),
            answer(429, ("Retry-After: 0",)),
            answer(429, ("Retry-After: 1",)),
            hang_up(),
            reset(),
            reset(b"HTTP/1.1 20"),
        )
        self._successes = (answer(204), raw(b"HTTP/1.1 200 OK\r\nContent-Le", close=True))
        """A received 2xx is one, though its answer be cut."""
        self.came: list[tuple[str, str, bool]] = []
        """Of every request, in order: udid, message id, accepted."""

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Accept, at once or slowly, or fail in one of the ways of the world."""
        accepted = self._dice.random() >= self.failing
        udid = json.loads(request.body)["deviceUdid"]
        self.came.append((udid, request.headers["webhook-id"], accepted))
        if not accepted:
            await self._dice.choice(self._failures)(request, writer)
            return
        if self._dice.random() < 0.1:
            await asyncio.sleep(self._dice.random() * SLOW)
        await self._dice.choices(self._successes, (9, 1))[0](request, writer)

    def check_that_nothing_was_overtaken(self, stored: Mapping[str, Sequence[str]]) -> int:
        """No message came before the one stored before it, of the same device, was accepted.

        Returns how many came again after they had been accepted.
        """
        before = {
            message_id: previous
            for messages in stored.values()
            for previous, message_id in pairwise(messages)
        }
        accepted: set[str] = set()
        duplicates = 0
        for _, message_id, taken in self.came:
            previous = before.get(message_id)
            assert previous is None or previous in accepted, f"{message_id} overtook {previous}"
            duplicates += message_id in accepted
            if taken:
                accepted.add(message_id)
        assert accepted == {message_id for messages in stored.values() for message_id in messages}
        return duplicates
