"""Faults that were found in the field and need a kernel, a real udevd, adb and usbmuxd to show."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.lab.lab import OFFLINE, ONLINE, UNPLUGGED

if TYPE_CHECKING:
    from tests.lab.lab import Lab

FREEZE = "/sys/fs/cgroup/system.slice/device-agent.service/cgroup.freeze"


def _freeze(lab: Lab) -> None:
    """The whole unit stands still, as a paused machine's does; the kernel and udevd go on."""
    lab.vm.write(FREEZE, "1")


def _problems(lab: Lab) -> list[str]:
    problems: list[str] = lab.api("GET", "/v1/status")[1]["problems"]
    return problems


def _thaw(lab: Lab) -> None:
    lab.vm.write(FREEZE, "0")


def test_a_freeze_in_the_middle_of_a_replug_tells_nobody(lab: Lab) -> None:
    """Longer than every hold: what waits in the sockets is read before a hold counts."""
    lab.fresh(offline="8s", unplugged="3s")
    lab.plug("android", "FREEZE01")
    lab.plug("android", "FREEZE02")
    lab.expect({"FREEZE01": [ONLINE], "FREEZE02": [ONLINE]})
    for serial in ("FREEZE01", "FREEZE02", "FREEZE01"):
        # Off and on, with adb's server standing still between the two: the phone is well for long
        # (as far as the kernel and udev know) before anybody looks again.
        lab.phones("unplug", serial=serial)
        _freeze(lab)
        lab.plug("android", serial)
        lab.vm.run("sleep", "12")  # the freeze is the scenario, not a wait for anything
        _thaw(lab)
        lab.until(lambda: set(lab.adb().values()) == {"device"} and len(lab.adb()) == 2, "adb")
        lab.until_state(serial, "online")
    lab.unplug("FREEZE01")
    lab.unplug("FREEZE02")
    last = [ONLINE, UNPLUGGED]
    lab.expect({"FREEZE01": last, "FREEZE02": last})


def test_udevd_killed_while_phones_are_pulled(lab: Lab) -> None:
    """Its control socket stays, no event is sent: the comparison with sysfs finds it."""
    lab.fresh(offline="10s", source_grace="240s")
    lab.plug("android", "PULLED01", mode="mtp")
    lab.until_state("PULLED01", "offline", "USB debugging is off")
    lab.vm.sh(
        "systemctl mask --runtime systemd-udevd; "
        "systemctl kill -s KILL systemd-udevd; [ -e /run/udev/control ]"
    )
    try:
        lab.unplug("PULLED01")
        lab.until_state("PULLED01", "unplugged")
    finally:
        lab.vm.sh("systemctl unmask --runtime systemd-udevd; systemctl start systemd-udevd")
    lab.expect({"PULLED01": [OFFLINE, UNPLUGGED]})


def test_a_synthetic_remove_while_the_phone_stays(lab: Lab) -> None:
    lab.fresh(offline="10s", arrival="60s")
    lab.plug("android", "SYNTH01", mode="mtp")
    lab.until_state("SYNTH01", "offline", "USB debugging is off")
    path = lab.device("SYNTH01")["port"]
    lab.vm.run("udevadm", "trigger", "--action=remove", f"/sys/bus/usb/devices/{path}")
    lab.vm.run("udevadm", "settle")
    lab.plug("android", "SYNTH02")
    lab.until_state("SYNTH02", "online")
    lab.until_state("SYNTH01", "offline", "USB debugging is off")
    lab.unplug("SYNTH01")
    lab.until_state("SYNTH01", "unplugged")
    lab.unplug("SYNTH02")
    lab.until_state("SYNTH02", "unplugged")
    told = lab.told()
    # Whether a comparison comes before the hold of `unplugged` has passed is chance; in the end
    # it is told rightly, and nothing twice.
    assert told["SYNTH01"] in (
        [OFFLINE, UNPLUGGED],
        [OFFLINE, UNPLUGGED, OFFLINE, UNPLUGGED],
    ), told
    assert told["SYNTH02"] == [ONLINE, UNPLUGGED]


def test_udevd_stopped_with_a_phone_that_only_it_sees(lab: Lab) -> None:
    """A udev that was there and is down is unknown: the phone keeps its state."""
    lab.fresh(offline="10s", arrival="60s")
    lab.plug("android", "ONLYUDEV01", mode="mtp")
    lab.plug("android", "BOTH01")
    lab.until_state("ONLYUDEV01", "offline", "USB debugging is off")
    lab.until_state("BOTH01", "online")
    lab.vm.run("systemctl", "stop", "systemd-udevd.service", "systemd-udevd-control.socket")
    lab.vm.run("systemctl", "stop", "systemd-udevd-kernel.socket", "systemd-udevd.service")
    lab.until(lambda: any("udev" in problem for problem in _problems(lab)), "udev to be down")
    lab.vm.run("systemctl", "start", "systemd-udevd-control.socket", "systemd-udevd.service")
    lab.vm.run("systemctl", "start", "systemd-udevd-kernel.socket")
    lab.unplug("BOTH01")
    lab.until_state("BOTH01", "unplugged")
    lab.unplug("ONLYUDEV01")
    lab.expect({"ONLYUDEV01": [OFFLINE, UNPLUGGED], "BOTH01": [ONLINE, UNPLUGGED]})


