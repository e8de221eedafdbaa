"""What was lost at once, and what is suspected, as operators are told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.config import Delivery
from agent.model import DeviceState, Gone
from agent.service.causes import RANGE_MS, Causes
from agent.track.cause import CauseKind
from tests.kit.tracking import ADB, ONLY_ANDROID, UDEV, House, adb, house, usb

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PORTS = [f"1-4.{n}" for n in range(1, 5)]
MIN = 60_000
KEPT_LONG = Delivery().model_copy(update={"retention": 365 * 86_400.0})
ONLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.UNPLUGGED


def service(h: House) -> Causes:
    return Causes(h.pipeline, h.store, h.clock, "rack-1")


def plug(h: House) -> None:
    for port in PORTS:
        h.see(usb(f"S{port}", port), adb(f"S{port}", port))
    h.wait(60)


def lose(h: House) -> None:
    for port in PORTS:
        h.pipeline.observe(Gone(UDEV, f"/devices/{port}"))
        h.pipeline.observe(Gone(ADB, f"S{port}"))
    h.wait(60)


async def test_a_lost_hub_is_listed_until_all_are_back(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID) as h:
        plug(h)
        assert await service(h).rows() == {"causes": []}
        lose(h)
        await h.came()
        (row,) = (await service(h).rows())["causes"]
        assert (row["kind"], row["place"], row["host"], row["over"]) == (
            "hub",
            "1-4",
            "rack-1",
            False,
        )
        assert sorted(row["devices"]) == [f"S{port}" for port in PORTS]
        assert row["id"].startswith("cause-")
        assert row["at"] is not None
        assert h.pipeline.commits.causes.counts[CauseKind.HUB] == 1
    async with house(tmp_path, ONLY_ANDROID) as h:
        h.wait(60)
        (again,) = (await service(h).rows())["causes"]
        assert again == row  # by what is stored
        plug(h)
        (over,) = (await service(h).rows())["causes"]
        assert over == {**row, "over": True}
        assert not h.pipeline.commits.causes.counts


async def test_who_is_suspect_by_what_is_stored(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID) as h:
        plug(h)
        await h.came()
        assert await service(h).suspects() == {"suspects": []}
        (first,) = await h.store.transitions.of("S1-4.1", 1)
        (record,) = [each for each in await h.store.devices.all() if each.udid == "S1-4.1"]
        for number in range(12):
            at = h.clock.wall_ms() + number * 24 * 60 * MIN
            for move, after in ((UNPLUGGED, 0), (ONLINE, MIN)):
                before = ONLINE if move is UNPLUGGED else UNPLUGGED
                moved = replace(first.transition, previous=before, state=move, at_ms=at + after)
                await h.store.record(record, moved, ())
        h.clock.advance(RANGE_MS / 1000)
        (row,) = (await service(h).suspects())["suspects"]
        assert (row["kind"], row["udid"], row["port"], row["host"]) == (
            "phone_or_port",
            "S1-4.1",
            "1-4.1",
            "rack-1",
        )
        assert (row["times"], row["days"]) == (12, 12)
        assert row["who"] == "S1-4.1 at 1-4.1"
        assert row["evidence"].startswith("12 interruptions on 12 days")
        h.clock.advance(RANGE_MS / 1000)
        assert await service(h).suspects() == {"suspects": []}


async def leave(h: House, udid: str, days: Iterable[int]) -> None:
    """It was online, and is interrupted for a minute on each of these days."""
    (first,) = await h.store.transitions.of("S1-4.1", 1)
    for day in days:
        at = first.transition.at_ms + day * 24 * 60 * MIN
        for move, after in ((UNPLUGGED, 0), (ONLINE, MIN)):
            before = ONLINE if move is UNPLUGGED else UNPLUGGED
            moved = replace(
                first.transition, udid=udid, previous=before, state=move, at_ms=at + after
            )
            (record,) = [each for each in await h.store.devices.all() if each.udid == "S1-4.1"]
            await h.store.record(replace(record, udid=udid), moved, ())


async def test_a_phone_that_is_followed_no_more_is_not_suspect(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID) as h:
        plug(h)
        await h.came()
        await leave(h, "GONE", range(1, 13))
        h.clock.advance(20 * 24 * 60 * MIN / 1000)
        assert await service(h).suspects() == {"suspects": []}


async def test_suspects_of_all_time_are_not_those_of_the_last_month(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID, settings=KEPT_LONG) as h:
        plug(h)
        await h.came()
        await leave(h, "S1-4.1", range(1, 13))
        h.clock.advance(60 * 24 * 60 * MIN / 1000)
        assert await service(h).suspects() == {"suspects": []}
        asked = 0, h.clock.wall_ms()
        (row,) = (await service(h).suspects(asked))["suspects"]
        assert (row["udid"], row["times"]) == ("S1-4.1", 12)
        h.store.reconfigure(Delivery().model_copy(update={"retention": 3 * 86_400.0}))
        # What may be deleted says nothing: neither who left then, nor who did not.
        assert await service(h).suspects(asked) == {"suspects": []}
