"""Looking up host names without holding anything else up; shared by all outgoing HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import aiohttp.abc


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
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Any]] = loop.create_future()

        def settle(result: list[Any] | None, error: OSError | None) -> None:
            if found.done():
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(result or [])

        def look_up() -> None:
            result, failure = None, None
            try:
                result = socket.getaddrinfo(
                    host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
            except OSError as error:
                failure = error
            except UnicodeError:
                failure = socket.gaierror(socket.EAI_NONAME, "not a valid host name")
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits any more

        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
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
            for kind, _, proto, _, address in await found
        ]

    async def close(self) -> None:
        """Nothing is kept open."""
