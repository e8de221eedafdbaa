"""What usage sources ask of the bridges: a port of an iPhone, the forwards of an adb server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.wire.adb import AdbClient, parse_forwards
from agent.wire.usbmux import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

FORWARDS_LIMIT = 2.0
"""Seconds; a working server answers in milliseconds."""


async def connect_iphone(
    usbmuxd: str, device_id: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """See `wire.usbmux.connect`."""
    return await connect(usbmuxd, int(device_id), port)


async def adb_forwards(server: str) -> Iterable[tuple[str, str, str]]:
    """(serial, local, remote) of all phones' forwards. Raises AdbError, OSError, TimeoutError."""
    async with asyncio.timeout(FORWARDS_LIMIT):
        text = await AdbClient(server).listing("host:list-forward")
    return [(each.serial, each.local, each.remote) for each in parse_forwards(text)]


def adb_host(server: str) -> str:
    """Where the local ends of its forwards listen."""
    return AdbClient(server).host or "127.0.0.1"
