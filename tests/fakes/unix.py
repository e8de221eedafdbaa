"""What a unix socket's file does when its server dies: it stays, in every version of Python."""

from __future__ import annotations

import sys
from typing import Any

KEEP_SOCKET: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""For `asyncio.start_unix_server`, which removes the file from 3.13 on. A killed process cannot."""
