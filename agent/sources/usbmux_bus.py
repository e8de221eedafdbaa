"""How many iPhones hang on this host's USB, asked of the kernel: usbmuxd may not be there to say.

Only attributes that the kernel answers from memory are read (a device that hangs does not hang
these), and no library is needed.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from agent.model import UsbKind
from agent.sources.usb_kind import classify

SYSFS = Path("/sys/bus/usb/devices")
LOOK = 5.0
"""Seconds for which an answer stands: a usbmuxd that is not running is looked for every second."""
LOOK_LIMIT = 1.0


class Bus:
    """The USB devices below `root`, which need not exist."""

    def __init__(self, root: Path = SYSFS) -> None:
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
        names = [path for path in root.iterdir() if ":" not in path.name]  # interfaces have one
    except OSError:
        return 0
    return sum(_is_iphone(path) for path in names)


def _is_iphone(path: Path) -> bool:
    try:
        vendor = int((path / "idVendor").read_text(), 16)
        product = int((path / "idProduct").read_text(), 16)
    except (OSError, ValueError):
        return False
    return classify(vendor, product, 0, (), is_mtp=False) is UsbKind.APPLE
