"""The disk fails under the store: nothing is lost or reordered, and it is said. See fault_child."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("fault_child.py")
_LIMIT = 60.0


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        cwd=directory,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), (
        done.stdout[-4_000:] + done.stderr[-4_000:]
    )


@pytest.mark.parametrize("scenario", ["limit_keeps", "limit_bounded", "limit_closes"])
def test_writes_fail(tmp_path: Path, scenario: str) -> None:
    _run([sys.executable, str(_CHILD), scenario, str(tmp_path)], tmp_path)


def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, timeout=_LIMIT, check=False).returncode == 0


@pytest.mark.netns
@pytest.mark.skipif(not _namespaces_work(), reason="no private mount namespaces here")
@pytest.mark.parametrize(
    "scenario",
    ["full_keeps", "full_bounded", "full_closes", "full_start", "full_recovery", "read_only"],
)
def test_a_small_file_system(tmp_path: Path, scenario: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=32m tmpfs "$1" && exec "$2" "$3" "$4" "$1"'
    arguments = [str(disk), sys.executable, str(_CHILD), scenario]
    _run(["unshare", "-Urm", "sh", "-c", script, "sh", *arguments], tmp_path)
