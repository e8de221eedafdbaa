"""From observations to stored transitions and callbacks, with the real store and a stub clock."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.model import (
    Bridge,
    CallbackState,
    DeviceState,
    Down,
    Gone,
    Platform,
    Sighting,
    Snapshot,
    Usage,
    UsageReading,
    UsbKind,
)
from agent.store import DeliveryQuery
from agent.subscribers import Topic
from tests.kit.tracking import ADB, HOOK, ONLY_ANDROID, UDEV, adb, house, reconfigure, usb

if TYPE_CHECKING:
    from pathlib import Path


async def test_plug_authorise_use_unplug(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"))
        h.wait(1)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        h.wait(1)
        h.see(adb("ce09", name="Galaxy"))
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        assert h.state("ce09") == (DeviceState.UTILIZING, "in use by alice")
        h.pipeline.use("ce09", UsageReading(Usage.IDLE))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(3)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Utilizing"), ("ce09", "Unplugged")]
        assert json.loads(h.sent[-1].body)["deviceName"] == "Galaxy", "kept after it is gone"
        assert [c.rowid for c in h.sent] == sorted(c.rowid for c in h.sent)
        assert h.clock.armed == [], "nothing ticks when nothing happens"


async def test_a_phone_that_is_leased_before_it_is_seen_is_in_use_though_listed_no_more(
    tmp_path: Path,
) -> None:
    text = ONLY_ANDROID + HOOK
    async with house(tmp_path, text + '[[devices]]\nudid = "ce09"\n') as h:
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        config = parse(text, "t")
        reconfigure(h.pipeline, config, {129: config.webhooks[0]})
        h.see(usb("ce09"), adb("ce09"))
        assert h.state("ce09") == (DeviceState.UTILIZING, "in use by alice")
        assert await h.came() == [("ce09", "Utilizing")]


async def test_half_a_character_in_what_somebody_calls_itself_loses_no_transition(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09", name="Gal\ud83d"))
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "session \ud800"))
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        h.wait(5)
        assert [state for _, state in await h.came()] == ["Online", "Utilizing", "Offline"]
        (stored,) = await h.store.devices.all()
        assert stored.name == "Gal\ufffd"
        used = (await h.store.transitions.of("ce09", 9))[1].transition
        assert (used.holder, used.reason) == ("session \ufffd", "in use by session \ufffd")


async def test_the_body_is_the_contract_to_the_byte(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09", name="Galaxy Note 8"))
        await h.came()
        expected = (
            '{"creationTime":"2023-11-14T22:13:20.000Z","eventType":"DEVICE",'
            '"eventActivity":"device.status.online","eventDescription":"Online",'
            '"deviceUdid":"ce09","deviceName":"Galaxy Note 8","orgId":1,"webhookId":129,'
            '"webhookName":"all"}'
        )
        assert h.sent[0].body.decode() == expected


async def test_nothing_is_derived_before_every_source_has_spoken(tmp_path: Path) -> None:
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.wait(100)
        assert not h.pipeline.derives
        assert await h.came() == []
        h.pipeline.observe(Snapshot(UDEV, (usb("ce09"),)))
        assert await h.came() == [("ce09", "Online")]


async def test_a_silent_source_is_not_waited_for_beyond_the_limit(tmp_path: Path) -> None:
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.pipeline.start_deriving()
        assert await h.came() == [("ce09", "Online")]
        assert h.pipeline.down == {UDEV: "it has said nothing since the start"}


async def test_a_restart_gives_the_net_change_only(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("stays", "1-1"), adb("stays", "1-1"))
        h.see(usb("goes", "1-2"), adb("goes", "1-2"))
        await h.came()
    async with house(tmp_path, derives=False) as h:
        assert h.state("goes")[0] is DeviceState.ONLINE, "as stored, until known better"
        h.pipeline.observe(Snapshot(UDEV, (usb("stays", "1-1"), usb("came", "1-3"))))
        h.pipeline.observe(Snapshot(ADB, (adb("stays", "1-1"), adb("came", "1-3"))))
        h.wait(60)
        assert await h.came() == [("came", "Online"), ("goes", "Unplugged")]


async def test_a_restart_with_every_source_down_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        await h.came()
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Down(UDEV, "no udevd"))
        h.pipeline.observe(Down(ADB, "no server"))
        h.wait(3600)
        assert await h.came() == []
        assert h.state("ce09")[0] is DeviceState.ONLINE
        assert "no server" in h.state("ce09")[1]


async def test_an_adb_restart_makes_no_callback(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Down(ADB, "EOF"))
        h.wait(20)
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(2)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        h.wait(2)
        h.see(adb("ce09"))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


LISTED = """
[[devices]]
udid = "ce09"
name = "Rack phone"
tags = ["rack-1"]
visibility = "{visibility}"
"""


@pytest.mark.parametrize(
    ("visibility", "callbacks", "shown"),
    [("private", 1, True), ("local", 1, True), ("public", 0, True), ("ignore", 0, False)],
)
async def test_visibility(tmp_path: Path, visibility: str, callbacks: int, shown: bool) -> None:
    text = ONLY_ANDROID + LISTED.format(visibility=visibility) + HOOK
    async with house(tmp_path, text) as h:
        h.see(usb("ce09"), adb("ce09", name="Galaxy"))
        assert len(await h.came()) == callbacks
        view = h.pipeline.views.one("ce09")
        assert (view is not None) is shown
        if view is not None:
            assert (view.name, view.tags, view.state) == (
                "Rack phone",
                ("rack-1",),
                DeviceState.ONLINE,
            )


async def test_unlisted_phones_can_be_left_out(tmp_path: Path) -> None:
    text = (
        ONLY_ANDROID + '[discovery]\nvisibility = "ignore"\n[[devices]]\nudid = "listed"\n' + HOOK
    )
    async with house(tmp_path, text) as h:
        h.see(usb("listed", "1-1"), adb("listed", "1-1"))
        h.see(usb("other", "1-2"), adb("other", "1-2"))
        assert await h.came() == [("listed", "Online")]
        assert [view.udid for view in h.pipeline.views.all()] == ["listed"]


async def test_a_listed_phone_never_seen_is_shown_and_calls_nobody(tmp_path: Path) -> None:
    text = ONLY_ANDROID + LISTED.format(visibility="private") + HOOK
    async with house(tmp_path, text) as h:
        h.wait(60)
        assert h.state("ce09") == (DeviceState.UNPLUGGED, "never seen")
        assert await h.came() == []


async def test_a_webhook_gets_what_it_asked_for(tmp_path: Path) -> None:
    text = (
        ONLY_ANDROID
        + LISTED.format(visibility="private")
        + """
