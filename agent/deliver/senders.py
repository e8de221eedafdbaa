"""The kinds of senders, a row each, and the one that hands every webhook to that of its URL."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.deliver.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config import Webhook
    from agent.deliver.policy import Answer
    from agent.deliver.sender import Sender
    from agent.model import Callback


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of sender."""

    schemes: tuple[str, ...]
    """Of the URLs that it sends to, as `config.values.check_url` takes them."""
    make: Callable[[], Sender]


KINDS = (Kind(("http", "https"), Client),)


class Senders:
    """A sender of each kind; itself a `Sender`. Made and closed on the event loop."""

    def __init__(self, kinds: Sequence[Kind] = KINDS) -> None:
        made = [(kind.schemes, kind.make()) for kind in kinds]
        self._all = [sender for _, sender in made]
        self._by_scheme = {scheme: sender for schemes, sender in made for scheme in schemes}

    async def attempt(
        self, webhook: Webhook, callback: Callback, now_ms: int, *, limit: float
    ) -> Answer:
        """See `Sender`."""
        scheme = webhook.url.partition(":")[0].lower()
        return await self._by_scheme[scheme].attempt(webhook, callback, now_ms, limit=limit)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Tell all: a webhook may have gone over from one to the other."""
        for sender in self._all:
            sender.reconfigure(webhooks)

    async def close(self) -> None:
        """Close all, though one fails."""
        async with AsyncExitStack() as stack:
            for sender in self._all:
                stack.push_async_callback(sender.close)
