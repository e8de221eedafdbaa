"""What every device source must do, run over each with its real or wire-level peer.

A source's test module writes a `Lab` and subclasses `SourceConformance`:

    class TestAdbConformance(SourceConformance):
        @pytest.fixture
        async def lab(self, tmp_path): ...yield a Lab...
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.model import Changed, Down, Gone, Snapshot
from tests.fakes.recorder import Recorder
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.sources.base import DeviceSource


class Lab(ABC):
    """A source's peer under the test's control. All waits inside it are bounded."""

    @abstractmethod
    def source(self) -> DeviceSource:
        """A new source that talks to this lab's peer (which may not be there yet)."""

    @abstractmethod
    async def start(self) -> None:
        """Bring the peer up, with the phones it has; also after `kill`."""

    @abstractmethod
    async def add(self, number: int) -> str:
        """Attach phone `number`; returns the serial under which the source will report it."""

    @abstractmethod
    async def remove(self, number: int) -> None:
        """Detach it (possible while the peer is down too)."""

    async def kill(self) -> None:
        """The peer dies, as by SIGKILL. Phones stay attached."""
        pytest.skip("this source's peer cannot die visibly")

    async def garble(self) -> None:
        """The peer sends a malformed message to whoever is connected, then works again."""
        pytest.skip("this source's transport drops malformed messages itself")

    async def hang(self) -> None:
        """From now on the peer accepts and answers nothing, until `kill` and `start`."""
        pytest.skip("this source's peer cannot hang")


@asynccontextmanager
async def watching(lab: Lab, source: DeviceSource | None = None) -> AsyncIterator[Recorder]:
    """A running source and what it emits; it must end promptly when cancelled."""
    recorder = Recorder()
    task = asyncio.create_task((source or lab.source()).run(recorder))
    try:
        yield recorder
    finally:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "a cancelled source must end"
        assert task.cancelled(), task.exception()


def serials(recorder: Recorder) -> set[str]:
    """The serials visible now."""
    return {sighting.serial for sighting in recorder.visible.values()}


