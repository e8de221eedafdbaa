"""The file where nothing can take its place: mounted by itself, on odd file systems, read-only."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.change import FileChanger
from agent.config.document import read
from agent.config.edit import Change
from agent.config.journal import is_torn, journal_of, torn_by
from tests.config.kit import files, own

TEXT = """# mine
[[webhooks]]
name = "a"
url = "http://a.example/"
events = ["online"]
"""
DONE = TEXT + "enabled = false\n"
CHILD = (sys.executable, str(Path(__file__).parent / "rewrite_child.py"))
UNSHARE = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


mounts = pytest.mark.skipif(
    not _works(*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"),
    reason="no private mount namespaces here",
)
traced = pytest.mark.skipif(
    shutil.which("strace") is None or not _works("strace", "-qq", "true"),
    reason="needs strace, and to be allowed to trace",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "conf" / "agent.toml"
    made.parent.mkdir()
    made.write_text(TEXT)
    made.chmod(0o640)
    return made


def child(path: Path, mount: str = "", *wrapper: str) -> subprocess.CompletedProcess[str]:
    """Change the file in a process, behind a mount of its own."""
    command = [*wrapper, *CHILD, str(path)]
    if mount:
        command = [*UNSHARE, "sh", "-ec", f'{mount}; exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.netns
@mounts
def test_a_file_that_is_mounted_by_itself_is_rewritten(path: Path) -> None:
    before = path.stat()
    done = child(path, f"mount --bind {path} {path}")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == DONE
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.netns
@mounts
@traced
@pytest.mark.parametrize(
    "point",
    ["fallocate", "pwrite64", "ftruncate", "unlink:when=3", "rename:when=2", "fsync:when=3"],
)
def test_a_crash_of_a_rewriting_loses_neither_text(path: Path, point: str) -> None:
    call, _, when = point.partition(":")
    killed = child(
        path,
        f"mount --bind {path} {path}",
        *("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"),
        *("-e", f"inject={call}:signal=KILL" + (f":{when}" if when else "")),
    )
    assert killed.returncode != 0, "it was killed"
    assert read(path) in {TEXT, DONE}
    done = child(path, f"mount --bind {path} {path}")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == DONE


@pytest.mark.netns
@mounts
@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is no root is told to use sudo")
@pytest.mark.parametrize("what", ["{dir}", "{path}"])
def test_what_is_read_only_is_left_with_the_true_remedy(path: Path, what: str) -> None:
    place = what.format(dir=path.parent, path=path)
    done = child(path, f"mount --bind {place} {place}; mount -o remount,bind,ro {place}")
    assert done.returncode == 1
    says = f"cannot change {path} (Read-only file system): mount its directory writable (in a "
    assert says in done.stderr
    assert "sudo" not in done.stderr
    assert path.read_text() == TEXT
    assert list(path.parent.iterdir()) == [path]


@traced
@pytest.mark.parametrize(
    "inject",
    [
        ("-P", "{dir}", "-e", "inject=fsync:error=EINVAL"),
        ("-P", "{dir}", "-e", "inject=fsync:error=EOPNOTSUPP"),
        ("-P", "{dir}", "-e", "inject=flock:error=EINVAL"),
        ("-e", "inject=flock:error=ENOLCK"),
        ("-e", "inject=fchown:error=EPERM", "-e", "inject=fchmod:error=EPERM"),
        ("-e", "inject=rename:error=EBUSY"),
        ("-e", "inject=rename:error=EINVAL:when=1"),
        ("-e", "inject=rename:error=EXDEV:when=1", "-e", "inject=fallocate:error=EOPNOTSUPP"),
    ],
)
def test_file_systems_that_do_not_know_a_call(path: Path, inject: tuple[str, ...]) -> None:
    where = [each.format(dir=path.parent) for each in inject]
    busy = where == ["-e", "inject=rename:error=EBUSY"]
    done = child(path, "", "strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", *where)
    if busy:  # the journal's own rename fails as well: then nothing is done, and it says so
        assert done.returncode == 1
        assert path.read_text() == TEXT
        return
    assert done.returncode == 0, done.stderr
    assert path.read_text() == DONE
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@traced
@pytest.mark.parametrize("call", ["pwrite64", "ftruncate", "fallocate"])
def test_a_disk_that_is_full_leaves_the_file_as_it_was(path: Path, call: str) -> None:
    done = child(
        path,
        "",
        *("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"),
        *("-e", "inject=rename:error=EBUSY:when=1"),
        *("-e", f"inject={call}:error=ENOSPC:when=1"),
    )
    assert done.returncode == 1
    assert "(No space left on device): free space on its disk" in done.stderr
    assert path.read_text() == TEXT
    assert list(path.parent.iterdir()) == [path]


def test_a_half_written_file_is_read_whole_and_brought_to_its_end(path: Path) -> None:
    real = path.resolve()
    before, after = TEXT.encode(), DONE.encode()
    make_journal(real, before, after)
    path.write_bytes(before + b"ena")
    assert read(path) == DONE
    look = files(path).look()
    assert look.texts is not None
    assert look.texts.own == DONE
    with FileChanger.open(own(path)) as file:
        assert path.read_text() == DONE
        file.change(Change("a", None, {"enabled": None}))
    assert path.read_text() == TEXT
    assert list(path.parent.iterdir()) == [path]
    assert files(path).look().fingerprint != look.fingerprint


def test_who_wrote_the_file_after_a_crash_is_heard(path: Path) -> None:
    real = path.resolve()
    make_journal(real, TEXT.encode(), DONE.encode())
    path.write_text(TEXT.replace('"a"', '"b"'))
    assert read(path) == TEXT.replace('"a"', '"b"')
    path.write_text(TEXT[:7])  # a mixture, but written long after
    later = journal_of(real).stat().st_mtime + 61
    os.utime(path, (later, later))
    assert read(path) == TEXT[:7]


@pytest.mark.parametrize("journal", [b"", b"{}\n", b"[]\n", b"x", b'{"before": 9, "after": 9}\nx'])
def test_what_is_no_journal_says_nothing(path: Path, journal: bytes) -> None:
    journal_of(path.resolve()).write_bytes(journal)
    assert torn_by(path.resolve(), b"") is None
    assert read(path) == TEXT


def make_journal(real: Path, before: bytes, after: bytes) -> None:
    """As a rewriting that is killed before its first byte leaves it."""
    from agent.config import rewrite as module  # noqa: PLC0415 - its inner half

    module._put(journal_of(real), real, before, after)
    assert stat.S_IMODE(journal_of(real).stat().st_mode) == stat.S_IMODE(real.stat().st_mode)


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 40), st.booleans())
def test_every_cut_is_known(before: bytes, after: bytes, cut: int, grown: bool) -> None:
    longest = max(len(before), len(after))
    data = before.ljust(longest, b"\0") if grown else before
    torn = after[:cut] + data[min(cut, len(after)) :]
    assert is_torn(torn, before, after) == (torn not in (before, after))
