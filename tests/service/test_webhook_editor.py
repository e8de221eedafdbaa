"""A webhook changed over the API: to its end, whoever waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.errors import StartError, UnusableError
from agent.service.live import Live
from agent.service.webhook_editor import WebhookEditor
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
[[webhooks]]
id = 7
name = "a"
url = "http://a.example/"
events = ["online"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "agent.toml"
    made.write_text(TEXT)
    return made


def live() -> Live:
    config = parse(TEXT, "agent.toml")
    return Live(config, {}, {7: config.webhooks[0]})


async def test_a_client_that_hangs_up_leaves_no_refused_change_behind(path: Path) -> None:
    begun, go_on, loaded = asyncio.Event(), asyncio.Event(), []

    async def reload() -> None:
        loaded.append(path.read_text())
        begun.set()
        await go_on.wait()
        raise UnusableError("its certificate is missing")

    editor = WebhookEditor(path, live(), reload)
    asked = asyncio.create_task(editor.edit("a", {"enabled": False}))
    async with asyncio.timeout(30):
        await begun.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert path.read_text() != TEXT
    go_on.set()
    await eventually(lambda: len(loaded) == 2)
    assert path.read_text() == TEXT
    assert loaded == [f"{TEXT}enabled = false\n", TEXT]


async def test_a_refused_change_is_put_back_before_the_answer(path: Path) -> None:
    async def reload() -> None:
        raise UnusableError("its certificate is missing")

    with pytest.raises(UnusableError, match="certificate"):
        await WebhookEditor(path, live(), reload).delete("a")
    assert path.read_text() == TEXT


async def test_a_stop_in_the_middle_puts_back_what_is_not_in_force(path: Path) -> None:
    async def reload() -> None:
        raise asyncio.CancelledError

    with pytest.raises(StartError, match="stopped before"):
        await WebhookEditor(path, live(), reload).delete("a")
    assert path.read_text() == TEXT


async def test_what_is_taken_is_in_the_file_and_named(path: Path) -> None:
    async def reload() -> None:
        assert path.read_text() == ""

    assert await WebhookEditor(path, live(), reload).delete("a") == {"id": 7, "name": "a"}
