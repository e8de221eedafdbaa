"""Phones that leave together, through the pipeline and into the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.model import Bridge, Down, Gone, Platform, Sighting, SilenceKind, Snapshot, UsbKind
from tests.kit.clock import StubClock
from tests.kit.tracking import ADB, HOOK, ONLY_ANDROID, UDEV, House, house

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PCI = "0000:00:14.0"


def path(port: str) -> str:
    bus = port.partition("-")[0]
    return f"/devices/pci0000:00/{PCI}/usb{bus}/{port}"


def usb(port: str) -> Sighting:
    return Sighting(UDEV, path(port), f"SER{port}", Platform.ANDROID, port, UsbKind.ADB)


def adb(port: str, bridge: Bridge = Bridge.READY) -> Sighting:
    serial = f"SER{port}"
    return Sighting(ADB, serial, serial, Platform.ANDROID, port, bridge=bridge)


def plug(h: House, *ports: str) -> None:
    for port in ports:
        h.see(usb(port), adb(port))


def pull(h: House, *ports: str) -> None:
    for port in ports:
        h.pipeline.observe(Gone(UDEV, path(port)))
        h.pipeline.observe(Gone(ADB, f"SER{port}"))


def lose(h: House, *ports: str) -> None:
    """They were there, and left at once; all of it counts."""
    plug(h, *ports)
    h.wait(60)
    pull(h, *ports)
    h.wait(60)


def on(hub: str, number: int) -> list[str]:
    return [f"{hub}.{n}" for n in range(1, number + 1)]


async def causes(h: House, ports: Iterable[str]) -> list[tuple[str, str]]:
    """(reason, id of the cause) of the last transition of each, as stored."""
    await h.pipeline.commits.drain()
    found = []
    for port in ports:
        (last,) = await h.store.transitions.of(f"SER{port}", 1)
        found.append((last.transition.reason, last.transition.cause))
    return found


async def test_a_hub_that_is_lost_is_one_cause(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plug(h, *on("1-4.2", 8), *on("1-3", 4))
        h.wait(60)
        pull(h, *on("1-4.2", 8))
        h.wait(60)
        found = await causes(h, on("1-4.2", 8))
        assert {reason for reason, _ in found} == {"lost with hub 1-4.2 (8 phones)"}
        assert len({id_ for _, id_ in found}) == 1
        assert found[0][1].startswith("cause-")
        assert h.state("SER1-4.2.1")[1] == "lost with hub 1-4.2 (8 phones)"
        records = {each.udid: each for each in await h.store.devices.all()}
        assert records["SER1-4.2.1"].cause == found[0][1]
        # What comes back is lost no more.
        plug(h, "1-4.2.1")
        h.wait(60)
        assert await causes(h, ["1-4.2.1"]) == [("", "")]
        pull(h, "1-4.2.1")
        h.wait(60)
        assert await causes(h, ["1-4.2.1"]) == [("", "")]


async def test_a_controller_with_ten_phones(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        lose(h, *on("1-1", 5), *on("1-2", 5))
        assert {reason for reason, _ in await causes(h, on("1-2", 5))} == {
            f"lost with controller {PCI} (10 phones)"
        }


async def test_one_phone_has_none(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        lose(h, *on("1-4.2", 2))
        assert await causes(h, on("1-4.2", 2)) == [("", "")] * 2


async def test_an_adb_server_that_died(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plug(h, *on("1-1", 3), *on("2-1", 3))
        h.wait(60)
        h.pipeline.observe(Down(ADB, "the adb server at 127.0.0.1:5037 is unreachable"))
        h.wait(3600)
        found = await causes(h, on("1-1", 3))
        said = "lost with adb (6 phones): the adb server at 127.0.0.1:5037 is unreachable"
        assert {reason for reason, _ in found} == {said}
        # One that says itself why it cannot be used was not lost with it any more.
        up = tuple(adb(port) for port in on("2-1", 3))
        h.pipeline.observe(Snapshot(ADB, (*up, adb("1-1.1", Bridge.NOT_READY))))
        h.wait(60)
        assert h.state("SER1-1.1")[1] == "the phone is not ready"
        await h.pipeline.commits.drain()
        records = {each.udid: each.cause for each in await h.store.devices.all()}
        assert records["SER1-1.1"] == ""
        assert records["SER1-1.2"] == found[0][1]


async def test_who_is_pulled_while_adb_is_dead_was_pulled(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plug(h, *on("1-1", 3))
        h.wait(60)
        h.pipeline.observe(Down(ADB, "it died"))
        h.wait(3600)
        assert (await causes(h, ["1-1.1"]))[0][0] == "lost with adb (3 phones): it died"
        h.pipeline.observe(Gone(UDEV, path("1-1.1")))
        h.wait(60)
        assert await causes(h, ["1-1.1"]) == [("", "")]


async def test_a_server_that_was_only_restarted_is_told_of_to_nobody(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plug(h, *on("1-1", 3))
        h.wait(60)
        h.pipeline.observe(Down(ADB, "restarting"))
        h.wait(1)
        h.pipeline.observe(Snapshot(ADB, tuple(adb(port) for port in on("1-1", 3))))
        h.wait(3600)
        assert await causes(h, on("1-1", 3)) == [("", "")] * 3  # that of their arrival


@pytest.mark.parametrize(("held", "long"), [("100ms", False), ("2900ms", True)])
async def test_no_phone_waits_longer_than_its_hold(tmp_path: Path, held: str, long: bool) -> None:
    hold = f"[hold]\nunplugged = '{held}'\n"
    async with house(tmp_path, ONLY_ANDROID + hold + HOOK) as h:
        plug(h, *on("1-4.2", 4))
        h.wait(60)
        for port in on("1-4.2", 4):
            pull(h, port)
            h.wait(0.2)
        h.wait(60)
        reasons = [reason for reason, _ in await causes(h, on("1-4.2", 4))]
        all_ = "lost with hub 1-4.2 (4 phones)"
        # Of 0.1 s: two counted before there were three, the third and the fourth each at its time.
        assert reasons == ([all_] * 4 if long else ["", "", "lost with hub 1-4.2 (3 phones)", all_])
        ids = [id_ for _, id_ in await causes(h, on("1-4.2", 4)) if id_]
        assert len(set(ids)) == 1


async def test_it_outlives_a_restart(tmp_path: Path) -> None:
    clock = StubClock()
    async with house(tmp_path, clock=clock) as h:
        lose(h, *on("1-4.2", 3))
        before = await causes(h, on("1-4.2", 3))
    async with house(tmp_path, clock=clock) as h:
        h.wait(60)
        assert h.state("SER1-4.2.1")[1] == "lost with hub 1-4.2 (3 phones)"
        assert await causes(h, on("1-4.2", 3)) == before
        records = {each.cause for each in await h.store.devices.all()}
        assert records == {before[0][1]}
        # And so it does where it shows something else in between.
        h.see(usb("1-4.2.1"))
        assert h.state("SER1-4.2.1")[1] == "arriving: not yet seen by adb"
        h.pipeline.observe(Gone(UDEV, path("1-4.2.1")))
        h.wait(60)
        assert h.state("SER1-4.2.1")[1] == "lost with hub 1-4.2 (3 phones)"


async def test_it_outlives_a_restart_while_the_phone_shows_something_else(tmp_path: Path) -> None:
    clock = StubClock()
    async with house(tmp_path, clock=clock) as h:
        lose(h, *on("1-4.2", 3))
        h.see(usb("1-4.2.1"))
        assert h.state("SER1-4.2.1")[1] == "arriving: not yet seen by adb"
        ((_, cause), *_) = await causes(h, on("1-4.2", 3))
    async with house(tmp_path, clock=clock) as h:
        h.wait(60)
        for port in on("1-4.2", 3):
            view = h.pipeline.views.one(f"SER{port}")
            assert view is not None
            assert (view.reason, view.cause) == ("lost with hub 1-4.2 (3 phones)", cause)


async def test_who_left_while_the_agent_did_not_run_has_none(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plug(h, *on("1-4.2", 3))
        h.wait(60)
    async with house(tmp_path) as h:
        h.wait(60)
        assert await causes(h, on("1-4.2", 3)) == [("", "")] * 3


async def test_what_a_frozen_process_missed_is_not_dated(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plug(h, *on("1-4.2", 4))
        h.wait(60)
        pull(h, "1-4.2.4")
        h.wait(0.4)  # its hold runs, so that a gap is noticed
        h.clock.now += 3600
        pull(h, *on("1-4.2", 3))
        h.wait(60)
        assert await causes(h, on("1-4.2", 4)) == [("", "")] * 4
        # What leaves later is dated again.
        plug(h, *on("1-4.2", 4))
        h.wait(60)
        pull(h, *on("1-4.2", 4))
        h.wait(60)
        assert {reason for reason, _ in await causes(h, on("1-4.2", 4))} == {
            "lost with hub 1-4.2 (4 phones)"
        }


async def test_a_silence_tells_it_at_its_end(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOOK + 'payload = "extended"\n') as h:
        plug(h, *on("1-4.2", 3))
        h.wait(60)
        until = h.clock.wall_ms() + 100_000
        await h.silences.add(SilenceKind.ALL, "", "cables are changed", until, "alice")
        pull(h, *on("1-4.2", 3))
        h.wait(60)
        told = len(h.sent)
        h.wait(60)
        await h.heard()
        await h.came()
        bodies = [json.loads(each.body) for each in h.sent[told:]]
        assert len(bodies) == 3
        assert {(body["reason"], body["reasonCode"]) for body in bodies} == {
            ("lost with hub 1-4.2 (3 phones)", "hub_lost")
        }
        (id_,) = {body["causeId"] for body in bodies}
        assert id_.startswith("cause-")


async def test_a_thousand_leave_at_once(tmp_path: Path) -> None:
    ports = [
        f"{bus}-{hub}.{slot}"
        for bus in range(1, 5)
        for hub in range(1, 26)
        for slot in range(1, 11)
    ]
    async with house(tmp_path) as h:
        plug(h, *ports)
        h.wait(60)
        for source in (UDEV, ADB):
            h.pipeline.observe(Snapshot(source, ()))
        h.wait(60)
        found = await causes(h, ports)
        assert len({id_ for _, id_ in found}) == 1
        assert {reason for reason, _ in found} == {f"lost with controller {PCI} (1000 phones)"}
