"""Which sources a configuration asks for; each can be turned off, and then nothing is asked."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.model import Platform
from agent.usage.base import Phone
from agent.usage.build import Bridges, plans_of

SERVERS = 'appium = ["http://127.0.0.1:1"]\ngrid = ["http://127.0.0.1:2"]\n'
IPHONE, ANDROID = Phone("I", Platform.IOS, "1"), Phone("A", Platform.ANDROID, "A")


class Counted:
    """The bridges; counts what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bridges = Bridges(
            connect_iphone=self._connect, adb_forwards=self._forwards, adb_host=lambda _: "::1"
        )

    async def _connect(self, _usbmuxd: str, _device: str, port: int) -> None:
        self.asked.append(f"port {port}")
        raise ConnectionRefusedError

    async def _forwards(self, _server: str) -> list[tuple[str, str, str]]:
        self.asked.append("forwards")
        return []


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
    assert set(plans_of(parse(text, "x.toml"), Counted().bridges)) == names


async def test_where_nothing_is_configured_or_attached_nothing_is_asked() -> None:
    counted = Counted()
    sources = {
        name: plan.make() for name, plan in plans_of(parse("", "x.toml"), counted.bridges).items()
    }
    assert {name: list(await source.targets([])) for name, source in sources.items()} == {
        "wda": [],
        "uiautomator2": [],
    }
    await sources["uiautomator2"].targets([IPHONE])
    await sources["wda"].targets([ANDROID])
    assert counted.asked == []
    await sources["uiautomator2"].targets([ANDROID])
    (target,) = await sources["wda"].targets([IPHONE])
    assert await sources["wda"].read(target) == {}
    assert counted.asked == ["forwards", "port 8100"]
