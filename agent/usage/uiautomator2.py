"""UiAutomator2 servers on Android phones, behind the adb forwards that Appium makes for them.

The server listens on the phone's port 6790 (appium-uiautomator2-driver, `DEVICE_PORT`); the driver
forwards a port of the host to it. `GET /sessions` answers `{"value": [{"id", "capabilities"}]}`.
A forward alone proves nothing: it outlives crashes, and farms keep them for good. One that leads
nowhere takes the connection and closes it without an answer.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from agent.config import UsageServer
from agent.errors import AgentError
from agent.model import Platform
from agent.usage.base import Target, UsageUnknownError
from agent.usage.capabilities import short
from agent.usage.http import JsonClient, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from agent.usage.base import Phone

REMOTE = "tcp:6790"
PATHS = ("/sessions", "/wd/hub/sessions")
"""Older servers have the second one only."""


class Uiautomator2Source:
    """See `base.UsageSource`.

    Args:
        forwards: the adb server's, as (serial, local, remote); raises OSError or AgentError.
        host: where the adb server, and so the local ends, are.
        find: the UDID of the device that adb calls so; None: none of ours, or more than one.
    """

    name = "uiautomator2"

    def __init__(
        self,
        forwards: Callable[[], Awaitable[Iterable[tuple[str, str, str]]]],
        host: str,
        find: Callable[[str], str | None] = str,
    ) -> None:
        self._forwards = forwards
        self._find = find
        self._host = f"[{host}]" if ":" in host else host
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
            forwards = await self._forwards()
        except (OSError, AgentError) as error:  # TimeoutError is an OSError
            why = str(error) or "it does not answer"
            raise UsageUnknownError(f"the adb server does not list its forwards: {why}") from None
        return [
            Target(f"forward {local} of {serial}", udid, local.removeprefix("tcp:"))
            for serial, local, remote in forwards
            if remote == REMOTE and local.startswith("tcp:")
            if (udid := self._find(serial)) in ready
            # Of two phones with one serial (`serial#id`) a forward does not tell which it is.
            and not ready[udid].startswith(f"{serial}#")
        ]

    async def read(self, target: Target) -> Mapping[str, str]:
        """The phone, if its server has a session."""
        server = UsageServer(url=f"http://{self._host}:{target.address}")
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
