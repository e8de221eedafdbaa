"""Forks recorders to be killed: each line on stdin is a directory, each recorder a fork of this.

A recorder reports on stdout, after `pid N`, every message id whose record is durable (`R id`) and
every one whose delivery is (`D id`). When it is dead this process says `dead`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.kit.store import open_store
from tests.store.samples import deliver, put

CALLERS = 20


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def record_for_ever(directory: Path) -> None:
    store = open_store(directory)

    async def caller(number: int) -> None:
        turn = 0
        while True:
            turn += 1
            name = f"{os.getpid()}-{number}-{turn}"
            stored = await put(store, name, 1 + number % 3, f"phone-{number}")
            say(f"R {name}")
            if turn % 3 == 0:
                await deliver(store, stored)
                say(f"D {name}")

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            asyncio.run(record_for_ever(Path(line.strip())))
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
