"""The running agent's API over its unix socket: the commands and the doctor ask it."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from agent.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    import aiohttp


def typed(value: Any, errors: str = "replace") -> Any:
    """Texts of the command line, whose bytes are UTF-8 whatever the locale makes of them.

    Args:
        value: a text, or what holds some.
        errors: what becomes of bytes that are none; `surrogateescape` leaves them.
    """
    match value:
        case str():
            return value.encode(errors="surrogateescape").decode(errors=errors)
        case dict():
            return {typed(key, errors): typed(each, errors) for key, each in value.items()}
        case list() | tuple():
            return [typed(each, errors) for each in value]
    return value


class Event(NamedTuple):
    """One message of `/v1/events`."""

    kind: str
    data: Any
    """A row, by the kind: see `agent.service.events`."""
    id: str
    """Where to go on after it."""


class ControlSocket:
    """Asks the agent that listens at that path; use as an async context manager.

    Args:
        path: of its socket.
        limit: seconds to wait for an answer.
        unreachable: what to say where it gives none; None: it ended the connection in its course.
    """

    def __init__(
        self, path: Path, limit: float, unreachable: Callable[[Path, Exception | None], str]
    ) -> None:
        import aiohttp  # noqa: PLC0415 - 100 ms that commands without an agent need not pay

        self._aiohttp = aiohttp
        self._path = path
        self._limit = limit
        self._unreachable = unreachable
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = self._aiohttp.ClientSession(
            "http://localhost",
            connector=self._aiohttp.UnixConnector(path=str(self._path)),
            timeout=self._aiohttp.ClientTimeout(total=self._limit),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None, "used as a context manager"
        return self._session

    def _failed(self, error: Exception | None = None) -> ApiError:
        return ApiError(self._unreachable(self._path, error), "unreachable")

    def _refusal(self, status: int, answer: Any) -> ApiError:
        """In the agent's words; what answers otherwise is no agent."""
        error = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(error, dict) or not error.keys() >= {"message", "code"}:
            return self._failed(ValueError(f"what answers is no agent: HTTP {status}"))
        return ApiError(str(error["message"]), str(error["code"]))

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        *,
        patience: float = 0.0,
    ) -> Any:
        """The answer's JSON, which the agent may take `patience` seconds longer for.

        Raises:
            ApiError: no agent answers (code `unreachable`), or it refuses.
        """
        limit = self._aiohttp.ClientTimeout(total=self._limit + patience)
        try:
            async with self._http.request(
                method, path, json=typed(body), params=typed(query), timeout=limit
            ) as response:
                answer, status = await response.json(), response.status
        except (OSError, self._aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._failed(error) from None
        if status >= HTTPStatus.BAD_REQUEST:
            raise self._refusal(status, answer)
        return answer

    async def text(self, path: str) -> str:
        """An answer that is no JSON.

        Raises:
            ApiError: no agent answers, or not so (code `unreachable`).
        """
        try:
            async with self._http.get(path) as response:
                response.raise_for_status()
                return await response.text()
        except (OSError, self._aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._failed(error) from None

    async def lines(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        patience: float = 0.0,
    ) -> AsyncGenerator[Any]:
        """The JSON lines of an answer that goes on; the connection ends with the generator.

        The answer has a limit to begin. Its lines have none: the kernel tells when the agent ends,
        and one that stands still must not be left, for our end of the connection means something.

        Args:
            method: of the request.
            path: of the request.
            body: JSON.
            patience: seconds that it may take longer to begin than other answers.

        Raises:
            ApiError: no agent answers (code `unreachable`), it refuses, or it went away.
        """
        # No limit around a yield: it would cancel the task that read the first line.
        limit = self._aiohttp.ClientTimeout(total=None)
        try:
            async with asyncio.timeout(self._limit + patience):
                answer = await self._http.request(method, path, json=typed(body), timeout=limit)
            async with answer:
                if not answer.ok:
                    async with asyncio.timeout(self._limit):
                        refusal = self._refusal(answer.status, await answer.json())
                    raise refusal
                while line := await answer.content.readline():
                    yield json.loads(line)
        except (OSError, self._aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._failed(error) from None
        raise self._failed()

    async def events(
        self, query: Sequence[tuple[str, str]], last_id: str, silence: float
    ) -> AsyncGenerator[Event]:
        """What happens (`/v1/events`), for as long as the agent is there.

        Args:
            query: its filters.
            last_id: go on after the message with that id.
            silence: seconds without a word after which the agent counts as gone.

        Raises:
            ApiError: no agent answers (code `unreachable`), it refuses, or it went away.
        """
        limit = self._aiohttp.ClientTimeout(total=None, sock_read=silence)
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            async with asyncio.timeout(self._limit):
                answer = await self._http.get(
                    "/v1/events", params=typed(list(query)), headers=headers, timeout=limit
                )
            async with answer:
                if not answer.ok:
                    async with asyncio.timeout(self._limit):
                        refusal = self._refusal(answer.status, await answer.json())
                    raise refusal
                kind, data = "", b""
                while line := await answer.content.readline():
                    field, _, value = line.rstrip(b"\n").partition(b": ")
                    if field == b"id":
                        last_id = value.decode()
                    elif field == b"event":
                        kind = value.decode()
                    elif field == b"data":
                        data += value
                    elif not field and data:
                        yield Event(kind, json.loads(data), last_id)
                        data = b""
        except (OSError, self._aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._failed(error) from None
        raise self._failed()
