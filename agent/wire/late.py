"""Was a limit missed by the other side, or by this process?

After a pause of the process (a stopped VM, the freezer, a starved core) the event loop lets limits
run out before it reads what lies in the sockets: the answer may have been there all along.
"""

from __future__ import annotations

import asyncio

LATE = 1.0
"""Seconds by which a limit may be missed before it was this process that did not run."""


def overslept(until: float) -> bool:
    """Whether a limit that ended at `until` (the loop's time) proves nothing: ask once more."""
    return asyncio.get_running_loop().time() > until + LATE
