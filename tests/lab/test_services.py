"""What the agent stands on goes away and comes back: nobody is told, and nothing is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.lab import ONLINE, UNPLUGGED

if TYPE_CHECKING:
    from tests.lab.lab import Lab


def test_the_adb_server_killed(lab: Lab) -> None:
    lab.fresh(source_grace="240s")
    lab.plug("android", "ADB01")
    lab.plug("android", "ADB02")
    lab.expect({"ADB01": [ONLINE], "ADB02": [ONLINE]})
    before = lab.vm.run("pgrep", "-x", "adb").out
    lab.vm.run("pkill", "-KILL", "-x", "adb")
    lab.until(lambda: lab.adb().get("ADB02") == "device", "a new adb server to list the phones")
    assert lab.vm.run("pgrep", "-x", "adb").out != before
    lab.unplug("ADB01")
    lab.expect({"ADB01": [ONLINE, UNPLUGGED], "ADB02": [ONLINE]})
    lab.unplug("ADB02")
    lab.expect({"ADB01": [ONLINE, UNPLUGGED], "ADB02": [ONLINE, UNPLUGGED]})


def test_usbmuxd_restarted(lab: Lab) -> None:
    lab.fresh(source_grace="240s")
    lab.plug("iphone", "00008110000A1B2C3D4E5F71")
    udid, other = "00008110-000A1B2C3D4E5F71", "00008110-000A1B2C3D4E5F72"
    lab.expect({udid: [ONLINE]})
    before = lab.unit("MainPID", "usbmuxd")
    lab.vm.run("systemctl", "restart", "usbmuxd")
    assert lab.unit("MainPID", "usbmuxd") not in {before, "0"}
    lab.plug("iphone", "00008110000A1B2C3D4E5F72")
    lab.expect({udid: [ONLINE], other: [ONLINE]})
    lab.unplug("00008110000A1B2C3D4E5F71")
    lab.unplug("00008110000A1B2C3D4E5F72")
    lab.expect({udid: [ONLINE, UNPLUGGED], other: [ONLINE, UNPLUGGED]})


def test_udevd_restarted(lab: Lab) -> None:
    lab.fresh(source_grace="240s")
    lab.plug("android", "UDEV01")
    lab.expect({"UDEV01": [ONLINE]})
    lab.vm.run("systemctl", "restart", "systemd-udevd")
    lab.plug("android", "UDEV02")
    lab.expect({"UDEV01": [ONLINE], "UDEV02": [ONLINE]})
    lab.vm.run("systemctl", "kill", "-s", "KILL", "systemd-udevd")
    lab.vm.until("udevadm settle --timeout=1 && systemctl is-active -q systemd-udevd")
    lab.unplug("UDEV01")
    lab.unplug("UDEV02")
    lab.expect({"UDEV01": [ONLINE, UNPLUGGED], "UDEV02": [ONLINE, UNPLUGGED]})
