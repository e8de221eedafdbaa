"""Selenium Grid 4 hubs: which slots have a session, and on which device.

`GET /status` answers `{"value": {"nodes": [{"availability", "slots": [{"stereotype", "session":
{"sessionId", "capabilities", …} | null}]}]}}` (Selenium, `GridStatusHandler`, `NodeStatus`). The
device is named by the session's capabilities, else by its slot's stereotype. A node that is DOWN is
listed with what it had: its sessions count, for Grid itself has not given them up yet.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.usage.base import Target, UsageUnknownError
from agent.usage.capabilities import device_of, short
from agent.usage.http import JsonClient, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.config import UsageServer
    from agent.usage.base import Phone


class GridSource:
    """See `base.UsageSource`."""

    name = "grid"

    def __init__(self, servers: Sequence[UsageServer]) -> None:
        self._servers = {shown(server): server for server in servers}
        self._client = JsonClient()

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """Every hub."""
        del phones
        return [Target(key) for key in self._servers]

    async def read(self, target: Target) -> Mapping[str, str]:
        """The devices of all sessions."""
        status, answer = await self._client.get(self._servers[target.key], "/status")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise UsageUnknownError(
                f"{target.key} wants other credentials (HTTP {status}): see usage.grid"
            )
        value = answer.get("value") if isinstance(answer, dict) else None
        nodes = value.get("nodes") if isinstance(value, dict) else None
        if not isinstance(nodes, list):
            raise UsageUnknownError(
                f"{target.key} lists no nodes (HTTP {status} to GET /status): "
                f"is it a Selenium Grid 4 hub?"
            )
        return dict(_in_use(nodes))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _in_use(nodes: list[Any]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        slots = node.get("slots") if isinstance(node, dict) else None
        for slot in slots if isinstance(slots, list) else ():
            session = slot.get("session") if isinstance(slot, dict) else None
            if not isinstance(session, dict):
                continue
            udid = (
                device_of(session.get("capabilities"))
                or device_of(session.get("stereotype"))
                or device_of(slot.get("stereotype"))
            )
            if udid:
                yield udid, f"grid session {short(session.get('sessionId'))}"
