"""Do four bad webhooks of a hundred slow the others down?

The real pipeline (hold times 0), store (on disk, synchronous=FULL), dispatcher and client. 100
webhooks want every transition, 10 transitions a second. *good*: all answer at once. *bad*: one
never answers, one drips a byte a second, one refuses connections, one has no DNS. They turn bad at
a reload when the measuring begins, so their first failures count. The two take turns, each with a
fresh store. What is compared is the time from the observation to the 2xx of the same 96 webhooks.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.clock import LoopClock
from agent.config import parse
from agent.deliver.client import Client
from agent.deliver.dispatcher import Dispatcher
from agent.deliver.policy import Delivered
from agent.model import Bridge, Changed, Snapshot, SourceName
from benchmarks.processes import helper
from benchmarks.report import QUIET, Figure, Others, median_spread, percentile, table
from benchmarks.sample import NO_HOLDS, ONLY_ADB, SECRET, adb_sighting, freeze, quiet
from tests.fakes.ports import free_port
from tests.kit.store import open_store
from tests.kit.tracking import pipeline_of, reconfigure

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config, Webhook
    from agent.deliver.policy import Decision
    from agent.model import Attempt, Callback

WEBHOOKS = 100
BAD = 4
"""The first ones."""
PHONES = 50
PER_SECOND = 10
"""Of 100 callbacks each: a sixth of what one core can send, so nothing queues but a burst."""
TARGET = 1.10


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    quiet()
    freeze()
    count = (5 if quick else 20) * PER_SECOND
    wanted = 3 if quick else 6
    rounds: list[tuple[float, dict[str, list[float]]]] = []
    async with helper("benchmarks.receiver") as receiver:
        for number in range(1 + 2 * wanted):
            with Others(receiver.pid) as others:
                times = {
                    way: await _measure(directory / f"{way}{number}", receiver.port, way, count)
                    for way in ("good", "bad", "again")
                }
            if number:
                rounds.append((others.cores, times))
            if sum(cores <= QUIET for cores, _ in rounds) == wanted:
                break
    chosen = [times for _, times in sorted(rounds, key=lambda pair: pair[0])[:wanted]]
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        rows = [(f"ms, {name}", "median", "spread")]
        for way in ("good", "bad", "again"):
            median, spread = median_spread([percentile(t[way], share) for t in chosen], ".2f")
            rows.append((way, f"{median:.2f}", spread))
        print(table(rows))
    pooled = {
        way: percentile([time for times in chosen for time in times[way]], 0.99)
        for way in ("good", "bad", "again")
    }
    ratio = pooled["bad"] / pooled["good"]
    return [
        Figure(
            "p99 of 96 beside 4 bad ones / beside good ones",
            f"{ratio:.2f}",
            f"rounds {_spread(chosen, 'bad')}",
            f"<= {TARGET:g}",
            ratio <= TARGET,
        ),
        Figure(
            "the same, good ones / good ones: the noise",
            f"{pooled['again'] / pooled['good']:.2f}",
            f"rounds {_spread(chosen, 'again')}",
        ),
    ]


def _spread(rounds: list[dict[str, list[float]]], way: str) -> str:
    """Of the rounds' p99s, each against its own good one."""
    return median_spread(
        [percentile(times[way], 0.99) / percentile(times["good"], 0.99) for times in rounds], ".2f"
    )[1]


def _config(port: int, way: str) -> Config:
    urls = [f"http://127.0.0.1:{port}/hook/{number}" for number in range(WEBHOOKS)]
    if way == "bad":
        urls[:BAD] = [
            f"http://127.0.0.1:{port}/hang",
            f"http://127.0.0.1:{port}/drip",
            f"http://127.0.0.1:{free_port()}/",
            "http://nobody.invalid/",
        ]
    webhooks = "".join(
        f"""
[[webhooks]]
id = {number + 1}
name = "Webhook {number + 1}"
url = "{url}"
events = ["online", "offline"]
secret = "{SECRET}"
"""
        for number, url in enumerate(urls)
    )
    return parse(ONLY_ADB + NO_HOLDS + webhooks, "benchmark.toml")


def _by_id(config: Config) -> dict[int, Webhook]:
    return {webhook.id: webhook for webhook in config.webhooks if webhook.id}


async def _measure(directory: Path, port: int, way: str, count: int) -> list[float]:
    """Milliseconds from the observation to the 2xx of each callback of the good webhooks."""
    loop = asyncio.get_running_loop()
    config = _config(port, "good")
    webhooks = _by_id(config)
    store, client = open_store(directory), Client()
    began: dict[str, float] = {}
    times: list[float] = []
    done = asyncio.Event()
    left = (WEBHOOKS - BAD) * PHONES
    failures = 0

    def answered(callback: Callback, _: Attempt, decision: Decision) -> None:
        nonlocal left, failures
        if callback.webhook_id <= BAD:
            failures += not isinstance(decision, Delivered)
            return
        assert isinstance(decision, Delivered), decision
        if callback.udid in began:
            times.append((time.perf_counter() - began[callback.udid]) * 1000)
        left -= 1
        if not left:
            done.set()

    clock = LoopClock()
    dispatcher = Dispatcher(
        store.callbacks,
        client,
        webhooks=webhooks,
        settings=config.delivery,
        clock=clock,
        on_attempt=answered,
    )
    pipeline = pipeline_of(config, webhooks, [], store, dispatcher.notify, clock)
    try:
        await dispatcher.start()
        first = tuple(adb_sighting(number, Bridge.NOT_READY) for number in range(PHONES))
        pipeline.observe(Snapshot(SourceName.ADB, first))
        async with asyncio.timeout(60):
            await done.wait()  # connections are open now: that is not measured
        left = (WEBHOOKS - BAD) * count
        done.clear()
        config = _config(port, way)
        dispatcher.reconfigure(_by_id(config), config.delivery)
        reconfigure(pipeline, config, _by_id(config))
        start = loop.time()
        for number in range(count):
            await asyncio.sleep(start + number / PER_SECOND - loop.time())
            bridge = Bridge.NOT_READY if (number // PHONES) % 2 else Bridge.READY
            sighting = adb_sighting(number % PHONES, bridge)
            began[sighting.serial] = time.perf_counter()
            pipeline.observe(Changed(sighting))
        async with asyncio.timeout(60):
            await done.wait()
        await pipeline.close()
        if way == "bad" and not failures:
            raise RuntimeError("the bad webhooks did not fail")
    finally:
        await dispatcher.stop(1)
        await client.close()
        await store.close()
    return times
