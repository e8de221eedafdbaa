"""What this host is called in the fleet."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config.model import Fleet


def host_of(fleet: Fleet) -> str:
    """As configured, else the host's own name up to its first dot, fit for a subject."""
    own = socket.gethostname().partition(".")[0]
    return fleet.host or re.sub("[^A-Za-z0-9_-]", "-", own)[:63] or "host"
