"""CPU of one probe of a phone: whether it lives alone, and with its battery.

Over a real adb server; the phones, in a process of their own, print the first line at once and
their batteries 30 ms later, as real ones do. In turns, so that the machine's load is the same.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from agent.sources.adb_battery import parse
from agent.sources.adb_probe import ALIVE, ALIVE_AND_BATTERY, BATTERY_LIMIT
from agent.wire.adb import AdbClient
from agent.wire.adb_lists import parse_long_rows, parse_rows
from benchmarks.processes import helper
from benchmarks.report import Figure

if TYPE_CHECKING:
    from pathlib import Path

WHOLE, ALONE, BOTH = "an echo, read as it comes", "an echo", "an echo and the battery"
"""As it would be without batteries and `hear`; and what the agent does."""
KINDS = (WHOLE, ALONE, BOTH)
PHONES = 200
LIMIT = 30.0
AT_ONCE = 16
"""Begun together, as the agent does: those of a second."""
INTERVAL = 60.0
RACK = 1_000
"""Phones that are probed in each interval."""


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    del directory
    rounds = 4 if quick else 20
    async with helper("benchmarks.phones", str(PHONES)) as adb:
        client = AdbClient(f"127.0.0.1:{adb.port}")
        rows = parse_rows(await client.listing("host:devices"), lambda _: None)
        found = parse_long_rows(await client.listing("host:devices-l"), rows)
        ids = [row.transport_id for each in found.values() for row in each]
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for kind in KINDS * rounds:
            began = time.process_time()
            known = await _probe(client, ids, kind)
            taken[kind].append((time.process_time() - began) / len(ids))
            assert known == (kind == BOTH) * len(ids), "each tells its battery"
    cost = {kind: statistics.median(each) for kind, each in taken.items()}
    more = cost[BOTH] - cost[WHOLE]
    return [
        *(
            Figure(
                f"CPU of a probe: {kind}",
                f"{cost[kind] * 1e6:.0f} µs",
                f"{min(taken[kind]) * 1e6:.0f} to {max(taken[kind]) * 1e6:.0f}",
            )
            for kind in KINDS
        ),
        Figure(
            f"the last over the first, {RACK} phones a minute",
            f"{more * RACK / INTERVAL:+.3%} of a core",
        ),
    ]


async def _probe(client: AdbClient, ids: list[int], kind: str) -> int:
    """All of them; how many told their batteries."""
    known = 0

    async def one(phone: int) -> None:
        nonlocal known
        if kind == WHOLE:
            await client.shell(phone, ALIVE, LIMIT)
            return
        command = ALIVE_AND_BATTERY if kind == BOTH else ALIVE
        heard = await client.hear(phone, command, LIMIT, BATTERY_LIMIT)
        known += parse(heard.text) is not None

    for first in range(0, len(ids), AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for phone in ids[first : first + AT_ONCE]:
                group.create_task(one(phone))
    return known
