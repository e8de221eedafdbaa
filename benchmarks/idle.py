"""CPU and memory of the agent with 1,000 idle phones behind a real adb server.

Default settings but for the adb server's address; once more with the probe off. Measured from
/proc, from when all phones are online and have told their names, for at least one probe interval.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.processes import Agent, helper
from benchmarks.report import Figure, cpu_seconds, rss_mb
from benchmarks.start import command

if TYPE_CHECKING:
    from pathlib import Path

PHONES = 1_000
SETTLE = 20.0
"""Seconds for the phones' first answers."""
TARGET = 0.01


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    figures: list[Figure] = []
    async with helper("benchmarks.phones", str(PHONES)) as adb:
        for name, setting in (("probe every 60 s", ""), ("no probe", 'probe_interval = "0s"\n')):
            config = (
                f'[android]\nadb_server = "127.0.0.1:{adb.port}"\n{setting}'
                f'[ios]\nusbmuxd = "{directory}/none"\n'
            )
            async with Agent(directory / setting[:1], config, command()) as agent:
                await agent.until_online(PHONES)
                await asyncio.sleep(SETTLE)
                share, memory = await _measure(agent, 20 if quick else 60)
            figures += [
                Figure(
                    f"CPU of {PHONES} idle phones, {name}",
                    f"{share:.2%} of a core",
                    target=f"< {TARGET:.0%}",
                    reached=share < TARGET,
                ),
                Figure(f"RSS with {PHONES} phones, {name}", f"{memory:.1f} MB"),
            ]
    return figures


async def _measure(agent: Agent, seconds: float) -> tuple[float, float]:
    """Cores used, and MB resident."""
    cpu, began = cpu_seconds(agent.pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(agent.pid) - cpu) / (time.monotonic() - began), rss_mb(agent.pid)
