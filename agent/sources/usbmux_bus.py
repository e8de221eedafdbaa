"""How many iPhones hang on this host's USB, asked of the kernel: usbmuxd may not be there to say.

Only attributes that the kernel answers from memory are read (a device that hangs does not hang
these), and no library is needed.
"""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path

from agent.model import UsbKind
from agent.sources.usb_kind import APPLE, classify
from agent.wire.usb_sysfs import DEVICES, SYSFS, ids

BUS = Path(SYSFS) / DEVICES
LOOK = 5.0
"""Seconds for which an answer stands: a usbmuxd that is not running is looked for every second."""
LOOK_LIMIT = 1.0


class Bus:
    """The USB devices below `root`, which need not exist."""

    def __init__(self, root: Path = BUS) -> None:
        self._root = root
        self._asked = -math.inf
        self._count = 0

    async def iphones(self) -> int:
        """In normal mode, as usbmuxd takes them; 0 where that cannot be told."""
        now = asyncio.get_running_loop().time()
        if now - self._asked >= LOOK:
            self._asked = now
            try:
                async with asyncio.timeout(LOOK_LIMIT):
                    self._count = await asyncio.to_thread(_count, self._root)
            except TimeoutError:
                self._count = 0
        return self._count


def _count(root: Path) -> int:
    try:
        with os.scandir(root) as entries:
            # Interfaces have a colon, root hubs are named after their bus.
            ports = [e.path for e in entries if ":" not in e.name and not e.name.startswith("usb")]
    except OSError:
        return 0
    return sum(_is_iphone(port) for port in ports)


def _is_iphone(port: str) -> bool:
    vendor, product = ids(port)
    return vendor == APPLE and classify(APPLE, product, 0, (), is_mtp=False) is UsbKind.APPLE
