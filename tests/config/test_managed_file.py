"""The agent's own file on the disk: made with its first webhook, whole at every moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tomli

from agent.config.change import FileChanger, Target, change
from agent.config.documents import HEAD
from agent.config.edit import Change
from agent.errors import (
    AgentError,
    CannotWriteError,
    ChangeRefusedError,
    FileBusyError,
    UnknownWebhookError,
)
from tests.kit.seed import seed

OWN = '[agent]\norg_id = 4\n[[webhooks]]\nname = "board"\nurl = "http://b/"\nevents = ["online"]\n'
FIRST = f'{HEAD}\n[[webhooks]]\nname = "a"\nurl = "http://n.example/"\nevents = ["online"]\n'
CHILD = (sys.executable, str(Path(__file__).parent / "managed_child.py"))
traced = pytest.mark.skipif(
    shutil.which("strace") is None
    or subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs strace, and to be allowed to trace",
)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The operator's; beside it a directory for the agent's."""
    made = tmp_path / "agent.toml"
    made.write_text(OWN)
    (tmp_path / "state").mkdir(mode=0o700)
    return made


@pytest.fixture
def path(own: Path) -> Path:
    """Where the agent's own is to be."""
    return own.parent / "state" / "webhooks.toml"


def new(name: str = "a", **fields: object) -> Change:
    more = {"name": name, "url": "http://n.example/", "events": ["online"]}
    return Change(fields={**more, **fields})


def make(own: Path, path: Path, wanted: Change) -> None:
    with FileChanger.open(Target.managed(own, path)) as file:
        file.change(wanted)


def names(path: Path) -> list[str]:
    return [each["name"] for each in tomli.loads(path.read_text()).get("webhooks", [])]


def child(own: Path, name: str, *wrapper: str) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, *CHILD, str(own), name]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_it_is_made_with_the_first_and_stays_after_the_last(own: Path, path: Path) -> None:
    make(own, path, new())
    assert path.read_text() == FIRST
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make(own, path, new("b"))
    assert names(path) == ["a", "b"]
    for name in ("a", "b"):
        make(own, path, Change(name))
    assert path.read_text() == HEAD
    assert list(path.parent.iterdir()) == [path]
    assert own.read_text() == OWN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_is_the_agent_s(own: Path, path: Path) -> None:
    os.chown(path.parent, 12345, 54321)
    make(own, path, new())
    make(own, path, new("b"))
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 54321, 0o600)


@pytest.mark.parametrize(
    "wanted",
    [new("board"), new(url="nowhere"), new(org_id="x"), Change("a"), Change("board", None, {})],
)
def test_what_is_refused_makes_no_file(own: Path, path: Path, wanted: Change) -> None:
    with pytest.raises((ChangeRefusedError, UnknownWebhookError)):
        make(own, path, wanted)
    assert not list(path.parent.iterdir())


def test_one_of_another_organisation_may_have_the_name(own: Path, path: Path) -> None:
    make(own, path, new("board", org_id=1))
    with pytest.raises(ChangeRefusedError, match="organisation 1 has this name"):
        make(own, path, new("board", org_id=1))
    make(own, path, Change("board", 1, {"org_id": None, "name": "mine"}))
    make(own, path, Change("mine", 4, {"enabled": False}))
    assert tomli.loads(path.read_text())["webhooks"][0]["enabled"] is False


def test_what_was_made_and_is_not_taken_is_gone_again(own: Path, path: Path) -> None:
    seen: list[bool] = []

    def refuse() -> None:
        seen.append(path.exists())
        raise AgentError("no")

    def wrong(_: CannotWriteError) -> None:
        raise AssertionError

    target = Target.managed(own, path)
    with pytest.raises(AgentError, match=r"^no$"):
        change(target, new(), refuse, stays=lambda _: False, not_put_back=wrong)
    assert seen == [True, False]
    assert not list(path.parent.iterdir())

    kept: list[CannotWriteError] = []

    def theirs() -> None:
        path.write_text("# theirs\n")
        raise AgentError("no")

    with pytest.raises(AgentError, match=r"^no$"):
        change(target, new(), theirs, stays=lambda _: False, not_put_back=kept.append)
    assert [type(each) for each in kept] == [FileBusyError]
    assert path.read_text() == "# theirs\n"


