"""What a device's state stands on: what is read of it, and since when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.model import Bridge, Down, Gone, Usage, UsageReading
from tests.kit.tracking import ADB, ONLY_ANDROID, UDEV, adb, house, usb

if TYPE_CHECKING:
    from pathlib import Path

HOLDS = '[hold]\noffline = "0s"\nunplugged = "3s"\narrival = "0s"\n'


async def test_since_when_it_is_read_as_it_is(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOLDS) as h:
        h.wait(10)
        plugged = h.clock.wall_ms()
        h.see(usb("ce09"), adb("ce09", bridge=Bridge.NOT_READY))
        h.wait(10)
        trusted = h.clock.wall_ms()
        h.see(adb("ce09"))
        h.wait(10)
        h.see(adb("ce09", name="another name"))
        grounds = h.pipeline.views.grounds("ce09")
        assert (grounds.presence_ms, grounds.bridge_ms) == (plugged, trusted)
        assert [each.source for each in grounds.sightings] == [ADB, UDEV]
        down = h.clock.wall_ms()
        h.pipeline.observe(Down(ADB, "the server died"))
        h.wait(1)
        grounds = h.pipeline.views.grounds("ce09")
        assert (grounds.readings.bridge, grounds.bridge_ms) == (Bridge.UNKNOWN, down)
        assert grounds.presence_ms == plugged
        assert [each.source for each in grounds.sightings] == [UDEV]


async def test_another_reason_is_another_reading(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOLDS) as h:
        shy = adb("ce09", bridge=Bridge.NOT_READY)
        h.see(usb("ce09"), replace(shy, reason="unauthorized"))
        h.wait(5)
        now = h.clock.wall_ms()
        h.see(replace(shy, reason="recovery"))
        h.wait(5)
        assert h.pipeline.views.grounds("ce09").bridge_ms == now


async def test_a_device_that_was_only_stored_or_listed_has_no_times(tmp_path: Path) -> None:
    listed = '[[devices]]\nudid = "r58m"\n'
    async with house(tmp_path, ONLY_ANDROID + HOLDS + listed, derives=False) as h:
        grounds = h.pipeline.views.grounds("r58m")
        assert (grounds.presence_ms, grounds.bridge_ms, grounds.usage_ms) == (0, 0, 0)
        assert grounds.sightings == ()


async def test_who_uses_it_and_since_when(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOLDS) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.wait(5)
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice", "", 12_345))
        grounds = h.pipeline.views.grounds("ce09")
        assert (grounds.readings.holder, grounds.usage_ms) == ("alice", 12_345)
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(60)
        assert h.pipeline.views.grounds("ce09").sightings == ()
