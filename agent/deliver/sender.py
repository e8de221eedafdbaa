"""What sends a callback, as delivery sees it: `client.Client` does it over HTTP.

Each kind has a row in `senders`, by the schemes of the URLs that it sends to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Webhook
    from agent.deliver.policy import Answer
    from agent.model import Callback


class Sender(Protocol):
    """Sends attempts for any number of webhooks. Order, retries and pace are not its matter."""

    async def attempt(
        self, webhook: Webhook, callback: Callback, now_ms: int, *, limit: float
    ) -> Answer:
        """Send the callback once, within `limit` seconds.

        Raises nothing but CancelledError: whatever goes wrong is in the answer, in the operator's
        words and without secrets.
        """

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """These are in force; attempts under way end as they began.

        All of them, whoever sends for them: those of other schemes are not this one's matter.
        """

    async def close(self) -> None:
        """Close what is open. Attempts have ended or been cancelled before."""