[[webhooks]]
id = 1
name = "unplugged only"
url = "http://127.0.0.1:1/"
events = ["unplugged"]
[[webhooks]]
id = 2
name = "rack-1"
url = "http://127.0.0.1:1/"
events = ["online"]
tags = ["rack-1"]
org_id = 77
[[webhooks]]
id = 3
name = "off"
url = "http://127.0.0.1:1/"
events = ["online"]
enabled = false
"""
    )
    async with house(tmp_path, text) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        h.see(usb("other", "1-2"), adb("other", "1-2"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(5)
        await h.came()
        bodies = [json.loads(callback.body) for callback in h.sent]
        assert [
            (b["webhookId"], b["orgId"], b["deviceUdid"], b["eventDescription"]) for b in bodies
        ] == [
            (2, 77, "ce09", "Online"),
            (1, 1, "ce09", "Unplugged"),
        ]


async def test_a_twin_renames_nobody(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("0123", "1-1"), adb("0123", "1-1"))
        h.see(usb("0123", "1-2"))
        h.pipeline.observe(Gone(ADB, "0123"))
        h.see(replace(adb("0123", "1-1"), address="0123#1"))
        h.see(replace(adb("0123", "1-2"), address="0123#2"))
        h.wait(60)
        assert await h.came() == [("0123", "Online"), ("0123@1-2", "Online")]
        assert {record.udid for record in await h.store.devices.all()} == {"0123", "0123@1-2"}
        assert "shared" in h.state("0123")[1]
        assert "shared" in h.state("0123@1-2")[1]
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, "0123#1"))
        h.wait(60)
        assert (await h.came())[2:] == [("0123", "Unplugged")], "it ends as it began"
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(UDEV, (usb("0123", "1-1"),)))
        h.pipeline.observe(Snapshot(ADB, (adb("0123", "1-1"),)))
        h.wait(60)
        assert sorted(await h.came()) == [("0123", "Online"), ("0123@1-2", "Unplugged")]


async def test_a_reload_without_a_difference_calls_nobody_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        config = parse(ONLY_ANDROID + HOOK, "again.toml")
        reconfigure(h.pipeline, config, {129: config.webhooks[0]})
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_a_reload_changes_holds_names_and_sources(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        text = "[ios]\nenabled = false\n[usb]\nenabled = false\n[hold]\nunplugged = '60s'\n"
        config = parse(text + LISTED.format(visibility="private") + HOOK, "new.toml")
        reconfigure(h.pipeline, config, {129: config.webhooks[0]})
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(59)
        assert await h.came() == [("ce09", "Online")]
        h.wait(1)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
        assert json.loads(h.sent[-1].body)["deviceName"] == "Rack phone"


async def test_a_disabled_platform_is_left_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        iphone = Sighting(
            UDEV, "/devices/2-1", "00008030001A2B3C4D5E6F70", Platform.IOS, "2-1", UsbKind.APPLE
        )
        h.see(iphone)
        h.wait(3600)
        assert await h.came() == []


async def test_what_is_stored_is_what_was_decided(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09", name="Galaxy"))
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        h.wait(5)
        await h.came()
        (record,) = await h.store.devices.all()
        assert (record.state, record.name, record.port) == (DeviceState.OFFLINE, "Galaxy", "1-1")
        rows = await h.store.deliveries.find(DeliveryQuery())
        assert [row.state for row in rows] == [CallbackState.PENDING] * 2
        assert [row.callback.message_id for row in rows] == [
            callback.message_id for callback in reversed(h.sent)
        ]


async def test_watchers_are_told_of_every_change_a_name_and_an_end_included(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        told: list[tuple[str, DeviceState | None, str]] = []

        def watch(udid: str) -> None:
            view = h.pipeline.views.one(udid)
            told.append((udid, view.state if view else None, view.name if view else ""))

        h.news.subscribe(Topic.DEVICE, watch)
        h.see(usb("ce09"), adb("ce09"))
        await h.heard()
        assert told[-1] == ("ce09", DeviceState.ONLINE, "ce09")
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        await h.heard()
        assert told[-1] == ("ce09", DeviceState.UTILIZING, "ce09")
        h.see(usb("ce09"), replace(adb("ce09"), name="Galaxy"))
        await h.heard()
        assert told[-1] == ("ce09", DeviceState.UTILIZING, "Galaxy")
        h.see(usb("", "1-7"))
        h.wait(1)
        h.see(usb("r58m", "1-7"), adb("r58m", "1-7"))
        h.wait(60)
        await h.heard()
        assert ("no-serial@1-7", None, "") in told


async def test_who_watches_the_store_is_told_once_a_transition_is_durable(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        told = asyncio.Event()
        h.news.subscribe(Topic.TRANSITION, lambda _: told.set())
        h.see(usb("ce09"), adb("ce09"))
        assert not told.is_set()
        async with asyncio.timeout(10):
            await told.wait()
        (stored,) = await h.store.transitions.after(0, 10)
        assert (stored.id, stored.transition.state) == (1, DeviceState.ONLINE)


async def test_a_serial_read_late_leaves_no_ghost(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("", "1-1"))
        assert [view.udid for view in h.pipeline.views.all()] == ["no-serial@1-1"]
        h.wait(1)
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        h.wait(60)
        assert [view.udid for view in h.pipeline.views.all()] == ["ce09"]
        assert await h.came() == [("ce09", "Online")]


async def test_twins_keep_what_the_file_says_of_their_serial(tmp_path: Path) -> None:
    listed = '[[devices]]\nudid = "0123"\nname = "Twin"\nvisibility = "public"\n'
    async with house(tmp_path, ONLY_ANDROID + listed + HOOK) as h:
        h.see(usb("0123", "1-1"), usb("0123", "1-2"))
        h.see(replace(adb("0123", "1-1"), address="0123#1"))
        h.see(replace(adb("0123", "1-2"), address="0123#2"))
        h.wait(60)
        assert await h.came() == []
        shown = {view.udid: (view.name, view.state) for view in h.pipeline.views.all()}
        assert shown["0123"] == shown["0123@1-2"] == ("Twin", DeviceState.ONLINE)


async def test_a_phone_that_just_appeared_is_shown_as_what_it_is_about_to_be(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"))
        assert h.state("ce09") == (DeviceState.OFFLINE, "arriving: not yet seen by adb")
        h.wait(10)
        assert h.state("ce09") == (DeviceState.OFFLINE, "just appeared: not counted yet")
        assert await h.came() == []
        h.wait(5)
        assert h.state("ce09")[1].startswith("not seen by adb")


async def test_a_snapshot_said_again_yields_nothing_at_any_time(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        usb_now = (usb("up", "1-1"), usb("locked", "1-2"), usb("silent", "1-3"))
        adb_now = (adb("up", "1-1"), adb("locked", "1-2", Bridge.NOT_READY))
        for _ in range(100):
            h.pipeline.observe(Snapshot(UDEV, usb_now))
            h.pipeline.observe(Snapshot(ADB, adb_now))
            h.wait(0.3)
        assert await h.came() == [("up", "Online"), ("locked", "Offline"), ("silent", "Offline")]
        before = h.pipeline.views.all()
        told: list[str] = []
        h.news.subscribe(Topic.DEVICE, told.append)
        h.pipeline.observe(Snapshot(UDEV, usb_now))
        h.pipeline.observe(Snapshot(ADB, adb_now))
        await h.heard()
        assert (h.pipeline.views.all(), told) == (before, [])


async def test_the_time_to_arrive_is_a_key_of_the_file(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + '[hold]\narrival = "0s"\n' + HOOK) as h:
        h.see(usb("ce09"))
        h.wait(5)
        assert await h.came() == [("ce09", "Offline")]
