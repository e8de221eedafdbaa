"""WebDriverAgent on attached iPhones: `GET /status` at its port, reached through usbmuxd.

Its answer carries `sessionId` at the top level while a session is open, null else (WebDriverAgent,
`FBSessionCommands.handleGetStatus`, `FBResponsePayload`). Nothing listening means no session by
WebDriverAgent, and nothing more: its sessions end with it, so one that was started anew, and says
null, is right. What lacks that key, is an error, or says that it is not ready, is no answer.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from agent.model import Platform
from agent.usage.base import READ_LIMIT, Target, UsageUnknownError
from agent.usage.capabilities import short
from agent.wire.usbmux import PortClosedError, UsbmuxClient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.usage.base import Phone

LIMIT = READ_LIMIT * 0.9
"""Seconds for an answer."""
MAX_ANSWER = 64 * 1024
"""Bytes; a status takes 600."""


class WdaSource:
    """See `base.UsageSource`.

    Args:
        usbmuxd: its address.
        ports: where WebDriverAgent may listen.
    """

    name = "wda"

    def __init__(self, usbmuxd: str, ports: Sequence[int]) -> None:
        self._usbmux = UsbmuxClient(usbmuxd)
        self._ports = tuple(ports)

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """Every port of every iPhone that is attached and trusted."""
        return [
            Target(f"port {port} of {phone.udid}", phone.udid, f"{port} {phone.address}")
            for phone in phones
            if phone.platform is Platform.IOS and phone.ready
            for port in self._ports
        ]

    async def read(self, target: Target) -> Mapping[str, str]:
        """The phone, if a session is open on it."""
        port, device_id = target.address.split(" ")
        try:
            async with asyncio.timeout(LIMIT):
                answer = await self._status(device_id, int(port))
        except PortClosedError:
            return {}
        except TimeoutError:
            why = f"does not answer within {LIMIT:g} s: is WebDriverAgent stuck there?"
        except OSError as error:
            why = f"cannot be asked: {error}"
        except ValueError:
            why = "is no WebDriverAgent: name its port in usage.wda_ports"
        else:
            if isinstance(answer, dict) and "sessionId" in answer:
                if session := answer["sessionId"]:
                    return {target.udid: f"wda session {short(session)}"}
                value = answer.get("value")
                told = value if isinstance(value, dict) else {}
                if "error" not in told and told.get("ready") is not False:
                    return {}
                why = "is not ready yet: is WebDriverAgent being started?"
            else:
                why = "is no WebDriverAgent: name its port in usage.wda_ports"
        raise UsageUnknownError(f"{target.key} {why}")

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _status(self, device_id: str, port: int) -> object:
        from agent.wire.http_stream import get  # noqa: PLC0415 - memory, where no iPhone is

        reader, writer = await self._usbmux.stream(int(device_id), port)
        try:
            return json.loads(await get(reader, writer, "/status", MAX_ANSWER))
        finally:
            writer.transport.abort()
