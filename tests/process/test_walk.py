"""The whole agent against a model, by a random walk: walk_inner.py, which runs in a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes import inner
from tests.process import walk_inner

if TYPE_CHECKING:
    from pathlib import Path

NAME = "test_the_receivers_are_told_what_the_model_says"


@pytest.mark.netns
@pytest.mark.parametrize(
    ("steps", "limit"), [(16, 180.0), pytest.param(120, 900.0, marks=pytest.mark.long)]
)
def test_a_random_walk(
    steps: int, limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALK_STEPS", str(steps))
    inner.check(inner.run(walk_inner, tmp_path, limit), NAME)
