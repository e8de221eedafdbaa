"""GET of JSON from a server that an operator named: bounded, and every failure in their words."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from agent import __version__
from agent.resolver import ThreadResolver
from agent.usage.base import READ_LIMIT, UsageUnknownError

if TYPE_CHECKING:
    from agent.config import UsageServer

LIMIT = READ_LIMIT * 0.9
"""Seconds for an answer: shorter than the poller's, so that these words are the ones shown."""
MAX_ANSWER = 4 << 20
"""Bytes; a Grid of a hundred nodes answers with some 500 KB."""


class NoAnswerError(UsageUnknownError):
    """It took the connection and closed it without a byte of an answer."""


def shown(server: UsageServer) -> str:
    """The server's URL without userinfo and query, which may be secret."""
    return str(URL(server.url).with_user(None).with_query(None).with_fragment(None)).rstrip("/")


class JsonClient:
    """One session for any number of servers; made and closed on the event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, server: UsageServer, path: str) -> tuple[int, Any]:
        """The status and the JSON of `{server}{path}`; None where the answer is no JSON.

        Raises:
            UsageUnknownError: no whole answer came within LIMIT.
        """
        where = shown(server)
        try:
            async with asyncio.timeout(LIMIT):
                return await self._get(server, path)
        except TimeoutError:
            why = f"does not answer within {LIMIT:g} s"
        except aiohttp.ClientConnectorCertificateError as error:
            cause = error.certificate_error
            why = f"shows a certificate that is refused: {getattr(cause, 'verify_message', '')}"
        except aiohttp.ClientConnectorDNSError as error:
            why = f"has a host that cannot be resolved: {error.os_error.strerror}"
        except aiohttp.ClientConnectorError as error:
            why = f"cannot be reached: {error.os_error.strerror}: does it run?"
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            raise NoAnswerError(f"{where} closed the connection without an answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = f"does not answer in HTTP ({type(error).__name__})"  # its text quotes the URL
        raise UsageUnknownError(f"{where} {why}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _get(self, server: UsageServer, path: str) -> tuple[int, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=ThreadResolver()),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"device-agent/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        url = URL(server.url)
        headers = {}
        if server.auth is not None:
            if server.auth.type == "basic":
                value = aiohttp.encode_basic_auth(server.auth.username, server.auth.password.read())
            else:
                value = f"Bearer {server.auth.token.read()}"
            headers["Authorization"] = value
        elif url.user or url.password:
            headers["Authorization"] = aiohttp.encode_basic_auth(url.user or "", url.password or "")
        base = url.with_user(None).with_query(None).with_fragment(None)
        ask = base.with_path(base.path.rstrip("/") + path)
        async with self._session.get(ask, headers=headers, allow_redirects=False) as answer:
            data = bytearray()
            async for chunk in answer.content.iter_any():
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise UsageUnknownError(
                        f"{shown(server)} answers with more than {MAX_ANSWER >> 20} MB"
                    )
            try:
                return answer.status, json.loads(data.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                return answer.status, None
