"""iPhones: the kernel enumerates them, udevd starts usbmuxd, which finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.lab import OFFLINE, ONLINE, UNPLUGGED, UTILIZING

if TYPE_CHECKING:
    from tests.lab.lab import Lab

USB = "00008110000A1B2C3D4E5F60"
UDID = "00008110-000A1B2C3D4E5F60"


def test_plug_trust_use_unplug(lab: Lab) -> None:
    lab.fresh(offline="5s")
    lab.plug("iphone", USB, trusted=False, device_name="Anna's iPhone")
    lab.expect({UDID: [OFFLINE]})
    lab.until_state(UDID, "offline", "not trusted")
    lab.phones("set", serial=USB, trusted=True)
    lab.until_state(UDID, "online")
    lab.use(UDID)
    lab.until_state(UDID, "utilizing", "in use by root@lab")
    lab.end_use()
    lab.until_state(UDID, "online")
    lab.unplug(USB)
    lab.expect({UDID: [OFFLINE, ONLINE, UTILIZING, UNPLUGGED]})
    assert [callback["body"]["deviceName"] for callback in lab.callbacks()[1:]] == [
        "Anna's iPhone"
    ] * 3


def test_one_that_is_trusted_is_online_at_once(lab: Lab) -> None:
    lab.plug("iphone", "00008110000A1B2C3D4E5F61")
    udid = "00008110-000A1B2C3D4E5F61"
    lab.until_state(udid, "online")
    lab.unplug("00008110000A1B2C3D4E5F61")
    lab.expect({udid: [ONLINE, UNPLUGGED]})
