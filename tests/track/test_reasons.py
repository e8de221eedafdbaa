"""Which code goes with which reason, from what the sources see to what is stored and shown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.model import (
    Bridge,
    DeviceState,
    Down,
    Gone,
    Observation,
    Platform,
    Sighting,
    Snapshot,
    Usage,
    UsageReading,
    UsbKind,
)
from agent.reasons import LONGEST, Reason, ReasonCode, code_of
from agent.sources.adb_states import reading
from agent.track.records import restored
from tests.docs.pages import ROOT
from tests.kit.tracking import ADB, HOOK, ONLY_ANDROID, UDEV, USBMUX, adb, far, house, usb

if TYPE_CHECKING:
    from pathlib import Path

UDID = "00008110-000A1234A1B2C3D4"
LISTED = '[[devices]]\nudid = "r58m"\n'
BY_CAUSES = {"HUB_LOST", "CONTROLLER_LOST", "SOURCE_LOST"}
"""Of what took several phones at once: nobody tells them of one phone alone."""


def shy(state: str, serial: str = "ce09") -> Sighting:
    """A phone as adb's own word for its state has it."""
    bridge, reason = reading(state)
    row = adb(serial, bridge=bridge)
    return replace(row, reason=reason.text, code=reason.code)


def iphone(kind: UsbKind) -> Sighting:
    serial = UDID.replace("-", "") if kind is UsbKind.APPLE else "ECID:000A1234A1B2C3D4"
    return Sighting(UDEV, "/devices/2-1", serial, Platform.IOS, "2-1", kind)


def on_usb(kind: UsbKind, reason: Reason | None = None) -> Sighting:
    reason = reason or Reason()
    return replace(usb("ce09"), usb=kind, reason=reason.text, code=reason.code)


SEEN: list[tuple[list[Sighting | Observation], str]] = [
    ([usb("ce09"), adb("ce09")], ""),
    ([usb("ce09"), shy("unauthorized")], "unauthorized"),
    ([usb("ce09"), shy("offline")], "unresponsive"),
    ([usb("ce09"), shy("levitating")], "not_ready"),
    ([usb("ce09"), adb("ce09", bridge=Bridge.NOT_READY)], "not_ready"),
    ([usb("ce09")], "not_seen_by_adb"),
    ([on_usb(UsbKind.MTP)], "debugging_off"),
    ([on_usb(UsbKind.FASTBOOT)], "bootloader"),
    ([on_usb(UsbKind.ADB, Reason("blocked on this host", ReasonCode.BLOCKED))], "blocked"),
    (
        [usb("ce09"), on_usb(UsbKind.EMERGENCY, Reason("in EDL", ReasonCode.EMERGENCY_MODE))],
        "emergency_mode",
    ),
    ([iphone(UsbKind.APPLE)], "not_seen_by_usbmuxd"),
    ([usb("ce09"), Down(ADB, "no adb server")], "source_down"),
    ([adb("ce09"), Down(UDEV, "no udevd", missing=True)], "source_down"),
    ([iphone(UsbKind.APPLE), Down(USBMUX, "no pip", code="ios_support_missing")],
     "ios_support_missing"),
    ([adb("ce09")], "not_on_usb"),
    ([usb("ce09"), adb("ce09"), Gone(UDEV, "/devices/1-1")], "left_usb"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "code"), SEEN)
async def test_what_is_seen_makes_the_code(
    tmp_path: Path, seen: list[Sighting | Observation], code: str
) -> None:
    async with house(tmp_path, HOOK) as h:
        for each in seen:
            if isinstance(each, Sighting):
                h.see(each)
            else:
                h.wait(20)
                h.pipeline.observe(each)
        h.wait(300)
        (view,) = h.pipeline.views.all()
        assert view.code == code
        await h.pipeline.commits.drain()
        (record,) = await h.store.devices.all()
        newest = await h.store.transitions.newest()
        assert record.code == code
        assert newest is not None
        if isinstance(seen[-1], Sighting):
            assert newest.transition.code == code
        assert restored(record).code == code