class SourceConformance:
    """The suite; subclasses give the `lab` fixture."""

    async def test_first_word_is_a_snapshot_of_what_is_there(self, lab: Lab) -> None:
        await lab.start()
        first, second = await lab.add(1), await lab.add(2)
        async with watching(lab) as recorder:
            # A bridge may list a phone a moment after it was attached.
            await recorder.until(lambda: serials(recorder) == {first, second}, "both phones")
            assert isinstance(recorder.seen[0], Snapshot)

    async def test_nothing_there_is_an_empty_snapshot_not_down(self, lab: Lab) -> None:
        await lab.start()
        async with watching(lab) as recorder:
            assert await recorder.next_after(0) == Snapshot(recorder.seen[0].source, ())

    async def test_edges_follow_the_snapshot(self, lab: Lab) -> None:
        await lab.start()
        async with watching(lab) as recorder:
            await recorder.next_after(0)
            serial = await lab.add(1)
            await recorder.until(lambda: serial in serials(recorder), "the phone")
            appeared = next(o for o in recorder.seen if isinstance(o, Changed))
            await lab.remove(1)
            await recorder.until(lambda: not recorder.visible, "its going")
            gone = recorder.seen[-1]
            assert isinstance(gone, Gone)
            assert gone.address == appeared.sighting.address
            assert recorder.count(Snapshot) == 1
            assert recorder.count(Down) == 0

    async def test_nothing_is_said_twice(self, lab: Lab) -> None:
        await lab.start()
        async with watching(lab) as recorder:
            await recorder.next_after(0)
            for number in range(1, 6):
                serial = await lab.add(number)
                await recorder.until(partial(_sees, recorder, serial), serial)
            edges = [o for o in recorder.seen if isinstance(o, Changed)]
            for earlier, later in pairwise(edges):
                assert earlier != later

    async def test_death_is_down_once_and_never_gone(self, lab: Lab) -> None:
        await lab.start()
        serial = await lab.add(1)
        async with watching(lab) as recorder:
            await recorder.until(lambda: serial in serials(recorder), "the phone")
            await lab.kill()
            await recorder.until(lambda: recorder.count(Down) == 1, "Down")
            assert recorder.count(Gone) == 0
            down = recorder.seen[-1]
            assert isinstance(down, Down)
            assert down.reason

    async def test_after_death_a_snapshot_tells_what_changed_meanwhile(self, lab: Lab) -> None:
        await lab.start()
        left, stayed = await lab.add(1), await lab.add(2)
        async with watching(lab) as recorder:
            await recorder.until(lambda: serials(recorder) == {left, stayed}, "both phones")
            await lab.kill()
            await recorder.until(lambda: recorder.count(Down) > 0, "Down")
            await lab.remove(1)
            came = await lab.add(3)
            await lab.start()
            await recorder.until(lambda: serials(recorder) == {stayed, came}, "the new truth")
            after = recorder.seen[recorder.seen.index(_down(recorder)) + 1 :]
            assert isinstance(after[0], Snapshot)
            assert not any(isinstance(o, Gone) for o in after)

    async def test_no_peer_at_start_is_down_then_a_snapshot_when_it_comes(self, lab: Lab) -> None:
        async with watching(lab) as recorder:
            assert isinstance(await recorder.next_after(0), Down)
            serial = await lab.add(1)
            await lab.start()
            await recorder.until(lambda: serial in serials(recorder), "the phone")
            assert recorder.count(Snapshot) == 1

    async def test_garbage_is_down_then_a_snapshot_and_no_false_edge(self, lab: Lab) -> None:
        await lab.start()
        serial = await lab.add(1)
        async with watching(lab) as recorder:
            await recorder.until(lambda: serial in serials(recorder), "the phone")
            before = len(recorder.seen)
            await lab.garble()
            await recorder.until(
                lambda: any(isinstance(o, Down) for o in recorder.seen[before:]), "Down"
            )
            await recorder.until(lambda: serial in serials(recorder), "the phone again")
            assert {type(o) for o in recorder.seen[before:]} <= {Down, Snapshot, Changed}
            assert serials(recorder) == {serial}

    async def test_a_hanging_peer_is_down_within_the_limit(self, lab: Lab) -> None:
        await lab.start()
        await lab.hang()
        async with watching(lab) as recorder:
            assert isinstance(await recorder.next_after(0), Down)

    async def test_asked_anew_it_has_told_the_truth_and_says_nothing_twice(self, lab: Lab) -> None:
        await lab.start()
        serial = await lab.add(1)
        source = lab.source()
        async with watching(lab, source) as recorder:
            await recorder.until(lambda: serial in serials(recorder), "the phone")
            async with asyncio.timeout(LIMIT):
                await source.recheck()
            assert serials(recorder) == {serial}
            assert recorder.count(Gone) == recorder.count(Down) == 0

    async def test_asked_anew_while_it_is_down_it_returns(self, lab: Lab) -> None:
        source = lab.source()
        async with asyncio.timeout(LIMIT):
            await source.recheck()  # not begun
        async with watching(lab, source) as recorder:
            assert isinstance(await recorder.next_after(0), Down)
            async with asyncio.timeout(LIMIT):
                await source.recheck()
            assert {type(o) for o in recorder.seen} == {Down}

    async def test_cancelling_leaves_no_descriptor_open(self, lab: Lab) -> None:
        await lab.start()
        await lab.add(1)
        async with watching(lab) as warm:
            await warm.next_after(0)
        before = open_descriptors()
        async with watching(lab) as recorder:
            await recorder.next_after(0)
        # A thread that was left alone in the middle of a file closes it when it is through.
        async with asyncio.timeout(LIMIT):
            while open_descriptors() > before:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)


def open_descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def _sees(recorder: Recorder, serial: str) -> bool:
    return serial in serials(recorder)


def _down(recorder: Recorder) -> Down:
    return next(o for o in recorder.seen if isinstance(o, Down))
