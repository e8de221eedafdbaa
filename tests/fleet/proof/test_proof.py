"""A fleet of processes under every fault there is: proof_inner.py, which runs in a namespace.

The same faults each time; PROOF_SEED=n takes others, RANDOM=1 others each time.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.fakes import inner
from tests.fleet.proof import proof_inner

if TYPE_CHECKING:
    from pathlib import Path

NAME = "test_nothing_is_lost_and_nothing_is_made_up"


@pytest.mark.netns
@pytest.mark.parametrize(
    ("seed", "server", "changes", "rate", "rounds", "limit"),
    [
        pytest.param(15, "bundled", 3_000, 20, 1, 600.0, marks=pytest.mark.fleet),
        pytest.param(
            16, "packaged", 10_000, 20, 3, 1800.0, marks=[pytest.mark.fleet, pytest.mark.long]
        ),
    ],
    ids=["short", "long"],
)
def test_under_every_fault(
    seed: int,
    server: str,
    changes: int,
    rate: float,
    rounds: int,
    limit: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if os.environ.get("RANDOM"):
        seed = random.randrange(1, 10**6)
    told = {"SEED": seed, "SERVER": server, "CHANGES": changes, "RATE": rate, "ROUNDS": rounds}
    for key, value in told.items():
        name = f"PROOF_{key}"
        monkeypatch.setenv(name, os.environ.get(name, str(value)))
    inner.check(inner.run(proof_inner, tmp_path, limit), NAME)
