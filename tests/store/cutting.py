"""Cuts the power of a store that works, at many moments, and looks at what each leaves."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from agent.store.files import STATE_NAME
from tests.kit.store import open_store
from tests.store.power_cut import STRACE, calls, cuts
from tests.store.test_crash import check

if TYPE_CHECKING:
    import random

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("crash_child.py")
LIMIT = 120


async def cut_power(place: Path, lines: int, count: int, dice: random.Random) -> int:
    """Check what that many cuts leave of a store that has reported so many outcomes.

    Returns after how many of them something was on the disk that had not been synced: those are
    the ones that could have torn it.
    """
    live, before, left = place / "live", place / "before", place / "left"
    await open_store(live).close()
    shutil.copytree(live, before)
    _trace(live, place / "trace", lines)
    trace = list(calls(place / "trace"))
    to_the_file = [c for c in trace if c.path.name == STATE_NAME and c.name == "pwrite64"]
    assert to_the_file, "there was a checkpoint, too"
    torn = 0
    for disk, said in cuts(trace, live, before, dice, count):
        torn += disk.unsynced > 0
        disk.cut(left, dice)
        await check(left, {line for line in said if line[:2] in {"R ", "D "}})
        with closing(sqlite3.connect(left / STATE_NAME)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return torn


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
