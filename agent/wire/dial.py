"""Connections to servers of this host and of others: how, and never for whom."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from typing import Any

from agent.wire.resolver import addresses

QUEUE_PAUSE = 0.02
"""Seconds between tries while the server's queue of connections is full."""


async def dial_tcp(host: str, port: str | int) -> socket.socket:
    """A TCP connection, non-blocking, to the first of the host's addresses that takes one.

    The caller limits the time, and closes it. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    refusal = OSError(f"no address for {host}")
    for family, address in await _places(host, port):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            refusal = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise refusal


async def _places(host: str, port: str | int) -> list[tuple[int, Any]]:
    """Family and address of each; a number is not looked up."""
    family = _family(host)
    if family is None:
        return [(each[0], each[4]) for each in await addresses(host, port)]
    return [(family, (host, int(port)))]


@functools.lru_cache(maxsize=64)
def _family(host: str) -> int | None:
    """Of a number; None: it is a name. A thousand probes a minute ask it of one address."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4


async def dial_unix(path: str) -> socket.socket:
    """A connection to a unix socket, non-blocking. The caller limits the time, and closes it.

    Raises OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            # Not `loop.sock_connect`: a full queue (usbmuxd up to 1.1.1 keeps 5) is EAGAIN
            # here, which asyncio takes for a connection under way and then for a made one.
            try:
                sock.connect(path)
            except BlockingIOError:
                await asyncio.sleep(QUEUE_PAUSE)
            else:
                return sock
    except BaseException:
        sock.close()
        raise
