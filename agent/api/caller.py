"""Who sends a request: the process at the other end of the unix socket, or an address.

Of a session it is whoever asked for it, at the address from which it is used.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.users import user_name_off_loop
from agent.wire.peer import peer_of

if TYPE_CHECKING:
    from aiohttp import web

    from agent.service.sessions import Session


@dataclass(frozen=True, slots=True)
class Caller:
    """For the log. The pid is that of the moment the connection was made."""

    address: str = ""
    """Over TCP."""
    uid: int | None = None
    pid: int | None = None
    user: str = ""
    session: str = ""
    """Its id."""

    def with_session(self, session: Session) -> Caller:
        """The same, bearing that session."""
        asker = session.asker
        return replace(self, session=session.id, user=asker.user, uid=asker.uid)

    def fields(self) -> dict[str, str | int]:
        """What of it is known, for a log line."""
        fields: dict[str, str | int] = {}
        if self.address:
            fields["address"] = self.address
        if self.session:
            fields["session"] = self.session
        if self.uid is not None:
            fields |= {"user": self.user or "?", "uid": self.uid}
        if self.pid is not None:
            fields["pid"] = self.pid
        return fields

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
