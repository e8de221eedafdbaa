"""A usbmuxd with one trusted iPhone, in a process of its own; ends with its standard input.

`python -m benchmarks.iphone SOCKET` prints 0 once it listens.
"""

from __future__ import annotations

import asyncio
import sys

from benchmarks.receiver import until_stdin_ends
from tests.fakes.usbmuxd import FakeUsbmuxd


async def serve(path: str) -> None:
    """Serve until standard input ends."""
    async with FakeUsbmuxd(path) as mux:
        mux.attach("00008110-000A1234A1B2C3D4", name="Rack 1")
        print(0, flush=True)
        await until_stdin_ends()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
