"""Android phones: the kernel enumerates them, udevd and adb find them, the receiver is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.lab import OFFLINE, ONLINE, UNPLUGGED, UTILIZING

if TYPE_CHECKING:
    from tests.lab.lab import Lab


def test_plug_authorise_use_unplug(lab: Lab) -> None:
    lab.fresh(offline="5s")
    lab.plug("android", "ANDROID01", authorised=False, device_name="Bench phone")
    lab.expect({"ANDROID01": [OFFLINE]})
    lab.until_state("ANDROID01", "offline", "unauthorized")
    lab.phones("set", serial="ANDROID01", authorised=True)
    lab.until_state("ANDROID01", "online")
    lab.use("ANDROID01")
    lab.until_state("ANDROID01", "utilizing", "in use by root@lab")
    lab.end_use()
    lab.until_state("ANDROID01", "online")
    lab.unplug("ANDROID01")
    lab.expect({"ANDROID01": [OFFLINE, ONLINE, UTILIZING, UNPLUGGED]})
    assert [callback["body"]["deviceName"] for callback in lab.callbacks()[1:]] == [
        "Bench phone"
    ] * 3


def test_a_mode_switch_within_the_holds_tells_nobody(lab: Lab) -> None:
    lab.fresh(unplugged="30s")
    lab.plug("android", "MODES01")
    lab.until_state("MODES01", "online")
    for mode in ("mtp+adb", "tethering+adb", "adb"):
        lab.phones("mode", serial="MODES01", mode=mode, delay=1.0)
    lab.until(lambda: lab.adb() == {"MODES01": "device"}, "adb to list it again")
    lab.unplug("MODES01")
    lab.expect({"MODES01": [ONLINE, UNPLUGGED]})


def test_debugging_turned_off_and_a_reboot_to_fastboot_are_offline(lab: Lab) -> None:
    lab.fresh(offline="20s", unplugged="30s")
    lab.plug("android", "BOOTS01")
    lab.until_state("BOOTS01", "online")
    lab.phones("mode", serial="BOOTS01", mode="mtp", delay=1.0)
    lab.until_state("BOOTS01", "offline", "USB debugging is off")
    lab.phones("mode", serial="BOOTS01", mode="adb", delay=1.0)
    lab.until_state("BOOTS01", "online")
    lab.phones("mode", serial="BOOTS01", mode="fastboot", delay=1.0)
    lab.until_state("BOOTS01", "offline", "bootloader")
    lab.phones("mode", serial="BOOTS01", mode="adb", delay=1.0)
    lab.until_state("BOOTS01", "online")
    lab.unplug("BOOTS01")
    lab.expect({"BOOTS01": [ONLINE, OFFLINE, ONLINE, OFFLINE, ONLINE, UNPLUGGED]})


def test_a_wedged_phone_is_offline_until_it_answers(lab: Lab) -> None:
    lab.fresh('[android]\nprobe_interval = "5s"\n', offline="20s")
    lab.plug("android", "WEDGED01")
    lab.plug("android", "BESIDE01")
    lab.until_state("WEDGED01", "online")
    lab.until_state("BESIDE01", "online")
    lab.phones("set", serial="WEDGED01", wedged=True)
    lab.until_state("WEDGED01", "offline", "unresponsive")
    lab.phones("set", serial="WEDGED01", wedged=False)
    lab.until_state("WEDGED01", "online")
    lab.unplug("WEDGED01")
    lab.unplug("BESIDE01")
    lab.expect({"WEDGED01": [ONLINE, OFFLINE, ONLINE, UNPLUGGED], "BESIDE01": [ONLINE, UNPLUGGED]})
