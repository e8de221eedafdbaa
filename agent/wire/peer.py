"""Who is at the other end of a unix socket, as the kernel says (SO_PEERCRED, unix(7))."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket
    from pathlib import Path

_UCRED = struct.Struct("iII")
"""`struct ucred`: pid, uid, gid."""


class Peer(NamedTuple):
    """The process, as of the moment in which the connection was made, or began to be listened for.

    A pid may be another process's by now.
    """

    pid: int
    uid: int


def peer_of(sock: socket.socket | TransportSocket) -> Peer:
    """Of a connected unix socket."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return Peer(pid, uid)


async def listener_at(path: Path) -> Peer:
    """Who listens at that path; nothing is said to it. The caller limits the time.

    Raises:
        OSError: nobody does, or the socket may not be used.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        await asyncio.get_running_loop().sock_connect(probe, str(path))
        return peer_of(probe)
