"""Readers that are slow, idle or many, over real connections to a real pipeline and store."""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from agent.api.limits import Limits
from agent.api.server import ApiServer
from agent.errors import BusyError
from agent.model import SilenceKind
from agent.service import events as module
from agent.service.devices import Devices
from agent.service.events import Events, Selection
from agent.service.silences import SilenceDesk
from agent.subscribers import Topic
from tests.api.nobody import Nobody
from tests.fakes.sse import follow
from tests.kit.tracking import House, adb, house, usb
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.service.services import Services
    from agent.service.silences import SilenceRow


class Served(Nobody):
    """The part of an agent that the events are read from."""

    def __init__(self, made: House, heartbeat: float) -> None:
        super().__init__()
        self.house = made
        self.devices = Devices(made.pipeline, "rack-1")  # type: ignore[assignment]  # of the base: Nobody
        self.silences = SilenceDesk(made.silences, Devices(made.pipeline, "rack-1"), made.pipeline)
        self.events = Events(made.pipeline, made.store, "rack-1", self._rows, heartbeat)
        self.asked = 0
        """How often the silences' rows were made."""
        made.news.subscribe(Topic.DEVICE, self.events.changed)
        made.news.subscribe(Topic.TRANSITION, lambda _: self.events.stored())
        made.news.subscribe(Topic.SILENCE, lambda _: self.events.silences_changed())

    def _rows(self) -> list[SilenceRow]:
        self.asked += 1
        return self.silences.rows()

    async def readers(self, count: int) -> None:
        """Wait until there are so many."""
        async with asyncio.timeout(LIMIT):
            while self.events.readers != count:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)

    def plug(self, name: str, port: str = "1-1", called: str = "") -> None:
        self.house.see(usb(name, port), replace(adb(name, port), name=called))


@asynccontextmanager
async def served(
    place: Path, heartbeat: float = LIMIT, limits: Limits | None = None
) -> AsyncIterator[Served]:
    async with house(place / "state") as made:
        agent = Served(made, heartbeat)
        server = ApiServer(cast("Services", agent), limits or Limits())
        server.use_unix(await server.open_unix(place / "s"))
        try:
            yield agent
        finally:
            await server.close()


async def test_who_does_not_read_is_dropped_and_holds_up_nobody(place: Path) -> None:
    async with served(place, limits=Limits(slow=0.3)) as agent:
        for number in range(200):
            agent.plug(f"phone{number}", f"1-{number}", "x" * 4000)
        async with follow(place / "s", "?device=phone1") as quick, follow(place / "s", limit=1):
            await quick.until("snapshot")
            agent.plug("phone1", "1-1", "new name")
            assert (await quick.until("device")).data["name"] == "new name"
            await agent.readers(1)
            agent.plug("phone1", "1-1", "newer name")
            assert (await quick.until("device")).data["name"] == "newer name"


async def test_an_idle_reader_hears_that_the_agent_is_there_and_where_to_go_on(place: Path) -> None:
    async with served(place, heartbeat=0.05) as agent:
        agent.plug("ce09")
        async with follow(place / "s", "?device=ce09") as stream:
            await stream.until("transition", "snapshot")
            seen = stream.last_id
            agent.plug("r58m", "1-2")
            await agent.house.pipeline.commits.drain()
            reading = asyncio.create_task(stream.next())
            async with asyncio.timeout(LIMIT):
                while stream.last_id == seen or stream.comments < 5:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(0.01)
            assert stream.last_id.startswith("2-"), "behind what the filter left out, too"
            assert not reading.done(), "a heartbeat is no message"
            reading.cancel()


