"""`python rewrite_child.py FILE`: disables webhook "a" in it."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.config.change import FileChanger, Target
from agent.config.edit import Change
from agent.errors import CannotWriteError

path = Path(sys.argv[1])
try:
    with FileChanger.open(Target.own(path, {"STATE_DIRECTORY": str(path.parent)})) as file:
        file.change(Change("a", None, {"enabled": False}))
except CannotWriteError as error:
    sys.exit(str(error))
