"""Power cuts at any moment, a checkpoint's too: what was reported as durable is there."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.store.cutting import LIMIT, cut_power
from tests.store.power_cut import STRACE

if TYPE_CHECKING:
    from pathlib import Path


def _strace_works() -> bool:
    if "CI" in os.environ:
        return True  # there it must work
    if shutil.which("strace") is None:
        return False
    probe = [*STRACE, "-o", os.devnull, "true"]
    return subprocess.run(probe, capture_output=True, timeout=LIMIT, check=False).returncode == 0


@pytest.mark.skipif(not _strace_works(), reason="needs strace, and to be allowed to trace")
@pytest.mark.parametrize(
    ("lines", "count"), [(1_500, 60), pytest.param(4_000, 1_000, marks=pytest.mark.long)]
)
async def test_what_was_reported_survives_a_power_cut(
    tmp_path: Path, lines: int, count: int
) -> None:
    chosen = random.randrange(10**6)
    print("seed", chosen)
    torn = await cut_power(tmp_path, lines, count, random.Random(chosen))
    assert torn > count / 4
