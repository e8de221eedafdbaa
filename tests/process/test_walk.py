"""The whole agent against a model, by a random walk: walk_inner.py, which runs in a namespace.

The same walk each time; WALK_SEED=n takes that one, RANDOM=1 another each time.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.fakes import inner
from tests.process import walk_inner

if TYPE_CHECKING:
    from pathlib import Path

NAME = "test_the_receivers_are_told_what_the_model_says"


@pytest.mark.netns
@pytest.mark.parametrize(
    ("seed", "steps", "limit"),
    [(179141, 16, 180.0), pytest.param(7, 120, 900.0, marks=pytest.mark.long)],
)
def test_a_random_walk(
    seed: int, steps: int, limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("RANDOM"):
        seed = random.randrange(1, 10**6)
    monkeypatch.setenv("WALK_SEED", os.environ.get("WALK_SEED", str(seed)))
    monkeypatch.setenv("WALK_STEPS", str(steps))
    inner.check(inner.run(walk_inner, tmp_path, limit), NAME)
