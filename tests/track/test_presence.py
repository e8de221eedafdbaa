"""Whose word is the presence: udev's, or the bridge's list; and what an answer proves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.model import (
    Bridge,
    DeviceState,
    Down,
    Gone,
    Platform,
    Sighting,
    Snapshot,
    SourceName,
    Usage,
    UsageReading,
    UsbKind,
)
from agent.service.leases import candidates
from agent.sources.registry import remote_bridges
from agent.subscribers import Topic
from tests.kit.tracking import ADB, HOOK, UDEV, USBMUX, adb, house, reconfigure, usb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.model import Observation
    from tests.kit.tracking import House

NO_UDEVD = "udevd is not running"
UDID = "00008110-000A1234A1B2C3D4"
EMERGENCY = "in emergency download mode (EDL)"
BLOCKED = "blocked on this host by USB authorization"


def iphone(bridge: Bridge = Bridge.READY, *, network: bool = False) -> Sighting:
    return Sighting(USBMUX, "3", UDID, Platform.IOS, bridge=bridge, reason="", network=network)


async def fastboot(h: House) -> None:
    """A phone that only udev sees, and that counts as offline."""
    h.see(replace(usb("ce09"), usb=UsbKind.FASTBOOT))
    h.wait(5)
    assert await h.came() == [("ce09", "Offline")]


# --- A5: a udev that cannot see says nothing -------------------------------------------------


async def test_a_phone_that_only_udev_sees_keeps_its_state_while_udev_is_down(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        await fastboot(h)
        before = h.state("ce09")
        h.pipeline.observe(Down(UDEV, NO_UDEVD))
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(3600)
        assert h.state("ce09") == before == (DeviceState.OFFLINE, "in the bootloader (fastboot)")
        h.pipeline.observe(Snapshot(UDEV, (replace(usb("ce09"), usb=UsbKind.FASTBOOT),)))
        h.wait(60)
        assert await h.came() == [("ce09", "Offline")]


@pytest.mark.parametrize("missing", [False, True])
async def test_a_udev_that_is_slow_at_the_start_is_unknown_and_one_that_never_was_is_not(
    tmp_path: Path, *, missing: bool
) -> None:
    async with house(tmp_path) as h:
        await fastboot(h)
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(ADB, ()))
        if missing:
            h.pipeline.observe(Down(UDEV, NO_UDEVD, missing=True))
        h.pipeline.start_deriving()
        h.wait(3600)
        assert await h.came() == ([("ce09", "Unplugged")] if missing else [])


async def test_a_udevd_that_came_and_went_was_there(tmp_path: Path) -> None:
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.pipeline.observe(Down(UDEV, NO_UDEVD, missing=True))
        assert await h.came() == [("ce09", "Online")]
        h.pipeline.observe(Snapshot(UDEV, (usb("ce09"),)))
        h.pipeline.observe(Down(UDEV, NO_UDEVD, missing=True))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(3600)
        assert await h.came() == [("ce09", "Online")]
        assert h.state("ce09") == (DeviceState.ONLINE, f"when last known ({NO_UDEVD})")


async def test_in_a_container_without_udevd_adbs_list_is_the_presence(tmp_path: Path) -> None:
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Down(UDEV, NO_UDEVD, missing=True))
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(3)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]


# --- B6, and an answer is proof ---------------------------------------------------------------

ELSEWHERE = '[ios]\nusbmuxd = "192.0.2.7:27015"\n[android]\nenabled = false\n'
FORWARDED = ELSEWHERE.replace("192.0.2.7", "127.0.0.1")
"""The end of a tunnel looks like this host's own."""


@pytest.mark.parametrize("elsewhere", [ELSEWHERE, FORWARDED])
async def test_an_iphone_of_another_hosts_usbmuxd_is_what_that_says(
    tmp_path: Path, elsewhere: str
) -> None:
    async with house(tmp_path, elsewhere + HOOK) as h:
        h.see(iphone())
        assert h.state(UDID) == (DeviceState.ONLINE, "")
        h.see(iphone(Bridge.NOT_READY))
        h.wait(5)
        h.pipeline.observe(Gone(USBMUX, "3"))
        h.wait(3)
        assert [event for _, event in await h.came()] == ["Online", "Offline", "Unplugged"]


async def test_an_iphone_that_was_never_trusted_behind_a_tunnel_is_offline(tmp_path: Path) -> None:
    async with house(tmp_path, FORWARDED + HOOK) as h:
        h.see(iphone(Bridge.NOT_READY))
        h.wait(5)
        assert [event for _, event in await h.came()] == ["Offline"]


