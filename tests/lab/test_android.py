"""Android phones: the kernel enumerates them, udevd and adb find them, the receiver is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.lab import OFFLINE, ONLINE, UNPLUGGED, UTILIZING

if TYPE_CHECKING:
    from tests.lab.lab import Lab


def test_plug_authorise_use_unplug(lab: Lab) -> None:
    lab.plug("android", "ANDROID01", authorised=False, device_name="Bench phone")
    lab.until_state("ANDROID01", "offline", "unauthorized")
    lab.expect({"ANDROID01": [OFFLINE]})
    lab.phones("set", serial="ANDROID01", authorised=True)
    lab.until_state("ANDROID01", "online")
    lab.use("ANDROID01")
    lab.until_state("ANDROID01", "utilizing", "device-agent use")
    lab.end_use()
    lab.until_state("ANDROID01", "online")
    lab.unplug("ANDROID01")
    lab.expect({"ANDROID01": [OFFLINE, ONLINE, UTILIZING, UNPLUGGED]})
    assert {callback["body"]["deviceName"] for callback in lab.callbacks()} == {"Bench phone"}
