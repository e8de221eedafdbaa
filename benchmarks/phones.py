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


DUMPSYS = 0.03
"""Seconds that `dumpsys battery` takes on a phone."""
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 2
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 4352
  temperature: 312
  technology: Li-ion
  Charging state: 0
  Charging policy: 0
  Capacity level: 3
"""


def _phone(number: int) -> FakePhone:
    phone = FakePhone(device_name=f"Phone {number}")
    phone.battery, phone.battery_takes = BATTERY.format(level=20 + number % 80), DUMPSYS
    return phone


async def serve(count: int) -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory(prefix="bench-adb-") as home:
        async with RealAdbServer(next(iter(BINARIES.values())), Path(home)) as server:
            phones = [_phone(number) for number in range(count)]
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
