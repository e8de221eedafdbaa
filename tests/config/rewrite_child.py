"""`python rewrite_child.py FILE`: disables webhook "a" in it."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.config.change import FileChanger
from agent.config.edit import Change
from agent.errors import CannotWriteError

try:
    with FileChanger.open(Path(sys.argv[1])) as file:
        file.change(Change("a", None, {"enabled": False}))
except CannotWriteError as error:
    sys.exit(str(error))
