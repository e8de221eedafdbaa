"""Looking up host names without holding anything else up.

Never in the loop's default executor: there a few hanging names would use up the threads on which
reloads and scrapes run, and the end of the process would wait for them.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiohttp.abc

from agent.threads import SharedThread, in_thread

_looking: Final[
    WeakKeyDictionary[
        asyncio.AbstractEventLoop, dict[tuple[str, str | int], SharedThread[list[Any]]]
    ]
] = WeakKeyDictionary()


async def addresses(host: str, port: str | int) -> list[Any]:
    """What `getaddrinfo` says of a TCP address. The caller limits the time.

    Those who ask for the same meanwhile share a thread. Raises OSError when there is none.
    """
    known = _looking.setdefault(asyncio.get_running_loop(), {})
    looking = known.setdefault((host, port), SharedThread())
    try:
        return await looking.run(
            partial(_look_up, host, port, type=socket.SOCK_STREAM), f"resolve {host}"
        )
    finally:
        if looking.idle:
            known.pop((host, port), None)


def _look_up(host: str, port: str | int, **more: Any) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, **more)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from None


class ThreadResolver(aiohttp.abc.AbstractResolver):
    """The system's resolver for outgoing HTTP, one short-lived daemon thread per lookup.

    aiohttp asks for one name of one session once at a time and caches the answer, so there are
    never more threads than webhooks.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        """Addresses of a name. Raises OSError when it has none."""
        look_up = partial(
            _look_up, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [
            aiohttp.abc.ResolveResult(
                hostname=host,
                # A link-local IPv6 address without its scope: it is refused anyway.
                host=address[0],
                port=address[1],
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in await in_thread(look_up, f"resolve {host}")
        ]

    async def close(self) -> None:
        """Nothing is kept open."""
