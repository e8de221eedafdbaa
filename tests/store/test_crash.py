"""SIGKILL and power cuts: what was reported as durable is there afterwards, in order."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.model import CallbackState
from agent.store.files import STATE_NAME
from tests.kit.store import open_store
from tests.store.samples import callback, device, put, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("crash_child.py")


@contextmanager
def _nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(15) == 0


def _kill_one(nursery: subprocess.Popen[str], directory: Path, lines: int) -> set[str]:
    """Let a recorder report that many lines, kill it; all it reported until its end."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{directory}\n")
    nursery.stdin.flush()
    pid = int(nursery.stdout.readline().split()[1])
    said = {nursery.stdout.readline().strip() for _ in range(lines)}
    os.kill(pid, signal.SIGKILL)
    while (line := nursery.stdout.readline().strip()) != "dead":
        said.add(line)
    return said


async def check(directory: Path, said: set[str]) -> None:
    """Everything that a recorder said is there, nothing was salvaged, and in order."""
    store = open_store(directory)
    assert store.health.recovered_from == ""
    table = await rows(store)
    for line in said:
        kind, name = line.split()
        assert name in table, f"{line}: reported as durable, but lost"
        if kind == "D":
            assert table[name].state is CallbackState.DELIVERED
            assert len(await store.attempts.of(name)) == 1
    # In the order in which each caller made them.
    turns: dict[str, list[int]] = defaultdict(list)
    for row in reversed(table.values()):
        caller, _, turn = row.callback.message_id.rpartition("-")
        turns[caller].append(int(turn))
    assert all(seen == list(range(1, len(seen) + 1)) for seen in turns.values())
    await store.close()


async def _kills(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    said: set[str] = set()
    with _nursery() as nursery:
        for number in range(kills):
            # A few kills to one directory: crash upon crash.
            directory = tmp_path / str(number // 5)
            if number % 5 == 0:
                said.clear()
            said |= _kill_one(nursery, directory, rng.randrange(1, 120))
            await check(directory, said)


async def test_nothing_reported_is_lost_by_kills(tmp_path: Path) -> None:
    await _kills(tmp_path, 30)


@pytest.mark.long
async def test_nothing_reported_is_lost_by_many_kills(tmp_path: Path) -> None:
    await _kills(tmp_path, 300)


async def test_a_kill_while_the_store_is_made(tmp_path: Path) -> None:
    with _nursery() as nursery:
        for number in range(10):
            _kill_one(nursery, tmp_path / str(number), 0)
            store = open_store(tmp_path / str(number))
            assert store.health.recovered_from == ""
            await store.close()


async def test_a_log_cut_behind_the_last_durable_record(tmp_path: Path) -> None:
    """A power cut: of what was written after the last fsync any part may be missing or garbage."""
    live, cut = tmp_path / "live", tmp_path / "cut"
    rng = random.Random(7)
    store = open_store(live)
    reported: list[str] = []
    tried = 0
    for number in range(6):
        reported.append((await put(store, f"m{number}")).message_id)
        durable = (live / f"{STATE_NAME}-wal").stat().st_size
        later = await store.record(
            device(), None, [callback(f"later-{number}-{part}") for part in range(20)]
        )
        file = (live / STATE_NAME).read_bytes()
        log = (live / f"{STATE_NAME}-wal").read_bytes()
        assert len(log) > durable
        tails = [log[durable : rng.randrange(durable, len(log) + 1)] for _ in range(4)]
        flipped = bytearray(log[durable:])
        flipped[rng.randrange(len(flipped))] ^= 0xFF
        tails += [b"", log[durable:-1], bytes(flipped), rng.randbytes(5_000), bytes(5_000)]
        for tail in tails:
            shutil.rmtree(cut, ignore_errors=True)
            cut.mkdir()
            (cut / STATE_NAME).write_bytes(file)
            (cut / f"{STATE_NAME}-wal").write_bytes(log[:durable] + tail)
            torn = open_store(cut)
            assert torn.health.recovered_from == ""
            table = await rows(torn)
            assert set(reported) <= set(table)
            # The batch behind it is there as a whole or not at all.
            assert sum(each.message_id in table for each in later) in (0, 20)
            await put(torn, "goes on")
            await torn.close()
            tried += 1
        reported += [each.message_id for each in later]
    assert tried == 54
    await store.close()
