"""Many phones at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.lab import ONLINE, UNPLUGGED

if TYPE_CHECKING:
    from tests.lab.lab import Lab

STORM = 60
STORM_LIMIT = 600.0
"""Seconds. Emulated, sixty phones take a minute to be enumerated and to shake hands with adb."""


def test_a_storm_of_phones(lab: Lab) -> None:
    """Plugged at once; all pulled and back within the hold; pulled at once."""
    lab.fresh(offline="600s", unplugged="60s")
    serials = [f"STORM{number:03}" for number in range(1, STORM + 1)]
    lab.phones("plug_many", kind="android", count=STORM, prefix="STORM")
    lab.expect({serial: [ONLINE] for serial in serials}, STORM_LIMIT)
    lab.phones("unplug_many", serials=serials)
    lab.phones("plug_many", kind="android", count=STORM, prefix="STORM")
    lab.until(
        lambda: lab.adb() == dict.fromkeys(serials, "device"),
        "adb to list all again",
        STORM_LIMIT,
    )
    lab.phones("unplug_many", serials=serials)
    lab.expect({serial: [ONLINE, UNPLUGGED] for serial in serials}, STORM_LIMIT)


def test_a_hub_with_ten_phones_lost_at_once(lab: Lab) -> None:
    lost = [f"HUB{number:03}" for number in range(1, 11)]
    lab.phones("plug_many", kind="android", count=10, prefix="HUB", hub=3)
    lab.plug("android", "NEIGHBOUR", hub=4)
    lab.expect({serial: [ONLINE] for serial in [*lost, "NEIGHBOUR"]})
    assert sorted(lab.phones("hub_off", hub=3)["serials"]) == lost
    lab.expect({serial: [ONLINE, UNPLUGGED] for serial in lost} | {"NEIGHBOUR": [ONLINE]})
    # Ten phones of one controller have one cause, and all of them have it.
    cause = lab.api("GET", "/v1/causes")[1]["causes"][0]
    assert cause["kind"] == "controller", cause
    assert sorted(cause["devices"]) == lost
    assert not cause["over"]
    rows = {row["udid"]: row for row in lab.api("GET", "/v1/devices")[1]["devices"]}
    told = {(rows[serial]["cause_id"], rows[serial]["reason_code"]) for serial in lost}
    assert told == {(cause["id"], "controller_lost")}
    said = f"lost with controller {cause['place']} (10 phones)"
    assert {rows[serial]["reason"] for serial in lost} == {said}
    lab.phones("hub_on", hub=3)
    back = {serial: [ONLINE, UNPLUGGED, ONLINE] for serial in lost}
    lab.expect(back | {"NEIGHBOUR": [ONLINE]})
    lab.unplug("NEIGHBOUR")
    lab.expect(back | {"NEIGHBOUR": [ONLINE, UNPLUGGED]})
    # One phone has none; and that of the ten is over.
    rows = {row["udid"]: row for row in lab.api("GET", "/v1/devices")[1]["devices"]}
    assert (rows["NEIGHBOUR"]["cause_id"], rows["NEIGHBOUR"]["reason"]) == ("", "")
    newest = lab.api("GET", "/v1/causes")[1]["causes"][0]
    assert (newest["id"], newest["over"]) == (cause["id"], True)
