"""What the store does on a failing disk, run where the disk can be made to fail.

Usage: fault_child.py SCENARIO DIRECTORY. The scenarios named `full_*` expect DIRECTORY to be a
small file system of its own; the others make writing fail by the process's own file size limit.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.errors import StoreError
from agent.model import CallbackState
from agent.store import Store, StoreHealth
from tests.kit.store import open_store
from tests.kit.waiting import eventually
from tests.store.samples import attempt, callback, device, put, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.model import Callback


class SizeLimit:
    """Writes beyond the present size of the files fail with EFBIG."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def strike(self) -> None:
        largest = max(path.stat().st_size for path in self._directory.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 8_192, resource.RLIM_INFINITY))

    def heal(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class FullDisk:
    """The file system is filled by another file."""

    def __init__(self, directory: Path) -> None:
        self._filler = directory / "filler"

    def strike(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                return

    def heal(self) -> None:
        self._filler.unlink()


def big(name: str) -> Callback:
    return dataclasses.replace(callback(name), body=b"x" * 50_000)


class Calls:
    """Changes under way, in the order they were made."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.made: list[asyncio.Future[tuple[Callback, ...]]] = []

    def record(self, count: int) -> None:
        for _ in range(count):
            made = self.store.record(device(), None, [big(f"m{len(self.made):04}")])
            self.made.append(asyncio.ensure_future(made))

    async def until_faulty(self) -> None:
        """A checkpointed log has room of its own: record until it is used up."""
        while self.store.health.ok:
            self.record(1)
            await asyncio.wait({self.made[-1]}, timeout=0.3)
            assert len(self.made) < 2_000

    def waiting(self) -> int:
        return sum(not call.done() for call in self.made)


@contextmanager
def logged(event: str) -> Iterator[Callable[[], int]]:
    with structlog.testing.capture_logs() as entries:
        yield lambda: sum(entry["event"] == event for entry in entries)


async def keeps_and_writes(directory: Path, disk: SizeLimit | FullDisk, *, reopened: bool) -> None:
    told: list[StoreHealth] = []
    store = open_store(directory, on_health=told.append)
    before = await put(store, "before")
    disk.strike()
    calls = Calls(store)
    with logged("store.reopening") as reopenings:
        await calls.until_faulty()
        finishing = asyncio.ensure_future(
            store.callbacks.finish(before, attempt("before"), CallbackState.DELIVERED)
        )
        calls.record(30)
        await eventually(lambda: told[-1].unstored == store.health.unstored, "its being told")
        assert not store.health.ok
        assert str(directory / "state.db") in store.health.error
        assert store.health.unstored == calls.waiting() + 1
        # What is stored can still be asked for.
        assert "before" in await rows(store)
        assert (await store.callbacks.lanes())[0].head.message_id == "before"
        if reopened:
            await eventually(lambda: reopenings() > 0, "a new connection")
            assert "before" in await rows(store)
        assert not finishing.done()
        disk.heal()
        stored = [c for made in await asyncio.gather(*calls.made) for c in made]
        await finishing
    assert [each.rowid for each in stored] == sorted(each.rowid for each in stored)
    await eventually(lambda: told[-1].ok, "health")
    assert told[-1] == store.health == StoreHealth()
    assert not told[0].ok
    await store.close()
    again = open_store(directory)
    table = await rows(again)
    assert table["before"].state is CallbackState.DELIVERED
    in_order = [row.callback.message_id for row in reversed(table.values())]
    assert in_order == ["before", *(f"m{number:04}" for number in range(len(calls.made)))]
    assert again.health == StoreHealth()
    await again.close()


async def is_bounded(directory: Path, disk: SizeLimit | FullDisk) -> None:
    told: list[StoreHealth] = []
    store = open_store(directory, max_unstored=40, on_health=told.append)
    await put(store, "before")
    disk.strike()
    calls = Calls(store)
    with logged("store.change_dropped") as drops:
        await calls.until_faulty()
        calls.record(100)
        results = await asyncio.gather(*(call for call in calls.made[-60:]), return_exceptions=True)
    assert all(isinstance(each, StoreError) for each in results), results
    assert "no more are kept in memory" in str(results[0])
    assert calls.waiting() == 40
    assert store.health.unstored == 40
    dropped = store.health.dropped
    assert dropped >= 60
    assert drops() == 1
    disk.heal()
    kept = [call for call in calls.made if not call.done()]
    await asyncio.gather(*kept)
    await eventually(lambda: told[-1].ok, "health")
    assert told[-1] == StoreHealth(dropped=dropped)
    await put(store, "after")
    await store.close()
    again = open_store(directory)
    assert len(await rows(again)) == len(calls.made) - dropped + 2
    await again.close()


async def closes(directory: Path, disk: SizeLimit | FullDisk) -> None:
    store = open_store(directory)
    await put(store, "before")
    disk.strike()
    calls = Calls(store)
    await calls.until_faulty()
    calls.record(10)
    with logged("store.closed_with_loss") as losses:
        await store.close()
    assert losses() == 1
    results = await asyncio.gather(*calls.made, return_exceptions=True)
    failed = [each for each in results if isinstance(each, BaseException)]
    assert len(failed) >= 10
    assert all(isinstance(each, StoreError) for each in failed)
    disk.heal()
    again = open_store(directory)
    assert len(await rows(again)) == 1 + len(results) - len(failed)
    await again.close()


async def starts_on_full_disk(directory: Path) -> None:
    state, disk = directory / "state", FullDisk(directory)
    await open_store(state).close()
    disk.strike()
    with pytest.raises(StoreError, match=r"No space left|the disk is full"):
        open_store(directory / "fresh")
    store = open_store(state)
    call = asyncio.ensure_future(put(store, "m"))
    await eventually(lambda: not store.health.ok, "the fault")
    assert "disk is full" in store.health.error
    disk.heal()
    await call
    await store.close()


def remount(directory: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", directory], check=True, timeout=15)


async def starts_read_only(directory: Path) -> None:
    store = open_store(directory / "state")
    await put(store, "kept")
    await store.close()
    remount(directory, "ro")
    for place in ("state", "new"):
        with pytest.raises(StoreError, match=rf"[Rr]ead-only.*\(uid {os.geteuid()}"):
            open_store(directory / place)
    remount(directory, "rw")
    again = open_store(directory / "state")
    assert set(await rows(again)) == {"kept"}
    await again.close()


async def recovers_when_there_is_room(directory: Path) -> None:
    """Corruption met on a full disk: nothing is thrown away; once there is room, it is done."""
    state, disk = directory / "state", FullDisk(directory)
    store = open_store(state)
    await put(store, "kept")
    await store.close()
    damaged = bytes(100) + (state / "state.db").read_bytes()[100:]
    (state / "state.db").write_bytes(damaged)
    disk.strike()
    with pytest.raises(StoreError, match=r"No space left|the disk is full"):
        open_store(state)
    assert (state / "state.db").read_bytes() == damaged
    disk.heal()
    again = open_store(state)
    assert again.health.recovered_from
    assert set(await rows(again)) == {"kept"}
    await again.close()
    assert {path.name.partition("-")[0] for path in state.iterdir()} == {
        "lock",
        "state.db",
        "state.db.corrupt",
    }


async def main() -> None:
    directory = Path(sys.argv[2])
    match sys.argv[1]:
        case "limit_keeps":
            await keeps_and_writes(directory, SizeLimit(directory), reopened=True)
        case "limit_bounded":
            await is_bounded(directory, SizeLimit(directory))
        case "limit_closes":
            await closes(directory, SizeLimit(directory))
        case "full_keeps":
            await keeps_and_writes(directory, FullDisk(directory), reopened=False)
        case "full_bounded":
            await is_bounded(directory, FullDisk(directory))
        case "full_closes":
            await closes(directory, FullDisk(directory))
        case "full_start":
            await starts_on_full_disk(directory)
        case "full_recovery":
            await recovers_when_there_is_room(directory)
        case "read_only":
            await starts_read_only(directory)
        case other:
            raise SystemExit(f"no scenario {other}")
    print("done")


if __name__ == "__main__":
    asyncio.run(main())
