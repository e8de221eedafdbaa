"""Power cuts at any moment, a checkpoint's too: what was reported as durable is there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.store.files import STATE_NAME
from tests.kit.store import open_store
from tests.store.power_cut import STRACE, calls, cuts
from tests.store.test_crash import check

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("crash_child.py")
LIMIT = 120


def _strace_works() -> bool:
    if "CI" in os.environ:
        return True  # there it must work
    if shutil.which("strace") is None:
        return False
    probe = [*STRACE, "-o", os.devnull, "true"]
    return subprocess.run(probe, capture_output=True, timeout=LIMIT, check=False).returncode == 0


def _trace(directory: Path, trace: Path, lines: int) -> None:
    """Let a recorder work until it has reported so many outcomes, and kill it."""
    with subprocess.Popen(
        [*STRACE, "-o", trace, sys.executable, _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{directory}\n")
        process.stdin.flush()
        pid = int(process.stdout.readline().split()[1])
        for _ in range(lines):
            assert process.stdout.readline()
        os.kill(pid, signal.SIGKILL)
        process.stdin.close()
        while process.stdout.readline():
            pass
        assert process.wait(LIMIT) == 0


@pytest.mark.skipif(not _strace_works(), reason="needs strace, and to be allowed to trace")
@pytest.mark.parametrize(
    ("lines", "count"), [(1_500, 120), pytest.param(4_000, 1_000, marks=pytest.mark.long)]
)
async def test_what_was_reported_survives_a_power_cut(
    tmp_path: Path, lines: int, count: int
) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    live, before, left = tmp_path / "live", tmp_path / "before", tmp_path / "left"
    await open_store(live).close()
    shutil.copytree(live, before)
    _trace(live, tmp_path / "trace", lines)
    trace = list(calls(tmp_path / "trace"))
    to_the_file = [c for c in trace if c.path.name == STATE_NAME and c.name == "pwrite64"]
    assert to_the_file, "there was a checkpoint, too"
    dice = random.Random(seed)
    torn = 0
    for disk, said in cuts(trace, live, before, dice, count):
        torn += disk.unsynced > 0
        disk.cut(left, dice)
        await check(left, {line for line in said if line[:2] in {"R ", "D "}})
        with closing(sqlite3.connect(left / STATE_NAME)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert torn > count / 4