def test_many_at_once_lose_nothing(own: Path, path: Path) -> None:
    threads = [
        threading.Thread(target=make, args=(own, path, new(f"n{number}"))) for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(path)) == sorted(f"n{number}" for number in range(12))
    assert list(path.parent.iterdir()) == [path]


def test_without_its_directory_it_says_who_makes_that(own: Path, path: Path) -> None:
    path.parent.rmdir()
    with pytest.raises(CannotWriteError, match=f"start the agent, which makes .* {path.parent}$"):
        make(own, path, new())


@traced
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("point", ["fsync:when=1", "rename", "fsync:when=2"])
def test_killed_at_any_step_it_is_the_old_one_or_the_new_one(
    own: Path, path: Path, point: str, there: bool
) -> None:
    if there:
        make(own, path, new("old"))
    call, _, when = point.partition(":")
    inject = f"inject={call}:signal=KILL" + (f":{when}" if when else "")
    killed = child(own, "a", "strace", "-f", "-qq", "-o", "/dev/null", "-e", inject)
    assert killed.returncode != 0, "it was killed"
    before = ["old"] if there else []
    found = names(path) if path.exists() else []
    assert found in (before, [*before, "a"])
    done = child(own, "b")
    assert done.returncode == 0, done.stderr
    assert names(path) == [*found, "b"]


@traced
@pytest.mark.parametrize("call", ["fsync:when=1", "rename", "fchown"])
def test_a_disk_that_is_full_leaves_nothing_of_it(own: Path, path: Path, call: str) -> None:
    if call == "fchown":
        if os.geteuid() != 0:
            pytest.skip("only root makes files for others")
        os.chown(path.parent, 12345, 54321)
    name, _, when = call.partition(":")
    inject = f"inject={name}:error=ENOSPC" + (f":{when}" if when else "")
    done = child(own, "a", "strace", "-f", "-qq", "-o", "/dev/null", "-e", inject)
    assert done.returncode == 1
    assert f"cannot change {path} (No space left on device): free space on its disk" in done.stderr
    assert not list(path.parent.iterdir())


MAKERS = """
import os, sys
from pathlib import Path
from agent.config.change import FileChanger, Target
from agent.config.edit import Change
own, path = map(Path, sys.argv[1:3])
def make(run):
    print(os.getpid(), flush=True)
    for number in range(10**6):
        with FileChanger.open(Target.managed(own, path)) as file:
            name = f"{run}-{number}"
            file.change(Change(fields={"name": name, "url": "http://n/", "events": ["online"]}))
            if number > 4:
                file.change(Change(f"{run}-{number - 4}"))
        print(number, flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            make(line.strip())
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    print("end", flush=True)
"""
"""Forks one to be killed for each line that it reads: the import is paid for once."""


@pytest.mark.parametrize("kills", [4, pytest.param(300, marks=pytest.mark.long)])
def test_killed_at_random_it_holds_all_that_was_made(own: Path, path: Path, kills: int) -> None:
    dice = random.Random(seed(912))
    with subprocess.Popen(
        [sys.executable, "-c", MAKERS, own, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as makers:
        assert makers.stdin is not None
        assert makers.stdout is not None
        for run in range(kills):
            makers.stdin.write(b"%d\n" % run)
            makers.stdin.flush()
            maker = int(makers.stdout.readline())
            said = makers.stdout.readline()
            for _ in range(dice.randrange(20)):
                said = makers.stdout.readline()
            os.kill(maker, signal.SIGKILL)
            while (line := makers.stdout.readline()) != b"end\n":
                said = line
            last = int(said)
            assert f"{run}-{last}" in names(path)
            for name in names(path):
                make(own, path, Change(name))
        makers.stdin.close()
