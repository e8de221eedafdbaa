"""What is told of a webhook: everything but its secrets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agent.clock import LoopClock
from agent.config import Config
from agent.deliver.client import Client
from agent.errors import DraftRefusedError, StoreError
from agent.service.live import Live
from agent.service.webhooks import Webhooks, more_of
from tests.kit.deliver import make_webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FULL: dict[str, Any] = {
    "url": "https://hunter2:hunter2@x.example/hook?key=hunter2#hunter2",
    "backlog": "latest",
    "timeout": "250ms",
    "allow_link_local": True,
    "proxy": "http://hunter2:hunter2@proxy.example:3128",
    "tls": {"ca": "/ca.pem", "cert": "/c.pem", "key": "/k.pem", "verify": False},
    "secret": [SECRET, {"file": "/old.secret"}],
    "auth": {"type": "basic", "username": "board", "password": "hunter2"},
    "headers": {"X-Rack": "hunter2", "X-Room": {"env": "ROOM"}},
}


def test_all_that_is_set_is_told_but_no_secret() -> None:
    row = more_of(make_webhook(**FULL))
    assert row == {
        "url_private": True,
        "backlog": "latest",
        "timeout": 0.25,
        "allow_link_local": True,
        "proxy": "http://proxy.example:3128",
        "proxy_private": True,
        "tls": FULL["tls"],
        "secrets": 2,
        "auth": {"type": "basic", "username": "board"},
        "headers": ["X-Rack", "X-Room"],
        "body": None,
    }
    assert "hunter2" not in json.dumps(row)


def test_what_is_not_set_is_told_as_such() -> None:
    row = more_of(make_webhook())
    assert row == {
        "url_private": False,
        "backlog": "all",
        "timeout": None,
        "allow_link_local": False,
        "proxy": None,
        "proxy_private": False,
        "tls": {"ca": None, "cert": None, "key": None, "verify": True},
        "secrets": 0,
        "auth": None,
        "headers": [],
        "body": None,
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"proxy": ""}, {"proxy": "", "proxy_private": False}),
        (
            {
                "proxy": "http://p:1",
                "proxy_auth": {"type": "basic", "username": "u", "password": "p"},
            },
            {"proxy": "http://p:1", "proxy_private": True},
        ),
        (
            {"auth": {"type": "bearer", "token": "hunter2"}},
            {"auth": {"type": "bearer", "username": ""}},
        ),
        ({"url": "HTTP://x.example/?"}, {"url_private": False}),
        ({"url": "http://u@x.example/"}, {"url_private": True}),
        ({"url": "http://x.example/#f"}, {"url_private": True}),
    ],
)
def test_odd_ones(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    row = more_of(make_webhook(**{"url": "http://x.example/", **keys}))
    assert row.items() >= expected.items()


class _Dispatcher:
    def stats_of(self, _id: int) -> None:
        """It has not started."""


class _Store:
    """Says what is pending, or does not."""

    def __init__(self, said: dict[int, int] | Exception | None) -> None:
        self.said = said

    async def sizes(self) -> dict[int, int]:
        if isinstance(self.said, Exception):
            raise self.said
        if self.said is None:
            await asyncio.Event().wait()
        assert isinstance(self.said, dict)
        return self.said


@pytest.mark.parametrize(
    ("said", "expected"),
    [({7: 3}, [3, 0]), (StoreError("the disk fails"), [None, None]), (None, [None, None])],
    ids=["counted", "fails", "hangs"],
)
async def test_webhooks_are_shown_whatever_the_store_does(
    said: dict[int, int] | Exception | None,
    expected: list[int | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.service.webhooks.STORE_LIMIT", 0.01)
    live = Live(Config(), {}, {7: make_webhook(number=7), 8: make_webhook(number=8)})
    client = Client()
    webhooks = Webhooks(live, _Dispatcher(), _Store(said), client, LoopClock())  # type: ignore[arg-type]  # as much of them as is asked
    assert [row["pending"] for row in await webhooks.rows()] == expected
    assert (await webhooks.show("7"))["pending"] == expected[0]
    await client.close()


async def test_a_draft_with_thousands_of_mistakes_holds_up_nobody_else() -> None:
    client = Client()
    webhooks = Webhooks(Live(Config(), {}, {}), _Dispatcher(), _Store({}), client, LoopClock())  # type: ignore[arg-type]  # as above
    drafts = [{"payload": "custom", "body": ["{deviceNames}"] * 300}] * 2
    judged = asyncio.gather(*map(webhooks.preview, drafts), return_exceptions=True)
    turns = 0
    while not judged.done():
        turns += 1
        await asyncio.sleep(0)
    # The loop's two turns in which they begin, and one in which what came of them is taken.
    assert turns > 3
    for error in await judged:
        assert isinstance(error, DraftRefusedError)
        assert len(error.problems) == 300
    await client.close()
