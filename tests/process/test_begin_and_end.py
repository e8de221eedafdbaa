"""An agent's first and last moments, in this process: what waits, and what comes to nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.app import App
from agent.config import parse
from agent.errors import StartError
from agent.model import SourceName, Usage
from agent.sources.supervisor import SourcePlan
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from agent.config import Config
    from agent.model import Emit
    from agent.sources.supervisor import SourcePlans


class Silent:
    """A source that says nothing; `runs` has those that do."""

    name = SourceName.UDEV

    def __init__(self, runs: set[Silent]) -> None:
        self._runs = runs

    async def run(self, emit: Emit) -> None:
        del emit
        self._runs.add(self)
        try:
            await asyncio.Event().wait()
        finally:
            self._runs.discard(self)

    async def recheck(self) -> None:
        """It has nothing to say."""


class Bench:
    """An agent over one source that is silent, made anew by each reload."""

    def __init__(self, place: Path) -> None:
        self.loads = 0
        self.runs: set[Silent] = set()
        self._place = place
        self.app = App(self._load, self._load(), {}, plans=self._plans)

    def _load(self) -> Config:
        self.loads += 1
        return parse(
            f'[agent]\nstate_dir = "{self._place}"\nstart_limit = "200ms"\n[api]\nlisten = ""\n'
            f'socket = "{self._place}/s"\n[hold]\noffline = "{self.loads}s"\n'
            "[usage]\nwda = false\nuiautomator2 = false\n",
            "agent.toml",
        )

    def _plans(self, config: Config, names: Iterable[SourceName], state_dir: Path) -> SourcePlans:
        del names, state_dir
        return {SourceName.UDEV: SourcePlan(config.hold.offline, lambda: Silent(self.runs))}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.app.run())
        try:
            async with asyncio.timeout(LIMIT):
                yield task
        finally:
            self.app.stop()
            await asyncio.wait({task})


@pytest.mark.parametrize("how", ["a stop", "a start that fails"])
async def test_a_reload_that_waits_for_the_start_does_not_begin_in_its_end(
    place: Path, how: str
) -> None:
    """Its sources would outlive all that they tell."""
    it = Bench(place)
    another_agent = await asyncio.start_unix_server(lambda _, writer: writer.close(), place / "s")
    async with it.running() as task, another_agent:
        await asyncio.sleep(0)  # not for time: it begins to start
        reload = asyncio.create_task(it.app.reload("signal"))
        await asyncio.sleep(0)  # not for time: it waits for its turn
        if how == "a stop":
            it.app.stop()
        with pytest.raises(StartError, match=r"the agent (is stopping|was stopped before)"):
            await reload
        await asyncio.wait({task})
        assert it.loads == 1
        assert it.runs == set()
        if how != "a stop":
            with pytest.raises(StartError, match="another"):
                task.result()


async def test_a_start_whose_time_is_up_doubts_what_it_assumed_no_longer_than_it_must(
    place: Path,
) -> None:
    """Else a device in use that takes the name would be unknown, and in time online."""
    it = Bench(place)
    async with it.running():
        while not it.runs:  # noqa: ASYNC110 - its last step
            await asyncio.sleep(0)
        usage = it.app.parts.usage
        usage.assume("old", "session 0")
        await it.app.ready()
        usage.fusion.know(("appium", "one"))
        usage.tell(usage.fusion.good(("appium", "one"), {"new": "session 1"}, 1))
        usage.rename("old", "new")
        assert (usage.reading("new").usage, usage.reading("new").holder) == (
            Usage.IN_USE,
            "session 1",
        )
