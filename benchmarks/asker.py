"""Asks a running agent over its unix socket, from a process of its own.

`python -m benchmarks.asker SOCKET` prints `0` (helpers print a number when they are up) and then,
for each line of standard input (JSON: `[METHOD, PATH, BODY or null, COUNT]`), sends that request
COUNT times at once and prints a line of JSON: the statuses with how often each came. A request
whose COUNT is negative is sent that many times and left open: nothing but `{}` is printed for it.
It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import aiohttp

LIMIT = 120.0
"""Seconds for one request."""


async def serve(socket: str) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    open_ones: set[asyncio.Task[int]] = set()
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(socket, limit=0),
        timeout=aiohttp.ClientTimeout(LIMIT),
    ) as session:

        async def ask(method: str, path: str, body: object) -> int:
            async with session.request(method, f"http://localhost{path}", json=body) as response:
                await response.read()
                return response.status

        print(0, flush=True)
        while line := await reader.readline():
            method, path, body, count = json.loads(line)
            asked = [loop.create_task(ask(method, path, body)) for _ in range(abs(count))]
            statuses: Counter[int] = Counter()
            if count > 0:
                statuses.update(await asyncio.gather(*asked))
            else:
                open_ones.update(asked)
            print(json.dumps(statuses), flush=True)
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
