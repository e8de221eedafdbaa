"""Changed, put in force, and put back where that is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.config.change import FileChanger, change
from agent.config.edit import Change
from agent.errors import AgentError, ApiError, CannotWriteError, FileBusyError
from tests.config.kit import own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.config.change import Changed

TEXT = """# mine
[[webhooks]]
name = "a"
url = "http://a.example/"
events = ["online"]
"""
DONE = TEXT + "enabled = false\n"
OFF = Change("a", None, {"enabled": False})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "agent.toml"
    made.write_text(TEXT)
    return made


class Loads:
    """An agent that says these, one after the other, and remembers the texts it loaded."""

    def __init__(self, path: Path, *words: object) -> None:
        self.path, self.words = path, list(words)
        self.texts: list[str] = []
        self.kept: list[CannotWriteError] = []

    def __call__(self) -> object:
        self.texts.append(self.path.read_text())
        word = self.words.pop(0)
        if isinstance(word, Exception):
            raise word
        return word() if callable(word) else word


def changed(
    path: Path, loads: Loads, stays: Callable[[AgentError], bool] = lambda _: False
) -> Changed[object]:
    return change(own(path), OFF, loads, stays=stays, not_put_back=loads.kept.append)


def test_what_is_taken_stays(path: Path) -> None:
    loads = Loads(path, {"changed": ["webhooks"]})
    done = changed(path, loads)
    assert (done.file, done.answer, done.why_not) == (path, {"changed": ["webhooks"]}, None)
    assert not done.config.webhooks[0].enabled
    assert loads.texts == [DONE]
    assert path.read_text() == DONE


@pytest.mark.parametrize("again", [None, AgentError("still not")])
def test_what_is_refused_is_put_back_and_loaded_again(path: Path, again: object) -> None:
    loads = Loads(path, AgentError("no"), again)
    with pytest.raises(AgentError, match=r"^no$"):
        changed(path, loads)
    assert loads.texts == [DONE, TEXT]
    assert path.read_text() == TEXT
    assert not loads.kept
    assert list(path.parent.iterdir()) == [path]


def test_where_nobody_could_load_it_the_change_stays(path: Path) -> None:
    loads = Loads(path, ApiError("no agent runs", "unreachable"))
    done = changed(path, loads, lambda error: str(error) == "no agent runs")
    assert (done.answer, str(done.why_not)) == (None, "no agent runs")
    assert path.read_text() == DONE


def test_what_somebody_wrote_meanwhile_is_not_put_back(path: Path) -> None:
    def refuse() -> None:
        path.write_text("# theirs\n")
        raise AgentError("no")

    loads = Loads(path, refuse)
    with pytest.raises(AgentError, match=r"^no$"):
        changed(path, loads)
    assert [type(each) for each in loads.kept] == [FileBusyError]
    assert loads.texts == [DONE], "theirs is not loaded: who wrote it has not asked for it"
    assert path.read_text() == "# theirs\n"


def test_it_is_the_only_change_until_its_end(path: Path) -> None:
    def other() -> str:
        with pytest.raises(FileBusyError, match="by another command"):
            FileChanger.open(own(path))
        return "loaded"

    assert changed(path, Loads(path, other)).answer == "loaded"
    FileChanger.open(own(path)).close()


_KILLED = """
import os, signal, sys
from pathlib import Path
from agent.config.change import Target, change
from agent.config.edit import Change

def load():
    os.kill(os.getpid(), signal.SIGKILL)

path = Path(sys.argv[1])
target = Target.own(path, {"STATE_DIRECTORY": str(path.parent)})
change(target, Change("a", None, {"enabled": False}), load,
       stays=lambda _: False, not_put_back=print)
"""


def test_killed_before_it_is_in_force_it_leaves_the_new_file_whole(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == DONE
    assert list(path.parent.iterdir()) == [path]
    with FileChanger.open(own(path)) as file:  # its lock went with it
        file.change(Change("a", None, {"enabled": None}))
    assert path.read_text() == TEXT
