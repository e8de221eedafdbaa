"""How much a randomised test tries: in `make test` a part of what it does in `make test-long`.

THOROUGH=1 in the environment has properties tried with all their examples everywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

_LEAST = 10


def examples(count: int) -> int:
    """So many, or the quarter of them that a change is judged by."""
    return count if os.environ.get("THOROUGH") else max(_LEAST, count // 4)


def worlds(count: int) -> list[ParameterSet]:
    """The numbers below it, for a parameter: the first third, and in the long form the others."""
    short = -(-count // 3)
    return [
        pytest.param(number, marks=() if number < short else pytest.mark.long)
        for number in range(count)
    ]
