"""One row per source: what follows from it is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.doctor.judge import OF_SOURCES
from agent.model import BRIDGE_OF, Platform, SourceName
from agent.sources.registry import (
    ROWS,
    networks_of,
    plans_of,
    platforms_of,
    remote_bridges,
    row_of,
    sources_of,
)

if TYPE_CHECKING:
    from pathlib import Path

EVERY = list(SourceName)


def test_each_source_has_a_row_a_section_and_a_judge(tmp_path: Path) -> None:
    assert [row.name for row in ROWS] == EVERY
    assert set(OF_SOURCES) == set(EVERY)
    config = parse("", "x.toml")
    assert len({type(row.section(config)) for row in ROWS}) == len(EVERY)
    for name, plan in plans_of(config, EVERY, tmp_path).items():
        assert plan.make().name is name


def test_each_platform_has_its_bridge() -> None:
    assert {row_of(name).platform for name in BRIDGE_OF.values()} == set(Platform)
    assert row_of(SourceName.UDEV).platform is None


@pytest.mark.parametrize(
    ("text", "sources", "platforms"),
    [
        ("", EVERY, set(Platform)),
        ("[usb]\nenabled = false", EVERY[1:], set(Platform)),
        ("[android]\nenabled = false", [EVERY[0], EVERY[2]], {Platform.IOS}),
        ("[ios]\nenabled = false", EVERY[:2], {Platform.ANDROID}),
    ],
)
def test_what_is_on(text: str, sources: list[SourceName], platforms: set[Platform]) -> None:
    config = parse(text, "x.toml")
    assert sources_of(config) == sources
    assert platforms_of(config) == platforms


def test_whose_phones_on_the_network_and_on_other_hosts_count() -> None:
    config = parse("[ios]\nnetwork_devices = true\nusbmuxd = '127.0.0.1:27015'", "x.toml")
    assert networks_of(config) == {SourceName.USBMUX}
    assert remote_bridges(config) == {SourceName.USBMUX}
    config = parse("[android]\nadb_server = '192.0.2.7:5037'", "x.toml")
    assert networks_of(config) == set()
    assert remote_bridges(config) == {SourceName.ADB}


def test_a_plan_changes_with_its_section_alone(tmp_path: Path) -> None:
    before = plans_of(parse("", "x.toml"), EVERY, tmp_path)
    after = plans_of(parse("[android]\nprobe_interval = '9s'", "x.toml"), EVERY, tmp_path)
    changed = [name for name in EVERY if before[name].settings != after[name].settings]
    assert changed == [SourceName.ADB]
