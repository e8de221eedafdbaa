"""A webhook changed over the API: to its end, whoever waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.config.file import ConfigFile
from agent.errors import ConfigError, ProvisionedError, StartError, UnusableError
from agent.service.live import Live
from agent.service.webhook_editor import WebhookEditor
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

TEXT = """\
[[webhooks]]
id = 7
name = "a"
url = "http://a.example/"
events = ["online"]
"""


OPERATOR_S = """\
[agent]
org_id = 4
[[webhooks]]
id = 8
name = "board"
url = "http://b.example/"
events = ["online"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the agent's own file."""
    made = tmp_path / "webhooks.toml"
    made.write_text(TEXT)
    (tmp_path / "agent.toml").write_text(OPERATOR_S)
    return made


def editor(path: Path, reload: Callable[[], Coroutine[Any, Any, object]]) -> WebhookEditor:
    """Of an agent that has both in force."""
    file = ConfigFile(path.parent / "agent.toml", {"STATE_DIRECTORY": str(path.parent)})
    config, _ = file.load()
    webhooks = {each.id: each for each in config.webhooks if each.id is not None}
    return WebhookEditor(file, Live(config, {}, webhooks), reload)


async def nothing() -> None:
    """What is reloaded without a refusal."""


async def test_a_client_that_hangs_up_leaves_no_refused_change_behind(path: Path) -> None:
    begun, go_on, loaded = asyncio.Event(), asyncio.Event(), []

    async def reload() -> None:
        loaded.append(path.read_text())
        begun.set()
        await go_on.wait()
        raise UnusableError("its certificate is missing")

    asked = asyncio.create_task(editor(path, reload).edit("a", {"enabled": False}))
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
        await editor(path, reload).delete("a")
    assert path.read_text() == TEXT


async def test_a_stop_in_the_middle_puts_back_what_is_not_in_force(path: Path) -> None:
    async def reload() -> None:
        raise asyncio.CancelledError

    with pytest.raises(StartError, match="stopped before"):
        await editor(path, reload).delete("a")
    assert path.read_text() == TEXT


async def test_what_is_taken_is_in_the_file_and_named(path: Path) -> None:
    async def reload() -> None:
        assert path.read_text() == ""

    assert await editor(path, reload).delete("a") == {"id": 7, "name": "a"}


async def test_a_new_file_that_is_refused_is_gone_again(path: Path) -> None:
    path.unlink()
    seen = []

    async def reload() -> None:
        seen.append(path.exists())
        raise UnusableError("its certificate is missing")

    fields = {"name": "new", "url": "http://n.example/", "events": ["online"]}
    with pytest.raises(UnusableError, match="certificate"):
        await editor(path, reload).create(fields)
    assert seen == [True, False]
    assert [each.name for each in path.parent.iterdir()] == ["agent.toml"]


@pytest.mark.parametrize("act", ["edit", "delete"])
async def test_what_stands_in_the_operator_s_file_is_left_to_the_operator(
    path: Path, act: str
) -> None:
    mine = editor(path, nothing)
    with pytest.raises(ProvisionedError, match=rf"'board' stands in {path.parent}/agent.toml:3,"):
        await (mine.edit("board", {"enabled": False}) if act == "edit" else mine.delete("8"))
    assert (path.parent / "agent.toml").read_text() == OPERATOR_S
    assert path.read_text() == TEXT


@pytest.mark.parametrize("how", ["emptied", "deleted"])
async def test_a_change_does_not_take_an_emptied_file_by_the_way(path: Path, how: str) -> None:
    mine = editor(path, nothing)
    path.write_text("\n") if how == "emptied" else path.unlink()
    fields = {"name": "new", "url": "http://n.example/", "events": ["online"]}
    with pytest.raises(ConfigError, match=f"^{path}:1:1: the file is (empty now|gone), which"):
        await mine.create(fields)
    assert not path.exists() or path.read_text() == "\n"


async def test_a_name_of_the_operator_s_file_is_refused_with_where_it_is(path: Path) -> None:
    fields = {"name": "board", "url": "http://n.example/", "events": ["online"]}
    with pytest.raises(ConfigError) as refused:
        await editor(path, nothing).create(fields)
    assert str(refused.value) == (
        "nothing was written: webhook 'board' name: another webhook of organisation 4 "
        f"({path.parent}/agent.toml:3) has this name: names are unique in one"
    )
    assert path.read_text() == TEXT
