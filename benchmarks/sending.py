"""What a second process for sending would give.

The agent as it is beside the same agent whose attempts are handed to another process over a
connection, batched by turns of the loop, and sent there by the agent's own client: the least that
such a process could do (no secrets read anew, no reload, no limits of its own, nothing redacted
on the way back). By the rate, for which receiver, sender and agent want a core each, and by the
CPU time of each process per callback, which does not depend on how many there are: the dearer of
the two bounds the rate where there are cores enough.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import TYPE_CHECKING

from agent.deliver.policy import Answer
from benchmarks.processes import Helper, helper
from benchmarks.report import Figure, Others, cpu_seconds, median_spread
from benchmarks.sample import make_changes, make_webhook, quiet
from benchmarks.sending_process import Wire
from benchmarks.throughput import AT_ONCE, COUNT, DEVICES, Round

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config import Webhook
    from agent.model import Callback

WAYS = ("alone", "apart")


class Apart:
    """Hands every attempt to the other process; an `agent.deliver.sender.Sender`."""

    def __init__(self) -> None:
        self._wire = Wire(self._heard)
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._number = 0

    async def open(self, port: int) -> None:
        """Connect with it."""
        await asyncio.get_running_loop().create_connection(lambda: self._wire, "127.0.0.1", port)

    def _heard(self, message: tuple[int, int]) -> None:
        number, status = message
        self._asked.pop(number).set_result(status)

    async def attempt(
        self, webhook: Webhook, callback: Callback, now_ms: int, *, limit: float = 10.0
    ) -> Answer:
        """Have it sent."""
        del webhook, limit
        self._number += 1
        asked = self._asked[self._number] = asyncio.get_running_loop().create_future()
        self._wire.say((self._number, callback.message_id, callback.body, callback.headers))
        return Answer(await asked, started_ms=now_ms, duration_ms=1)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Nothing is kept here."""

    async def close(self) -> None:
        """End the connection."""
        self._wire.close()


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    quiet()
    figures = []
    async with helper("benchmarks.receiver") as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hook"
        async with helper("benchmarks.sending_process", url) as sender:
            for at_once in AT_ONCE:
                place = directory / str(at_once)
                figures += await _compare(place, url, receiver, sender, at_once, quick=quick)
    return figures


async def _compare(
    directory: Path, url: str, receiver: Helper, sender: Helper, at_once: int, *, quick: bool
) -> list[Figure]:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    own: dict[str, list[float]] = {way: [] for way in WAYS}
    theirs: list[float] = []
    cores: list[float] = []
    for number in range(3 if quick else 10):
        with Others(receiver.pid, sender.pid) as others:
            for way in WAYS:
                place = directory / f"{number}-{way}"
                place.mkdir(parents=True)
                changes = make_changes(COUNT, DEVICES, make_webhook(url))
                apart = None
                if way == "apart":
                    apart = Apart()
                    await apart.open(sender.port)
                before = cpu_seconds(sender.pid)
                spent = await Round(place, url, at_once, changes).agent(apart)
                if number:  # the first warms all of it up
                    rates[way].append(COUNT / spent.seconds)
                    own[way].append(spent.cpu / COUNT * 1e6)
                    if apart is not None:
                        theirs.append((cpu_seconds(sender.pid) - before) / COUNT * 1e6)
        cores.append(others.cores)
    print(f"   {at_once} at once: others used {min(cores):.2f} to {max(cores):.2f} cores")
    rate = {way: median_spread(each) for way, each in rates.items()}
    cost = {way: median_spread(each) for way, each in own.items()}
    ratios = [apart / alone for apart, alone in zip(rates["apart"], rates["alone"], strict=True)]
    ratio, spread = median_spread(ratios, ".2f")
    sent, width = median_spread(theirs)
    bound = cost["alone"][0] / max(cost["apart"][0], statistics.median(theirs))
    return [
        *(
            Figure(f"{way}, {at_once} at once", f"{rate[way][0]:.0f} /s", rate[way][1])
            for way in WAYS
        ),
        Figure(f"apart / alone, {at_once} at once", f"{ratio:.2f}", spread),
        *(
            Figure(f"CPU of the agent a callback, {way}", f"{cost[way][0]:.0f} µs", cost[way][1])
            for way in WAYS
        ),
        Figure("CPU of the second process a callback", f"{sent:.0f} µs", width),
        Figure(f"apart / alone with cores enough, {at_once} at once", f"{bound:.2f}, at most"),
    ]