async def test_what_is_only_shown_has_a_code_too(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOOK + LISTED) as h:

        def code(udid: str) -> str:
            view = h.pipeline.views.one(udid)
            assert view is not None
            return view.code

        assert code("r58m") == "never_seen"
        h.see(usb("ce09"))
        assert code("ce09") == "arriving"
        h.see(shy("unauthorized"))
        assert code("ce09") == "arriving", "it does not count yet"
        h.wait(10)
        assert code("ce09") == "unauthorized"
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        h.wait(10)
        assert code("ce09") == "unauthorized", "the first reason's; it is held, too"
        h.see(adb("ce09"))
        h.wait(10)
        assert code("ce09") == "in_use"
        h.pipeline.use("ce09", UsageReading(Usage.UNKNOWN, "alice", "appium hangs"))
        assert code("ce09") == "usage_unknown"
        h.pipeline.use("ce09", UsageReading())
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(60)
        assert code("ce09") == ""
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "bob"))
        assert code("ce09") == "in_use", "nothing else is told of it"


async def test_a_serial_that_is_shared_or_not_told_has_a_code(tmp_path: Path) -> None:
    network = ONLY_ANDROID.replace("[ios]", "[android]\nnetwork_devices = true\n[ios]")
    async with house(tmp_path, network + HOOK) as h:
        h.see(usb("0123"), usb("0123", "1-2"), far("10.0.0.5:5555"))
        rows = [replace(adb("0123", port), address=f"0123#{port}") for port in ("1-1", "1-2")]
        h.see(*rows)
        h.wait(60)
        codes = {view.udid: view.code for view in h.pipeline.views.all()}
        assert codes.pop("10.0.0.5:5555") == "no_serial"
        assert set(codes.values()) == {"shared_serial"}
        h.pipeline.observe(Snapshot(UDEV, ()))
        bare = [replace(row, port="", address=f"0123#{n}") for n, row in enumerate(rows)]
        h.pipeline.observe(Snapshot(ADB, (*bare, replace(bare[0], address="0123#7"))))
        h.wait(60)
        assert "nameless" in {view.code for view in h.pipeline.views.all()}


async def test_a_transition_tells_where_the_phone_hung(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOOK) as h:
        h.see(usb("ce09", "1-4.2"), adb("ce09", "1-4.2"))
        h.wait(10)
        h.pipeline.observe(Gone(UDEV, "/devices/1-4.2"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.wait(60)
        h.see(usb("ce09", "1-4.3"), replace(shy("unauthorized"), port="1-4.3"))
        h.wait(60)
        await h.pipeline.commits.drain()
        stored = [each.transition for each in await h.store.transitions.after(0, 9)]
        assert [(each.state, each.port, each.code) for each in stored] == [
            (DeviceState.ONLINE, "1-4.2", ""),
            (DeviceState.UNPLUGGED, "1-4.2", ""),
            (DeviceState.OFFLINE, "1-4.3", "unauthorized"),
        ]


async def test_another_code_alone_is_news_too(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOOK) as h:
        h.see(usb("ce09"), shy("unauthorized"))
        h.wait(20)
        h.see(replace(shy("unauthorized"), code="authorizing"))
        await h.pipeline.commits.drain()
        (record,) = await h.store.devices.all()
        assert record.code == "authorizing"


def test_every_code_is_given_by_somebody() -> None:
    sources = "".join(
        path.read_text() for path in (ROOT / "agent").rglob("*.py") if path.name != "reasons.py"
    )
    idle = {code.name for code in ReasonCode if f"ReasonCode.{code.name}" not in sources}
    assert idle <= BY_CAUSES


def test_each_code_is_told_once_and_can_be_sent() -> None:
    assert len({code.meaning for code in ReasonCode}) == len(ReasonCode)
    for code in ReasonCode:
        assert code_of(code) == code
        assert code.meaning.endswith((".", "?"))
        assert "|" not in code.meaning, "it stands in a table"


@pytest.mark.parametrize(
    "told", ["", "Unauthorized", "a b", "a\n", "é", "x" * (LONGEST + 1), "a-b", "٣"]
)
def test_what_is_no_code_is_none(told: str) -> None:
    assert code_of(told) == ""
    assert code_of("x" * LONGEST) == "x" * LONGEST


def test_reasons_are_joined_and_the_first_code_is_kept() -> None:
    one, two, none = Reason("a", "x"), Reason("b", "y"), Reason()
    assert one.and_(two) == ("a; b", "x")
    assert one.and_(none) == one
    assert none.and_(two) == two
    assert none.and_(none) == none
    assert not none
