"""The seed of a randomised test: the same each time, RANDOM=1 in the environment another one."""

from __future__ import annotations

import os
import random


def seed(fixed: int) -> int:
    """That one, or another; printed, so that a failure shows it."""
    chosen = random.randrange(10**6) if os.environ.get("RANDOM") else fixed
    print("seed", chosen)
    return chosen
