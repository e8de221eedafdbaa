"""Which sources a configuration asks for; each can be turned off, and then nothing is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.model import Platform
from agent.usage.base import Phone
from agent.usage.registry import plans_of
from tests.fakes.fake_adb_host import FakeAdbHost
from tests.fakes.usbmuxd import FakeUsbmuxd
from tests.kit.clock import StubClock

if TYPE_CHECKING:
    from pathlib import Path

SERVERS = 'appium = ["http://127.0.0.1:1"]\ngrid = ["http://127.0.0.1:2"]\n'
IPHONE, ANDROID = Phone("I", Platform.IOS, "1"), Phone("A", Platform.ANDROID, "A")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", {"wda", "uiautomator2"}),
        (f"[usage]\n{SERVERS}", {"appium", "grid", "wda", "uiautomator2"}),
        ("[usage]\nappium = []\ngrid = []\nwda = false\nuiautomator2 = false", set()),
        ("[usage]\nwda = false", {"uiautomator2"}),
        ("[usage]\nuiautomator2 = false", {"wda"}),
        ("[ios]\nenabled = false", {"uiautomator2"}),
        ("[android]\nenabled = false", {"wda"}),
        ("[usage.plugins.booking]\nurl = 'x'", {"booking", "wda", "uiautomator2"}),
    ],
)
def test_each_source_can_be_turned_off(text: str, names: set[str]) -> None:
    assert set(plans_of(parse(text, "x.toml"), str, StubClock())) == names


async def test_where_nothing_is_configured_or_attached_nothing_is_asked(tmp_path: Path) -> None:
    async with FakeAdbHost() as adb, FakeUsbmuxd(tmp_path / "mux") as mux:
        adb.raw["host:list-forward"] = ""
        mux.attach("I", device_id=1)
        text = f'[android]\nadb_server = "{adb.address}"\n[ios]\nusbmuxd = "{mux.address}"'
        sources = {
            name: plan.make()
            for name, plan in plans_of(parse(text, "x.toml"), str, StubClock()).items()
        }
        assert {name: list(await source.targets([])) for name, source in sources.items()} == {
            "wda": [],
            "uiautomator2": [],
        }
        await sources["uiautomator2"].targets([IPHONE])
        await sources["wda"].targets([ANDROID])
        assert (dict(adb.requests), mux.requests) == ({}, [])
        await sources["uiautomator2"].targets([ANDROID])
        (target,) = await sources["wda"].targets([IPHONE])
        assert await sources["wda"].read(target) == {}
        assert dict(adb.requests) == {"host:list-forward": 1}
        assert mux.requests == ["Connect"]
        assert target.key == "port 8100 of I"
