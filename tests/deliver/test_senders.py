"""Each webhook's attempts go to the sender of its URL's scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.config.secret import PrivateUrl
from agent.deliver.policy import Answer
from agent.deliver.senders import KINDS, Kind, Senders
from tests.kit.deliver import NOW_MS, make_callback, make_webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Webhook
    from tests.fakes.receiver import Receiver


class Pigeons:
    """Carries whatever it is given."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        self.known: Mapping[int, Webhook] = {}
        self.closed = False

    async def attempt(self, *_: Any, limit: float) -> Answer:
        self.limits.append(limit)
        return Answer(202)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        self.known = webhooks

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
async def test_the_scheme_says_who_sends(receiver: Receiver, scheme: str) -> None:
    pigeons = Pigeons()
    senders = Senders((*KINDS, Kind(("loft",), lambda: pigeons)))
    over_http = make_webhook(receiver.url("/").replace("http", scheme, 1))
    by_air = over_http.model_copy(update={"id": 2, "url": PrivateUrl("loft://north")})
    try:
        senders.reconfigure({1: over_http, 2: by_air})
        for webhook, status in (over_http, 200), (by_air, 202):
            sent = await senders.attempt(webhook, make_callback(), NOW_MS, limit=3)
            assert sent.status == status
    finally:
        await senders.close()
    assert len(receiver.requests) == 1
    assert pigeons.limits == [3]
    assert set(pigeons.known) == {1, 2}
    assert pigeons.closed


def test_every_scheme_that_a_webhook_may_have_has_one_sender() -> None:
    schemes = [scheme for kind in KINDS for scheme in kind.schemes]
    assert sorted(schemes) == ["http", "https"]
    for scheme in schemes:
        make_webhook(f"{scheme}://127.0.0.1/")
