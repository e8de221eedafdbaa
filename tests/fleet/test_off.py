"""Without [fleet] servers nothing of a fleet is loaded but the uplink's shell."""

from __future__ import annotations

import subprocess
import sys

_LOADED = (
    "import sys, agent.app.app;"
    "print([name for name in ('nats', 'agent.fleet.words') if name in sys.modules])"
)


def test_an_agent_loads_neither_nats_nor_what_hubs_and_agents_say() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
