"""Who is at the other end: which process (SO_PEERCRED, unix(7)), and is it on this host?"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from agent.address import tcp_of
from agent.wire.dial import dial_unix

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
    with await dial_unix(str(path)) as probe:
        return peer_of(probe)


def is_on_this_host(server: str) -> bool:
    """Whether `HOST:PORT`, or the absolute path of a socket, is on this host.

    A forwarded port looks as if it was.
    """
    tcp = tcp_of(server)
    if tcp is None:
        return True
    host = tcp[0].casefold()
    if host in {"localhost", "ip6-localhost", socket.gethostname().casefold()}:
        return True
    return host.endswith((".localhost", ".localdomain")) or _is_own_address(host)


def _is_own_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # a name: nobody is asked for its address
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # only an address of this host's own can be bound
    except OSError:
        return False
    return True