async def test_all_readers_are_told_of_silences_that_were_looked_up_once(place: Path) -> None:
    """Each row counts the devices that it covers: a hundred readers must not count them each."""
    async with served(place) as agent, contextlib.AsyncExitStack() as stack:
        agent.plug("ce09")
        streams = [await stack.enter_async_context(follow(place / "s")) for _ in range(20)]
        for stream in streams:
            await stream.until("snapshot")
        ends_ms = agent.silences.now_ms + 60_000
        made = await agent.silences.add(SilenceKind.ALL, "", "cables", ends_ms, "alice")
        for stream in streams:
            told = (await stream.until("silences")).data["silences"]
            assert [(each["id"], each["devices"]) for each in told] == [(made["id"], 1)]
        assert agent.asked <= 2, "once, and once more where the devices' rows came in between"
        agent.plug("r58m", "1-2")
        async with follow(place / "s") as late:
            assert len((await late.until("snapshot")).data["devices"]) == 2
            assert (await late.until("silences")).data["silences"][0]["devices"] == 2
        await agent.silences.end(made["id"], "alice")
        for stream in streams:
            while (await stream.until("silences")).data != {"silences": []}:
                pass
    async with served(place / "other") as agent, follow(place / "other" / "s") as stream:
        await stream.until("snapshot")
        agent.plug("ce09")
        await stream.until("device")
        assert agent.asked <= 1, "with none there is nothing to be told"


async def test_a_reader_too_many_is_told_so(place: Path) -> None:
    async with served(place) as agent:
        readers = [await agent.events.open(Selection(), None) for _ in range(module.MAX_READERS)]
        with pytest.raises(BusyError, match="1000 readers"):
            await agent.events.open(Selection(), None)
        agent.events.close(readers[0])
        agent.events.close(await agent.events.open(Selection(), None))


async def test_a_reader_that_went_away_is_forgotten(place: Path) -> None:
    async with served(place) as agent:
        async with follow(place / "s") as stream:
            await stream.until("snapshot")
            await agent.readers(1)
        await agent.readers(0)
        agent.plug("ce09")
        async with follow(place / "s") as stream:
            assert len((await stream.until("snapshot")).data["devices"]) == 1


async def test_far_more_than_is_kept_in_memory_is_told_in_order(place: Path) -> None:
    """Live ones come while it is read page by page: none is missed at the seam."""
    async with served(place) as agent:
        for turn in range(400):
            agent.plug(f"a{turn}", f"1-{turn}")
        await agent.house.pipeline.commits.drain()
        seen: list[int] = []
        async with follow(place / "s", "?last_event_id=0") as stream, asyncio.TaskGroup() as group:

            async def read() -> None:
                while len(seen) < 1400:
                    event = await stream.until("transition")
                    seen.append(int(event.id.partition("-")[0]))

            group.create_task(read())
            for turn in range(1000):
                agent.plug(f"b{turn}", f"2-{turn}")
                await asyncio.sleep(0)
        assert seen == list(range(1, 1401))


async def test_a_store_that_was_made_anew_is_said_to_who_follows(place: Path) -> None:
    async with served(place) as agent:
        for number in range(3):
            agent.plug(f"a{number}", f"1-{number}")
        await agent.house.pipeline.commits.drain()
        async with follow(place / "s") as stream:
            await stream.until("snapshot")
            assert stream.last_id.startswith("3-")
            for file in (place / "state").glob("state.db*"):
                with file.open("r+b", buffering=0) as broken:
                    broken.write(random.randbytes(file.stat().st_size))
            reading = asyncio.create_task(stream.until("reset"))
            turn = 0
            async with asyncio.timeout(LIMIT):
                while not reading.done():  # SQLite notices when it looks there
                    turn += 1
                    agent.plug(f"b{turn}", f"2-{turn}")
                    await agent.house.pipeline.commits.drain()
                    await asyncio.sleep(0.05)
            assert "made anew" in (await reading).data["reason"]
            rows = (await stream.until("snapshot")).data["devices"]
            assert {"a0", "a1", "a2", "b1"} <= {row["udid"] for row in rows}
            agent.plug("last", "3-1")
            while (told := await stream.until("transition")).data["udid"] != "last":
                pass
            (stored,) = await agent.house.store.transitions.of("last", 1)
            assert told.id.startswith(f"{stored.id}-"), "an id of the new store"
