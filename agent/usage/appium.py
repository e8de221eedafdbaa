"""Appium 2 and 3 servers: which sessions are open, and on which devices.

`GET /appium/sessions` (Appium 3) answers `{"value": [{"id", "created", "capabilities"}]}` where the
server was started with `--allow-insecure=*:session_discovery`; without it, with an error.
`GET /sessions` is Appium 2's. Which of the two a server knows is found by asking. A session is
listed once it is created, so the minute in which it is being made is not seen. Sessions live in the
server's process and end with it: the empty list of one that was started anew is true.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.usage.base import Target, UsageUnknownError
from agent.usage.capabilities import device_of, short
from agent.usage.http import JsonClient, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.config import UsageServer
    from agent.usage.base import Phone

PATHS = ("/appium/sessions", "/sessions")
ALLOW = "--allow-insecure=*:session_discovery"


class AppiumSource:
    """See `base.UsageSource`."""

    name = "appium"

    def __init__(self, servers: Sequence[UsageServer]) -> None:
        self._servers = {shown(server): server for server in servers}
        self._path: dict[str, str] = {}
        """The path that a server answered last."""
        self._client = JsonClient()

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """Every server."""
        del phones
        return [Target(key) for key in self._servers]

    async def read(self, target: Target) -> Mapping[str, str]:
        """The devices of all its sessions."""
        known = self._path.pop(target.key, None)
        forbidden = False
        last = ""
        for path in dict.fromkeys((known, *PATHS) if known else PATHS):
            status, answer = await self._client.get(self._servers[target.key], path)
            value = answer.get("value") if isinstance(answer, dict) else None
            if status == HTTPStatus.OK and isinstance(value, list):
                self._path[target.key] = path
                return self._in_use(target, value)
            if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise UsageUnknownError(
                    f"{target.key} wants other credentials (HTTP {status}): see usage.appium"
                )
            message = value.get("message", "") if isinstance(value, dict) else ""
            forbidden |= "session_discovery" in str(message)
            last = f"HTTP {status} to GET {path}"
        if forbidden:
            raise UsageUnknownError(
                f"{target.key} does not tell its sessions: start Appium with {ALLOW}"
            )
        raise UsageUnknownError(f"{target.key} lists no sessions ({last}): is it an Appium server?")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _in_use(self, target: Target, sessions: list[Any]) -> dict[str, str]:
        where = f" at {target.key}" if len(self._servers) > 1 else ""
        return {
            udid: f"appium session {short(session.get('id'))}{where}"
            for session in sessions
            if isinstance(session, dict) and (udid := device_of(session.get("capabilities")))
        }
