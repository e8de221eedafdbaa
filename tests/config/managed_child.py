"""`python managed_child.py FILE NAME`: makes that webhook in the agent's own file beside it."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.config.change import FileChanger, Target
from agent.config.edit import Change
from agent.errors import CannotWriteError

own = Path(sys.argv[1])
fields = {"name": sys.argv[2], "url": "http://n.example/", "events": ["online"]}
try:
    with FileChanger.open(Target.managed(own, own.parent / "state" / "webhooks.toml")) as file:
        file.change(Change(fields=fields))
except CannotWriteError as error:
    sys.exit(str(error))
