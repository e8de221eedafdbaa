"""What an agent tells of its phones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.fleet.telling import device_told, transition_told
from agent.fleet.words import TransitionTold, pack, unpack
from agent.model import Bridge, DeviceRecord, DeviceState, Gone, Platform, SilenceKind, Visibility
from tests.kit.tracking import ADB, HOOK, ONLY_ANDROID, UDEV, adb, far, house, usb

if TYPE_CHECKING:
    from pathlib import Path

    from agent.fleet.words import DeviceTold
    from tests.kit.tracking import House

LISTED = '[[devices]]\nudid = "A"\nname = "Door phone"\ntags = ["rack", "door"]\n'


async def stored(made: House, udid: str) -> DeviceTold:
    """As the next snapshot has it."""
    snapshot = await made.store.log.snapshot()
    (found,) = [each for each in snapshot.devices if each[0].udid == udid]
    return device_told(*found, made.pipeline.views, made.silences.now_ms)


async def test_a_phone_is_told_as_it_is_stored_and_shown(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOOK + LISTED) as made:
        made.see(usb("A", "1-4.2"), adb("A", "1-4.2", name="Galaxy"))
        made.wait(60)
        await made.pipeline.commits.drain()
        told = await stored(made, "A")
        assert (told.state, told.event, told.usb, told.port) == ("online", 1, True, "1-4.2")
        assert (told.name, told.tags, told.visibility) == (
            "Door phone",
            ("rack", "door"),
            "private",
        )
        assert told.silence is None
        ends_ms = made.silences.now_ms + 90_000
        await made.silences.add(SilenceKind.TAG, "door", "painting", ends_ms, "alice")
        made.wait(30)
        silence = (await stored(made, "A")).silence
        assert silence is not None
        assert (silence.reason, silence.left) == ("painting", 60.0)
        found = await made.store.log.after(0, 10)
        told_of = transition_told("rack-3", 7, found.rows[0], made.pipeline.views, 0)
        again = unpack(TransitionTold, pack(told_of), "")
        assert again == told_of
        assert (again.id, again.previous, again.device.event) == (1, None, 1)


async def test_a_transition_is_told_with_its_own_code_cause_and_port(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOOK) as made:
        asks = adb("A", "1-4", Bridge.NOT_READY)
        made.see(usb("A", "1-4"), replace(asks, reason="accept it", code="unauthorized"))
        made.wait(60)
        made.pipeline.observe(Gone(ADB, "A"))
        made.pipeline.observe(Gone(UDEV, "/devices/1-4"))
        made.wait(60)
        made.see(usb("A", "1-5"), adb("A", "1-5"))
        made.wait(60)
        await made.pipeline.commits.drain()
        rows = (await made.store.log.after(0, 10)).rows
        shown = made.pipeline.views
        told = [transition_told("rack-3", 7, row, shown, 0).device for row in rows]
        assert [(each.code, each.cause, each.port) for each in told] == [
            ("unauthorized", "", "1-4"),
            ("", "", "1-4"),
            ("", "", "1-5"),
        ]
        older = replace(rows[0].stored.transition, code="melted", cause="hub-1", port="")
        row = rows[0]._replace(stored=rows[0].stored._replace(transition=older))
        device = transition_told("rack-3", 7, row, shown, 0).device
        assert (device.code, device.cause, device.port) == ("melted", "hub-1", "1-5")


async def test_a_state_that_is_not_stored_yet_is_not_told(tmp_path: Path) -> None:
    """Else the hub would have it before its transition."""
    async with house(tmp_path) as made:
        made.see(usb("A"), adb("A"))
        made.wait(60)
        await made.pipeline.commits.drain()
        made.pipeline.observe(Gone(ADB, "A"))
        made.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        told = await stored(made, "A")
        assert (told.state, told.event) == ("online", 1)
        made.wait(600)
        await made.pipeline.commits.drain()
        told = await stored(made, "A")
        assert told.state is DeviceState.UNPLUGGED
        assert told.event == (await made.store.log.state()).newest
        assert told.usb


async def test_how_a_phone_is_connected(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + "[android]\nnetwork_devices = true\n" + HOOK) as made:
        made.see(far("10.0.0.5:5555", "W"))
        made.wait(60)
        await made.pipeline.commits.drain()
        (udid,) = made.pipeline.views.udids()
        assert not (await stored(made, udid)).usb
        made.see(usb("W"), adb("W"))
        made.wait(60)
        await made.pipeline.commits.drain()
        assert (await stored(made, udid)).usb


async def test_who_is_not_shown_is_told_as_such(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        record = DeviceRecord("gone", Platform.IOS, DeviceState.UNPLUGGED, 5, ways="usbmux-network")
        told = device_told(record, 3, made.pipeline.views, 0)
        assert (told.visibility, told.name, told.usb) == (Visibility.IGNORE, "gone", False)
