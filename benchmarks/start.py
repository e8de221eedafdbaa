"""From exec to READY=1, with an empty store and with a million pending callbacks in it.

Runs of the four cases take turns, and are of processes as systemd starts them; the files are in the
page cache. The pending callbacks are of 200 devices and for a webhook whose endpoint refuses.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.model import CallbackState
from agent.store.files import STATE_NAME, open_existing
from benchmarks.processes import ENVIRON, Agent, helper
from benchmarks.report import Figure, median_spread, rss_mb, table
from benchmarks.sample import WEBHOOK_ID, make_changes, make_webhook, webhook_toml
from tests.fakes.ports import free_port
from tests.kit.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.sample import Change

TARGET = 0.5
ROWS = 1_000_000
DEVICES = 200
REFUSING = "http://127.0.0.1:9/hook"
SETTLE = 5.0
"""Seconds after READY at which memory is looked at."""


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    rows = ROWS // 100 if quick else ROWS
    await _fill(directory / "full" / "state", rows)
    seconds: dict[tuple[str, str], list[float]] = {}
    memory: dict[str, list[float]] = {}
    async with helper("benchmarks.phones", "1") as adb:
        servers = {"adb up": adb.port, "adb refused": free_port()}
        for number in range(4 if quick else 12):
            for store in ("empty", "full"):
                for server, port in servers.items():
                    place = directory / (store if store == "full" else f"{store}{number}{port}")
                    agent = Agent(place, _config(directory, port), command())
                    async with agent:
                        seconds.setdefault((store, server), []).append(agent.start_seconds)
                        if number < 3 and server == "adb up":
                            await asyncio.sleep(SETTLE)
                            memory.setdefault(store, []).append(rss_mb(agent.pid))
    names = {"empty": "empty store", "full": f"{rows} rows"}
    figures = []
    for (store, server), times in seconds.items():
        middle, spread = median_spread(times, ".3f")
        figures.append(
            Figure(
                f"exec -> READY, {names[store]}, {server}",
                f"{middle:.3f} s",
                f"{spread} of {len(times)}",
                f"<= {TARGET:g} s",
                middle <= TARGET,
            )
        )
    for store, sizes in memory.items():
        middle, spread = median_spread(sizes, ".1f")
        figures.append(
            Figure(f"RSS after {SETTLE:g} s, {names[store]}", f"{middle:.1f} MB", spread)
        )
    print(table([("imports of `run`", "s"), ("", f"{await _imports():.3f}")]))
    return figures


def command() -> list[str]:
    """The command line of the venv that runs this."""
    return [str(Path(sys.executable).parent / "device-agent")]


def _config(directory: Path, adb_port: int) -> str:
    """All sources on, as by default; no usbmuxd, and no adb server started by the agent."""
    return (
        f'[android]\nadb_server = "127.0.0.1:{adb_port}"\nstart_server = false\n'
        f'[ios]\nusbmuxd = "{directory}/none"\n' + webhook_toml(REFUSING)
    )


async def _imports() -> float:
    """Seconds for Python to start and import what `run` needs; the median of 5."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import agent.cli.run", env=ENVIRON
        )
        await process.wait()
        times.append(time.perf_counter() - began)
    return median_spread(times)[0]


async def _fill(directory: Path, rows: int) -> None:
    """A store with that many pending callbacks: the schema by the store, the rows by plain SQL."""
    began = time.perf_counter()
    store = open_store(directory)
    changes = make_changes(DEVICES, DEVICES, make_webhook(REFUSING))
    for record, transition, _ in changes:
        await store.record(record, transition, ())
    await store.webhooks.ids([(1, "Webhook for All events", WEBHOOK_ID)])
    await store.close()
    conn = open_existing(directory / STATE_NAME)
    conn.execute("BEGIN")
    conn.executemany(
        "INSERT INTO callbacks (message_id, webhook_id, udid, created_ms, body, headers,"
        " device_state, attempts, due_ms, state) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?)",
        _rows(changes, rows),
    )
    conn.execute("COMMIT")
    conn.close()
    size = (directory / STATE_NAME).stat().st_size / 1e6
    print(f"   {rows} rows, {size:.0f} MB, made in {time.perf_counter() - began:.0f} s")


def _rows(changes: list[Change], rows: int) -> Iterator[tuple[object, ...]]:
    for number in range(rows):
        callback = changes[number % DEVICES][2]
        assert callback.state is not None
        yield (
            f"msg_{number:024}",
            WEBHOOK_ID,
            callback.udid,
            callback.created_ms,
            callback.body,
            json.dumps(callback.headers),
            callback.state.value,
            CallbackState.PENDING.value,
        )
