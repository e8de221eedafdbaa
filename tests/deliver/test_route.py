from __future__ import annotations

from typing import Any

import pytest

from agent.deliver.route import wants
from agent.model import DeviceState, Platform, Visibility
from tests.kit.deliver import make_device, make_webhook

ONLINE = DeviceState.ONLINE


@pytest.mark.parametrize("state", DeviceState)
def test_only_listed_events(state: DeviceState) -> None:
    webhook = make_webhook(events=["offline", "unplugged"])
    expected = state in {DeviceState.OFFLINE, DeviceState.UNPLUGGED}
    assert wants(webhook, make_device(), state) is expected


def test_disabled_wants_nothing() -> None:
    assert not wants(make_webhook(enabled=False), make_device(), ONLINE)


@pytest.mark.parametrize(
    ("visibility", "calls"),
    [("private", True), ("local", True), ("public", False), ("ignore", False)],
)
def test_public_devices_never_call(visibility: str, calls: bool) -> None:
    device = make_device(visibility=Visibility(visibility))
    assert wants(make_webhook(), device, ONLINE) is calls


def test_every_given_kind_of_scope_must_match() -> None:
    device = make_device("CE09", tags=("rack-1", "old"), platform=Platform.ANDROID)
    fits: dict[str, Any] = {
        "devices": ["x*", "ce*"],
        "tags": ["rack-1", "rack-2"],
        "platforms": ["android"],
    }
    misses: dict[str, Any] = {"devices": ["x*"], "tags": ["rack-2"], "platforms": ["ios"]}
    assert wants(make_webhook(**fits), device, ONLINE)
    for kind, fitting in fits.items():
        assert wants(make_webhook(**{kind: fitting}), device, ONLINE)
        assert not wants(make_webhook(**{kind: misses[kind]}), device, ONLINE)
        assert not wants(make_webhook(**{**fits, kind: misses[kind]}), device, ONLINE)
