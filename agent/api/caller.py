"""Who sends a request: the process at the other end of the unix socket, or an address."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.users import user_name_off_loop
from agent.wire.peer import peer_of

if TYPE_CHECKING:
    from aiohttp import web


@dataclass(frozen=True, slots=True)
class Caller:
    """For the log. The pid is that of the moment the connection was made."""

    address: str = ""
    """Over TCP."""
    uid: int | None = None
    pid: int | None = None
    user: str = ""

    def fields(self) -> dict[str, str | int]:
        """What of it is known, for a log line."""
        if self.uid is None or self.pid is None:
            return {"address": self.address}
        return {"user": self.user or "?", "uid": self.uid, "pid": self.pid}

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.fields().items())


async def caller_of(request: web.Request) -> Caller:
    """Who sends it."""
    transport = request.transport
    if transport is None:
        return Caller("gone")
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        peer = transport.get_extra_info("peername") or ("gone", 0)
        return Caller("{}:{}".format(*peer[:2]))
    pid, uid = peer_of(sock)
    return Caller(uid=uid, pid=pid, user=await user_name_off_loop(uid))
