"""Selenium Grid 4 hubs: which slots have a session, and on which device.

`GET /status` answers `{"value": {"ready", "nodes": [{"id", "externalUri", "availability",
"heartbeatPeriod", "slots": [{"stereotype", "session": {"sessionId", "capabilities", …}}]}]}}`, a
session that may be null (Selenium, `GridStatusHandler`, `NodeStatus`). The device is named by the
session's capabilities, else by its slot's stereotype.

What a hub can truthfully say:

- A node that it lists: what is in its slots, whether it is UP, DRAINING or DOWN; Grid itself has
  not given up the sessions of a node that is DOWN.
- A hub that lists no nodes knows of no sessions, and does not say that there are none: it was
  started anew, and its nodes go on with their sessions until they tell it so, within one
  `heartbeatPeriod`. The same holds of one node that had a session and is not listed any more: for
  two of those periods it may come back. Not so one that was DRAINING, which leaves when its last
  session has ended, nor one at whose URI there is another now: a node's sessions end with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.usage.base import Incomplete, Target, UsageUnknownError
from agent.usage.capabilities import device_of, short
from agent.usage.http import JsonClient, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.clock import Clock
    from agent.config import UsageServer
    from agent.usage.base import Phone


HEARTBEAT = 60.0
"""Seconds: `--heartbeat-period` of a node that does not say its own."""


_HOUR_MS = 3_600_000


@dataclass(slots=True)
class _Node:
    """A node that had sessions when it was listed last."""

    uri: str
    ids: frozenset[str]
    """The devices they were on."""
    patience: float
    """Seconds that it may be missing."""
    missing_since: float | None = None


class GridSource:
    """See `base.UsageSource`.

    Args:
        servers: the hubs.
        clock: of the process.
    """

    name = "grid"

    def __init__(self, servers: Sequence[UsageServer], clock: Clock) -> None:
        self._servers = {shown(server): server for server in servers}
        self._client = JsonClient()
        self._clock = clock
        self._had: dict[str, dict[str, _Node]] = {}
        """By the hub, then by the node's id."""

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
        told = {_key(node): node for node in nodes if _tells(node)}
        if not told:
            raise UsageUnknownError(
                f"{target.key} has no nodes yet: was it just started? Its nodes' sessions go on"
            )
        in_use = {key: dict(_in_use(node)) for key, node in told.items()}
        everything = {udid: holder for each in in_use.values() for udid, holder in each.items()}
        missing = self._missing(target.key, told, everything)
        self._had[target.key] = missing | {
            key: _Node(_uri(node), frozenset(in_use[key]), _patience(node))
            for key, node in told.items()
            if in_use[key] and node.get("availability") != "DRAINING"
        }
        if not missing:
            return everything
        names = ", ".join(sorted(node.uri or key for key, node in missing.items()))
        return Incomplete(
            everything, f"{target.key} does not list {names} now, which had a session there"
        )

    def _missing(
        self, hub: str, told: Mapping[str, Any], in_use: Mapping[str, str]
    ) -> dict[str, _Node]:
        """The nodes that had sessions, are not listed, and may come back with them."""
        now = self._clock.monotonic()
        uris = {_uri(node) for node in told.values()} - {""}
        missing = {}
        for key, node in self._had.get(hub, {}).items():
            if key in told or node.uri in uris or node.ids <= in_use.keys():
                continue
            if node.missing_since is None:
                node.missing_since = now
            if now - node.missing_since < node.patience:
                missing[key] = node
        return missing

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _tells(node: object) -> bool:
    """Whether it says of a node what is in its slots."""
    return isinstance(node, dict) and isinstance(node.get("slots"), list)


def _key(node: Mapping[str, Any]) -> str:
    return str(node.get("id") or _uri(node))


def _uri(node: Mapping[str, Any]) -> str:
    uri = node.get("uri") or node.get("externalUri")
    return uri if isinstance(uri, str) else ""


def _patience(node: Mapping[str, Any]) -> float:
    period = node.get("heartbeatPeriod")
    if isinstance(period, int | float) and 0 < period < _HOUR_MS:
        return 2 * period / 1000
    return 2 * HEARTBEAT


def _in_use(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for slot in node["slots"]:
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