def test_eighty_known_phones_at_once_are_not_offline_first(lab: Lab) -> None:
    """Some of them come to adb long after they came to udev: they are arriving."""
    serials = [f"KNOWN{number:03}" for number in range(1, 81)]
    # adb lists some as `offline` while it shakes hands with all: that is no word on arriving.
    lab.fresh(offline="20s", arrival="300s")
    lab.phones("plug_many", kind="android", count=80, prefix="KNOWN")
    lab.expect({serial: [ONLINE] for serial in serials}, 600)
    lab.phones("unplug_many", serials=serials)
    lab.expect({serial: [ONLINE, UNPLUGGED] for serial in serials}, 600)
    lab.phones("plug_many", kind="android", count=80, prefix="KNOWN")
    lab.expect({serial: [ONLINE, UNPLUGGED, ONLINE] for serial in serials}, 600)
    lab.phones("unplug_many", serials=serials)
    lab.expect({serial: [ONLINE, UNPLUGGED, ONLINE, UNPLUGGED] for serial in serials}, 600)


def test_a_cable_that_flickers_for_long_is_told_and_shown(lab: Lab) -> None:
    """Off the bus for 1.5 s, on it without adb for 3 s: never in one state for its whole hold."""
    lab.fresh(offline="10s", unplugged="6s", arrival="5s")
    lab.plug("android", "FLICKER01")
    lab.expect({"FLICKER01": [ONLINE]})
    lab.phones("mode", serial="FLICKER01", mode="mtp", delay=1.5)
    for _ in range(12):
        lab.phones("replug", serial="FLICKER01", delay=1.5, times=1)
        if lab.device("FLICKER01")["state"] != "online":
            break
        lab.vm.run("sleep", "3")  # the flicker's own rhythm
    lab.until(lambda: lab.device("FLICKER01")["state"] != "online", "it to count as away")
    lab.unplug("FLICKER01")
    lab.until_state("FLICKER01", "unplugged")
    told = lab.told()["FLICKER01"]
    assert told[0] == ONLINE
    assert told[-1] == UNPLUGGED
    assert all(one != other for one, other in itertools.pairwise(told)), told


def test_twins_keep_their_names_while_they_are_there(lab: Lab) -> None:
    lab.plug("android", "TWIN-A", usb_serial="TWIN01", hub=1)
    lab.expect({"TWIN01": [ONLINE]})
    lab.plug("android", "TWIN-B", usb_serial="TWIN01", hub=2)
    lab.until(lambda: len(lab.callbacks()) == 2, "the second twin")
    (second,) = set(lab.told()) - {"TWIN01"}
    assert second.startswith("TWIN01@")
    lab.unplug("TWIN-A")
    lab.expect({"TWIN01": [ONLINE, UNPLUGGED], second: [ONLINE]})
    lab.unplug("TWIN-B")
    lab.expect({"TWIN01": [ONLINE, UNPLUGGED], second: [ONLINE, UNPLUGGED]})


def test_a_phone_in_its_boot_rom_is_offline_with_the_mode(lab: Lab) -> None:
    lab.fresh(offline="5s", unplugged="30s")
    lab.plug("android", "EDL01")
    lab.until_state("EDL01", "online")
    lab.phones("mode", serial="EDL01", mode="edl", delay=1.0)
    lab.until_state("EDL01", "offline", "EDL")
    lab.phones("mode", serial="EDL01", mode="adb", delay=1.0)
    lab.until_state("EDL01", "online")
    lab.unplug("EDL01")
    lab.expect({"EDL01": [ONLINE, OFFLINE, ONLINE, UNPLUGGED]})


def test_a_phone_that_the_host_does_not_authorize_says_so(lab: Lab) -> None:
    """As USBGuard does it: sysfs `authorized` is 0, the kernel configures nothing."""
    lab.fresh(offline="5s", unplugged="30s")
    lab.plug("android", "BLOCKED01")
    lab.until_state("BLOCKED01", "online")
    path = lab.device("BLOCKED01")["port"]
    lab.vm.sh(f"echo 0 >/sys/bus/usb/devices/{path}/authorized")
    lab.until_state("BLOCKED01", "offline", "USB authorization")
    lab.vm.sh(f"echo 1 >/sys/bus/usb/devices/{path}/authorized")
    lab.until_state("BLOCKED01", "online")
    lab.unplug("BLOCKED01")
    lab.expect({"BLOCKED01": [ONLINE, OFFLINE, ONLINE, UNPLUGGED]})


def test_an_iphone_while_usbmuxd_cannot_run_says_so(lab: Lab) -> None:
    lab.fresh(offline="5s", source_grace="5s", arrival="5s")
    udid = "00008110-000A1B2C3D4E5FA1"
    lab.vm.run("systemctl", "mask", "--runtime", "--now", "usbmuxd")
    try:
        lab.plug("iphone", udid.replace("-", ""))
        lab.expect({udid: [OFFLINE]})
        lab.until_state(udid, "offline", "attached over USB all the same")
        lab.unplug(udid.replace("-", ""))
        lab.expect({udid: [OFFLINE, UNPLUGGED]})
    finally:
        lab.vm.run("systemctl", "unmask", "--runtime", "usbmuxd")
