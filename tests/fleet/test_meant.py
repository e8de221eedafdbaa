"""A name that is no phone's, asked of a hub with very many: the nearest takes little work."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from agent.errors import UnknownDeviceError
from agent.service import devices
from agent.service.devices import Devices
from agent.text import near as near_of
from tests.fleet.world import ONLINE, World
from tests.kit.seed import seed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.track.views import DeviceView

COUNT = 2_000


class Work:
    """What was made and compared."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.views = self.compared = 0
        one = world.hub.views.one

        def counted_one(udid: str) -> DeviceView | None:
            self.views += 1
            return one(udid)

        def counted_near(word: str, words: Iterable[str], most: int, likeness: float) -> list[str]:
            words = list(words)
            self.compared += len(words)
            return near_of(word, words, most, likeness)

        patch.setattr(world.hub.views, "one", counted_one)
        patch.setattr(devices, "near", counted_near)


@pytest.fixture
async def world() -> World:
    world = World()
    chance = random.Random(seed(17))
    signs = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
    while len(world.hosts["A"].devices) < COUNT:
        world.hosts["A"].move("R58M" + "".join(chance.choices(signs, k=7)), ONLINE)
    for udid in ("R58MZ0Q0Z0Q", "00008110-000A1B2C3D4E5F60"):
        world.hosts["A"].move(udid, ONLINE)
    told = world.hosts["A"].devices
    told["R58MZ0Q0Z0Q"] = told["R58MZ0Q0Z0Q"].model_copy(update={"name": "Bench 7"})
    await world.begin()
    return world


@pytest.mark.parametrize(
    "text",
    [
        "R58MZ0Q0Z0",
        "X58MZ0Q0Z0Q",
        "r58mz0x0z0q",
        "R58MZ0Q0Z0QQ",
        "bench 7",
        "00008110-000A1B2C3D4E5F61",
        "00008110000a1b2c3d4e5f6",
    ],
)
async def test_the_nearest_of_very_many_is_found_by_little_work(
    world: World, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(world, monkeypatch)
    meant = "00008110-000A1B2C3D4E5F60" if text.startswith("0") else "R58MZ0Q0Z0Q (Bench 7)"
    with pytest.raises(UnknownDeviceError, match="did you mean ") as raised:
        Devices(world.hub, "hub").udid(text)
    assert meant in str(raised.value)
    assert (work.views <= 300, work.compared <= 250) == (True, True)


async def test_where_none_is_near_some_are_named_and_the_others_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(world, monkeypatch)
    with pytest.raises(UnknownDeviceError, match=f"known: 00008110.*and {COUNT - 3} more"):
        Devices(world.hub, "hub").udid("~~~~~~~~~~~~~~~~~~~~")
    assert work.views <= 300


async def test_a_name_that_changed_is_found_by_what_it_is_now(world: World) -> None:
    asked = Devices(world.hub, "hub")
    with pytest.raises(UnknownDeviceError, match="R58MZ0Q0Z0Q"):
        asked.udid("BENCH 7")
    host = world.hosts["A"]
    told = host.devices["R58MZ0Q0Z0Q"]
    host.devices["R58MZ0Q0Z0Q"] = told.model_copy(update={"name": "Shelf 8"})
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    assert world.hub.views.called("shelf 8") == ["R58MZ0Q0Z0Q"]
    assert world.hub.views.called("bench 7") == []
