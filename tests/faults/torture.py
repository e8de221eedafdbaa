"""`python -m tests.faults.torture`: thousands of SIGKILLs and power cuts, and what they cost.

`make torture` runs it: 10,000 agents are killed at random moments, in four worlds side by side,
while receivers fail at random; and the power of a store at work is cut 1,000 times, at any of its
system calls, with any part of what was not synced on the disk. Whatever is lost, overtaken or
altered ends it with an error: the figures that it prints are of a run in which nothing was.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

from tests.faults.killing import kill_agents
from tests.store.cutting import cut_power

WORLDS = 4
LINES = 4_000
"""Outcomes that the store reports before its power is cut at random moments of that time."""


async def kill(kills: int, lives: float, seed: int) -> str:
    """Kill that many agents; what came of it."""
    began = time.monotonic()
    each = -(-kills // WORLDS)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(kill_agents(random.Random(seed + number), each, lives))
            for number in range(WORLDS)
        ]
    came = [task.result() for task in tasks]
    callbacks, repeated = (sum(column) for column in zip(*came, strict=True))
    return (
        f"{each * WORLDS:,} SIGKILLs: {callbacks:,} callbacks, 0 lost, 0 out of order, 0 altered, "
        f"{repeated:,} repeated with their ids, in {time.monotonic() - began:.0f} s"
    )


async def cut(cuts: int, seed: int) -> str:
    """Cut the power that many times; what came of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="device-agent-torture-") as name:
        torn = await cut_power(Path(name), LINES, cuts, random.Random(seed))
    return (
        f"{cuts:,} power cuts, {torn:,} of them with something unsynced on the disk: 0 lost of "
        f"what was reported as durable, 0 stores damaged, in {time.monotonic() - began:.0f} s"
    )


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--lives", type=float, default=1.0, help="seconds of an agent, at most")
    parser.add_argument("--cuts", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    if arguments.cuts:
        print(asyncio.run(cut(arguments.cuts, arguments.seed)), flush=True)
    if arguments.kills:
        print(asyncio.run(kill(arguments.kills, arguments.lives, arguments.seed)), flush=True)


if __name__ == "__main__":
    main()
