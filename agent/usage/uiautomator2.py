"""UiAutomator2 servers on Android phones, behind the adb forwards that Appium makes for them.

The server listens on the phone's port 6790 (appium-uiautomator2-driver, `DEVICE_PORT`); the driver
forwards a port of the host to it. `GET /sessions` answers `{"value": [{"id", "capabilities"}]}`.
A forward alone proves nothing: it outlives crashes, and farms keep them for good. One that leads
nowhere takes the connection and closes it without an answer.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent.address import bracketed
from agent.config import UsageServer
from agent.config.secret import PrivateUrl
from agent.errors import AgentError
from agent.model import Platform
from agent.usage.base import Target, UsageUnknownError
from agent.usage.capabilities import short
from agent.usage.http import JsonClient, NoAnswerError
from agent.wire.adb import AdbClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.usage.base import Phone

FORWARDS_LIMIT = 2.0
"""Seconds for the adb server's list; a working one answers in milliseconds."""
REMOTE = "tcp:6790"
PATHS = ("/sessions", "/wd/hub/sessions")
"""Older servers have the second one only."""


class Uiautomator2Source:
    """See `base.UsageSource`.

    Args:
        server: the adb server's address; the local ends of its forwards are on its host.
        find: the UDID of the device that adb calls so; None: none of ours, or more than one.
    """

    name = "uiautomator2"

    def __init__(
        self,
        server: str,
        find: Callable[[str], str | None],
    ) -> None:
        self._adb = AdbClient(server)
        self._find = find
        self._host = bracketed(self._adb.host or "127.0.0.1")
        self._client = JsonClient()

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """Every forward to a UiAutomator2 server of a phone that adb can reach."""
        ready = {
            phone.udid: phone.address
            for phone in phones
            if phone.platform is Platform.ANDROID and phone.ready
        }
        if not ready:
            return []
        try:
            async with asyncio.timeout(FORWARDS_LIMIT):
                forwards = await self._adb.forwards()
        except (OSError, AgentError) as error:  # TimeoutError is an OSError
            why = str(error) or "it does not answer"
            raise UsageUnknownError(f"the adb server does not list its forwards: {why}") from None
        return [
            Target(f"forward {each.local} of {each.serial}", udid, each.local.removeprefix("tcp:"))
            for each in forwards
            if each.remote == REMOTE and each.local.startswith("tcp:")
            if (udid := self._find(each.serial)) in ready
            # Of two phones with one serial (`serial#id`) a forward does not tell which it is.
            and not ready[udid].startswith(f"{each.serial}#")
        ]

    async def read(self, target: Target) -> Mapping[str, str]:
        """The phone, if its server has a session."""
        server = UsageServer(url=PrivateUrl(f"http://{self._host}:{target.address}"))
        for path in PATHS:
            try:
                status, answer = await self._client.get(server, path)
            except NoAnswerError:
                return {}
            except UsageUnknownError as error:
                raise UsageUnknownError(f"{target.key}: {error}") from None
            value = answer.get("value") if isinstance(answer, dict) else None
            if status == HTTPStatus.OK and isinstance(value, list):
                ids = [each.get("id") for each in value if isinstance(each, dict)]
                sessions = [short(id_) for id_ in ids if id_]
                return {target.udid: f"uiautomator2 session {sessions[0]}"} if sessions else {}
        raise UsageUnknownError(
            f"{target.key}: what answers there is no UiAutomator2 server (HTTP {status})"
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
