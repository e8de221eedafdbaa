"""A real adb server with fake phones behind it, in a process of its own.

`python -m benchmarks.phones COUNT` prints the adb server's port once all are listed as `device`,
and ends, server included, with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.receiver import until_stdin_ends
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone

LIMIT = 120.0
"""Seconds for all phones to be listed."""


async def serve(count: int) -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory(prefix="bench-adb-") as home:
        async with RealAdbServer(next(iter(BINARIES.values())), Path(home)) as server:
            phones = [FakePhone(device_name=f"Phone {number}") for number in range(count)]
            for phone in phones:
                await server.register(phone)
            async with asyncio.timeout(LIMIT):
                while list((await server.devices()).values()).count("device") < count:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
            print(server.port, flush=True)
            await until_stdin_ends()
            for phone in phones:
                await phone.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
