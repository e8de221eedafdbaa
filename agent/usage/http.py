"""GET of JSON from a server that an operator named: bounded, and every failure in their words."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from agent import __version__
from agent.errors import SecretError
from agent.threads import in_thread
from agent.usage.base import READ_LIMIT, UsageUnknownError
from agent.wire.resolver import ThreadResolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import UsageServer
    from agent.config.secret import Secret

LIMIT = READ_LIMIT * 0.9
"""Seconds for an answer: shorter than the poller's, so that these words are the ones shown."""
MAX_ANSWER = 4 << 20
"""Bytes; a Grid of a hundred nodes answers with some 500 KB."""


class NoAnswerError(UsageUnknownError):
    """It took the connection and closed it without a byte of an answer."""


def shown(server: UsageServer) -> str:
    """The server's URL without userinfo and query, which may be secret."""
    return server.url.bare.rstrip("/")


class JsonClient:
    """One session for any number of servers; made and closed on the event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._reading: dict[Secret, asyncio.Future[str]] = {}

    async def get(self, server: UsageServer, path: str) -> tuple[int, Any]:
        """The status and the JSON of `{server}{path}`; None where the answer is no JSON.

        Raises:
            UsageUnknownError: no whole answer came within LIMIT.
        """
        where = shown(server)
        known = False
        try:
            async with asyncio.timeout(LIMIT):
                headers = await self._authorization(server)
                known = True
                return await self._get(server, path, headers)
        except SecretError as error:
            why = f"cannot be asked: {error}"
        except TimeoutError:
            if known:
                why = f"does not answer within {LIMIT:g} s"
            else:
                why = f"cannot be asked: its secret could not be read within {LIMIT:g} s: is the "
                why += "file system hung on which it is?"
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

    async def _authorization(self, server: UsageServer) -> dict[str, str]:
        url, auth = URL(server.url), server.auth
        if auth is None:
            if not url.user and not url.password:
                return {}
            value = aiohttp.encode_basic_auth(url.user or "", url.password or "")
        elif auth.type == "basic":
            password = await self._secret(auth.password)
            value = aiohttp.encode_basic_auth(auth.username, password)
        else:
            value = f"Bearer {await self._secret(auth.token)}"
        return {"Authorization": value}

    async def _secret(self, secret: Secret) -> str:
        """Its value, read off the loop: a file may be on a mount that hangs.

        While one reading hangs there is no second one of it: each would keep a thread.
        """
        reading = self._reading.get(secret)
        if reading is None:
            reading = asyncio.ensure_future(in_thread(secret.read, "secret of a usage server"))
            self._reading[secret] = reading
            reading.add_done_callback(partial(self._was_read, secret))
        return await asyncio.shield(reading)

    def _was_read(self, secret: Secret, reading: asyncio.Future[str]) -> None:
        del self._reading[secret]
        if not reading.cancelled():
            reading.exception()  # told to who waits; where nobody does, it is no bug

    async def close(self) -> None:
        """Close the connections."""
        for reading in list(self._reading.values()):
            reading.cancel()
        if self._session is not None:
            await self._session.close()

    async def _get(
        self, server: UsageServer, path: str, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=ThreadResolver()),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"device-agent/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        base = URL(server.url.bare)
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
