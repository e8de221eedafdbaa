"""Looking up host names without holding anything else up; shared by all outgoing HTTP."""

from __future__ import annotations

import socket
from typing import Any

import aiohttp.abc

from agent.threads import in_thread


class ThreadResolver(aiohttp.abc.AbstractResolver):
    """The system's resolver, one short-lived daemon thread per lookup.

    In the loop's default executor a few hanging names would use up its threads and hold up every
    other name. aiohttp asks for one name of one session once at a time and caches the answer, so
    there are never more threads than webhooks.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        """Addresses of a name. Raises OSError when it has none."""

        def look_up() -> list[Any]:
            try:
                return socket.getaddrinfo(
                    host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
            except UnicodeError:
                raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from None

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
