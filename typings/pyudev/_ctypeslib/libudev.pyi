# The C functions' types, and what turns their results into errors.

from collections.abc import Callable
from typing import Any

SIGNATURES: dict[str, tuple[list[Any], Any]]
ERROR_CHECKERS: dict[str, Callable[..., Any]]