@pytest.mark.parametrize("elsewhere", [ELSEWHERE, FORWARDED])
async def test_a_restart_while_another_hosts_usbmuxd_is_away_changes_nothing(
    tmp_path: Path, elsewhere: str
) -> None:
    async with house(tmp_path, elsewhere + HOOK) as h:
        h.see(iphone())
    async with house(tmp_path, elsewhere + HOOK, derives=False) as h:
        h.pipeline.observe(Snapshot(UDEV, ()))
        h.pipeline.observe(Down(USBMUX, "no route"))
        h.wait(3600)
        assert await h.came() == []


@pytest.mark.parametrize(
    ("server", "here"),
    [
        ("127.0.0.1:5037", True),
        ("localhost:5037", True),
        ("[::1]:5037", True),
        ("127.8.8.8:5037", True),
        ("0.0.0.0:5037", True),
        ("/run/adb.sock", True),
        ("192.0.2.7:5037", False),
        ("[2001:db8::7]:5037", False),
        ("adb.example:5037", False),
    ],
)
def test_which_server_is_on_this_host(server: str, *, here: bool) -> None:
    config = parse(f'[android]\nadb_server = "{server}"\n', "test.toml")
    assert (SourceName.ADB not in remote_bridges(config)) is here


async def test_a_phone_of_a_forwarded_adb_server_is_online_with_its_doubt(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        asking = replace(adb("ce09", bridge=Bridge.UNKNOWN), reason="it has not answered yet")
        h.see(asking)
        h.wait(30)
        assert h.state("ce09")[1] == "it has not answered yet"
        h.see(adb("ce09"))
        state, reason = h.state("ce09")
        assert state is DeviceState.ONLINE
        assert "this host's udev does not see it" in reason
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        assert h.state("ce09")[0] is DeviceState.UTILIZING
        h.pipeline.use("ce09", UsageReading(Usage.IDLE))
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        h.wait(5)
        assert h.state("ce09")[0] is DeviceState.OFFLINE, "as far as its bridge can tell"
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(3)
        events = [event for _, event in await h.came()]
        assert events == ["Online", "Utilizing", "Offline", "Unplugged"]


async def test_a_restart_with_a_forwarded_adb_server_tells_nobody_anything(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(adb("ce09"))
        await h.came()
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(UDEV, ()))
        h.pipeline.observe(Snapshot(ADB, (adb("ce09", bridge=Bridge.UNKNOWN),)))
        h.wait(5)
        h.see(adb("ce09"))
        h.wait(60)
        assert await h.came() == []


async def test_a_stalled_adb_that_still_lists_a_phone_does_not_keep_it_plugged_in(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(2)
        h.see(adb("ce09", name="Galaxy"))  # an answer from before, told late
        h.wait(1)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
        assert "adb still lists it" in h.state("ce09")[1]
        h.pipeline.observe(Down(ADB, "hangs"))
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.wait(60)
        assert len(await h.came()) == 2, "a list read anew is no answer"


async def test_a_phone_that_answers_after_udev_lost_it_is_there(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.see(adb("ce09", bridge=Bridge.UNKNOWN))
        h.wait(1)
        h.see(adb("ce09"))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]
        assert "udev does not see it" in h.state("ce09")[1]
        h.see(usb("ce09"))
        assert h.state("ce09") == (DeviceState.ONLINE, "")
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(3)
        assert len(await h.came()) == 2, "seen by udev again, its word counts again"


async def test_a_stalled_adb_brings_nobody_back_while_udevd_is_started_anew(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(3)
        assert [event for _, event in await h.came()] == ["Online", "Unplugged"]
        h.pipeline.observe(Down(UDEV, NO_UDEVD))
        h.wait(60)
        assert h.state("ce09")[0] is DeviceState.UNPLUGGED, "nobody holds adb's list to account"
        h.see(adb("ce09", name="Galaxy"))  # an answer from before, told late
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.wait(60)
        h.pipeline.observe(Snapshot(UDEV, ()))
        h.wait(60)
        assert len(await h.came()) == 2
        assert "adb still lists it" in h.state("ce09")[1]


async def test_a_phone_pulled_while_udevd_is_stopped_is_unplugged_though_adb_stalls(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Down(UDEV, NO_UDEVD))
        h.wait(60)
        h.pipeline.observe(Snapshot(UDEV, ()))
        h.wait(3)
        assert [event for _, event in await h.came()] == ["Online", "Unplugged"]
        assert "adb still lists it" in h.state("ce09")[1]


async def test_a_phone_that_answers_while_udevd_is_stopped_is_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(3)
        h.pipeline.observe(Down(UDEV, NO_UDEVD))
        h.see(adb("ce09", bridge=Bridge.UNKNOWN))
        h.wait(60)
        h.see(adb("ce09"))
        assert h.state("ce09") == (DeviceState.ONLINE, "")
        events = [event for _, event in await h.came()]
        assert events == ["Online", "Unplugged", "Online"]


@pytest.mark.parametrize("probed", [False, True])
@pytest.mark.parametrize("left", ["before", "meanwhile"])
async def test_a_stalled_adb_brings_nobody_back_over_a_restart_of_the_agent(
    tmp_path: Path, left: str, *, probed: bool
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        if left == "before":
            h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
            h.wait(3)
        await h.came()
    async with house(tmp_path, derives=False) as h:
        first = adb("ce09", bridge=Bridge.UNKNOWN) if probed else adb("ce09")
        h.pipeline.observe(Snapshot(ADB, (first,)))
        h.pipeline.observe(Snapshot(UDEV, ()))
        h.wait(60)
        expected = [] if left == "before" else ["Unplugged"]
        assert [event for _, event in await h.came()] == expected


@pytest.mark.parametrize("first", ["udev", "adb"])
async def test_a_restart_while_the_tunnel_to_the_adb_server_is_down_tells_nobody_anything(
    tmp_path: Path, first: str
) -> None:
    async with house(tmp_path) as h:
        h.see(adb("ce09"))
        await h.came()
    async with house(tmp_path, derives=False) as h:
        said: list[Observation] = [Snapshot(UDEV, ()), Down(ADB, "connection refused")]
        for observation in said if first == "udev" else said[::-1]:
            h.pipeline.observe(observation)
        h.wait(3600)
        assert await h.came() == [], "udev never saw it: that it does not now says nothing"
        assert h.state("ce09")[0] is DeviceState.ONLINE
        h.pipeline.observe(Snapshot(ADB, (adb("ce09", bridge=Bridge.UNKNOWN),)))
        h.see(adb("ce09"))
        h.wait(60)
        assert await h.came() == []
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(3)
        assert await h.came() == [("ce09", "Unplugged")], "its bridge's list is its presence"


@pytest.mark.parametrize("adb_first", [False, True])
async def test_an_unplug_is_on_time_whoever_tells_it_first(
    tmp_path: Path, *, adb_first: bool
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        steps: list[Callable[[], None]] = [
            lambda: h.pipeline.observe(Gone(UDEV, "/devices/1-1")),
            lambda: h.pipeline.observe(Gone(ADB, "ce09")),
        ]
        for step in steps[::-1] if adb_first else steps:
            step()
            h.wait(0.01)
        h.wait(2.99)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]


# --- B12: udev knows why ----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "why"), [(UsbKind.ADB, BLOCKED), (UsbKind.EMERGENCY, EMERGENCY)])
async def test_udevs_reason_is_the_reason_and_needs_no_arrival(
    tmp_path: Path, kind: UsbKind, why: str
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.see(replace(usb("ce09"), usb=kind, reason=why))
        h.wait(5)
        assert h.state("ce09") == (DeviceState.OFFLINE, why)


async def test_an_iphone_arrives_until_usbmuxd_has_had_its_time(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        apple = Sighting(UDEV, "/devices/2-1", UDID, Platform.IOS, "2-1", UsbKind.APPLE)
        h.see(apple)
        assert h.state(UDID) == (DeviceState.OFFLINE, "arriving: not yet seen by usbmuxd")
        h.wait(9)
        h.see(iphone())
        assert await h.came() == [(UDID, "Online")]
        h.pipeline.observe(Gone(USBMUX, "3"))
        h.wait(5)
        assert h.state(UDID)[1].startswith("not seen by usbmuxd")


# --- A8: re-enumerations ------------------------------------------------------------------------


async def test_a_phone_that_re_enumerates_is_flapping_and_not_given_out(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"), usb("calm", "1-2"), adb("calm", "1-2"))
        for _ in range(10):
            h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
            h.pipeline.observe(Gone(ADB, "ce09"))
            h.wait(1)
            h.see(usb("ce09"), adb("ce09"))
            h.wait(2)
        assert await h.came() == [("calm", "Online"), ("ce09", "Online")] or len(h.sent) == 2
        view = h.pipeline.views.one("ce09")
        assert view is not None
        assert (view.state, view.flapping) == (DeviceState.ONLINE, True)
        given = {each.udid: each.online for each in candidates(h.pipeline)}
        assert given == {"ce09": False, "calm": True}
        h.wait(30)
        assert all(each.online for each in candidates(h.pipeline))


# --- A10: turned off by a reload --------------------------------------------------------------

IOS_OFF = "[ios]\nenabled = false\n"
NETWORK = "[ios]\nenabled = false\n[android]\nnetwork_devices = true\n"


def reload(h: House, text: str) -> None:
    config = parse(text + HOOK, "new.toml")
    reconfigure(h.pipeline, config, {129: config.webhooks[0]})


async def test_usb_turned_off_tells_nobody_of_the_phones_that_only_udev_saw(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        await fastboot(h)
        h.see(usb("up", "1-2"), adb("up", "1-2"))
        reload(h, IOS_OFF + "[usb]\nenabled = false\n")
        h.wait(3600)
        assert [view.udid for view in h.pipeline.views.all()] == ["up"]
        assert await h.came() == [("ce09", "Offline"), ("up", "Online")]
        reload(h, IOS_OFF)
        h.pipeline.observe(
            Snapshot(UDEV, (replace(usb("ce09"), usb=UsbKind.FASTBOOT), usb("up", "1-2")))
        )
        h.wait(3600)
        assert len(await h.came()) == 2
        assert [view.udid for view in h.pipeline.views.all()] == ["ce09", "up"]


async def test_usb_turned_off_while_udev_is_down_tells_nobody_either(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await fastboot(h)
        h.pipeline.observe(Down(UDEV, NO_UDEVD))
        reload(h, IOS_OFF + "[usb]\nenabled = false\n")
        h.wait(3600)
        assert await h.came() == [("ce09", "Offline")]
        assert h.pipeline.views.all() == []


@pytest.mark.parametrize("seen", ["by udev alone", "by adb until debugging was turned off"])
@pytest.mark.parametrize("adb_first", [False, True])
async def test_usb_turned_off_between_two_runs_tells_nobody_of_the_phones_that_only_udev_saw(
    tmp_path: Path, seen: str, *, adb_first: bool
) -> None:
    off = replace(usb("ce09"), usb=UsbKind.MTP)
    usb_off = IOS_OFF + "[usb]\nenabled = false\n"
    async with house(tmp_path) as h:
        h.see(usb("up", "1-2"), adb("up", "1-2"))
        if seen != "by udev alone":
            h.see(usb("ce09"), adb("ce09"))
        if adb_first:
            h.pipeline.observe(Gone(ADB, "ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.see(off)
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(60)
        assert (await h.came())[-1] == ("ce09", "Offline")
    async with house(tmp_path, usb_off + HOOK, derives=False) as h:
        h.pipeline.observe(Snapshot(ADB, (adb("up", "1-2"),)))
        h.wait(3600)
        assert await h.came() == []
        assert [view.udid for view in h.pipeline.views.all()] == ["up"], "nothing can be said of it"
    async with house(tmp_path, usb_off + HOOK, derives=False) as h:
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(3600)
        assert await h.came() == [("up", "Unplugged")], "adb's list is the presence of its phones"
    async with house(tmp_path, derives=False) as h:
        h.pipeline.observe(Snapshot(UDEV, (off,)))
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(3600)
        assert await h.came() == []
        assert h.state("ce09")[0] is DeviceState.OFFLINE


async def test_a_platform_turned_off_is_gone_from_every_view(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        told: list[str] = []
        h.news.subscribe(Topic.DEVICE, told.append)
        reload(h, IOS_OFF + "[android]\nenabled = false\n")
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(3600)
        assert h.pipeline.views.all() == []
        assert h.pipeline.views.one("ce09") is None
        assert h.pipeline.views.phones() == ()
        assert h.pipeline.views.census().states == {}
        await h.heard()
        assert "ce09" in told
        assert h.clock.armed == []
        assert await h.came() == [("ce09", "Online")]


async def test_network_devices_turned_off_are_gone_without_a_callback(tmp_path: Path) -> None:
    over_wifi = replace(adb("10.0.0.7:5555", ""), network=True, usb_serial="wifi")
    async with house(tmp_path, NETWORK + HOOK) as h:
        h.see(over_wifi, usb("ce09"), adb("ce09"))
        assert len(await h.came()) == 2
        reload(h, IOS_OFF)
        h.pipeline.observe(Down(ADB, "its configuration changed: reconnecting"))
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.wait(3600)
        assert len(await h.came()) == 2
        assert [view.udid for view in h.pipeline.views.all()] == ["ce09"]
        h.see(usb("wifi", "1-3"), adb("wifi", "1-3"))
        assert [view.udid for view in h.pipeline.views.all()] == ["ce09", "wifi"], "on a cable now"


async def test_what_was_under_way_when_a_phone_was_left_out_is_over(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(2)
        reload(h, IOS_OFF + "[android]\nenabled = false\n")
        h.wait(3600)
        reload(h, IOS_OFF)
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(2.9)
        assert await h.came() == [("ce09", "Online")]
        h.wait(0.1)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
