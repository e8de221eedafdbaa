"""The agent itself is stopped, killed, reloaded, wedged; the machine loses its power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.lab import CONFIG, ONLINE, SETTINGS, UNPLUGGED

if TYPE_CHECKING:
    from tests.lab.lab import Lab


def test_what_changed_while_it_was_stopped_is_told_once(lab: Lab) -> None:
    lab.plug("android", "GOES")
    lab.plug("android", "STAYS")
    lab.expect({"GOES": [ONLINE], "STAYS": [ONLINE]})
    lab.vm.run("systemctl", "stop", "device-agent")
    lab.unplug("GOES")
    lab.plug("android", "COMES")
    lab.vm.run("systemctl", "start", "device-agent", limit=300)
    lab.expect({"GOES": [ONLINE, UNPLUGGED], "STAYS": [ONLINE], "COMES": [ONLINE]})
    lab.unplug("STAYS")
    lab.unplug("COMES")
    last = [ONLINE, UNPLUGGED]
    lab.expect({"GOES": last, "STAYS": last, "COMES": last})


def test_killed_with_callbacks_waiting(lab: Lab) -> None:
    lab.plug("android", "KILLED01")
    lab.expect({"KILLED01": [ONLINE]})
    lab.answer("hang")
    lab.unplug("KILLED01")
    lab.until(lambda: len(lab.pending()) == 1, "a callback to wait for its answer")
    before, restarts = lab.unit("MainPID"), int(lab.unit("NRestarts"))
    lab.vm.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "device-agent")
    lab.vm.until(f"[ $(systemctl show --value -p NRestarts device-agent) = {restarts + 1} ]")
    lab.vm.until("systemctl is-active -q device-agent", limit=300)
    assert lab.unit("MainPID") != before
    lab.answer("204")
    lab.expect({"KILLED01": [ONLINE, UNPLUGGED]})


def test_reload_takes_a_good_file(lab: Lab) -> None:
    before = lab.unit("MainPID")
    second = """
[[webhooks]]
id = 2
name = "second"
url = "http://127.0.0.1:8700/second"
events = ["unplugged"]
"""
    lab.vm.write(CONFIG, SETTINGS + second)
    lab.vm.run("systemctl", "reload", "device-agent")
    assert lab.unit("MainPID") == before
    assert "second" in lab.vm.run("device-agent", "webhooks", "list").out


def test_reload_refuses_a_bad_file_and_changes_nothing(lab: Lab) -> None:
    before, (_, webhooks) = lab.unit("MainPID"), lab.api("GET", "/v1/webhooks")
    lab.vm.write(CONFIG, SETTINGS.replace("events =", "evnts =").replace("org_id = 7", "org_id ="))
    refused = lab.vm.run("systemctl", "reload", "device-agent", ok=False)
    assert refused.code != 0
    lab.vm.write(CONFIG, SETTINGS.replace("events =", "evnts ="))
    refused = lab.vm.run("systemctl", "reload", "device-agent", ok=False)
    assert refused.code != 0
    journal = lab.journal("-n", "50")
    assert f"{CONFIG}:3:" in journal, "the line that is no TOML"
    assert "did you mean 'events'?" in journal
    assert lab.unit("ActiveState") == "active"
    assert lab.unit("MainPID") == before
    assert lab.api("GET", "/v1/webhooks")[1]["webhooks"] == webhooks["webhooks"]
    lab.plug("android", "RELOAD01")
    lab.expect({"RELOAD01": [ONLINE]})
    lab.unplug("RELOAD01")
    lab.expect({"RELOAD01": [ONLINE, UNPLUGGED]})


def test_the_watchdog_restarts_it_when_it_is_wedged(lab: Lab) -> None:
    lab.plug("android", "WATCHED01")
    lab.expect({"WATCHED01": [ONLINE]})
    before, restarts = lab.unit("MainPID"), int(lab.unit("NRestarts"))
    lab.vm.run("systemctl", "kill", "-s", "STOP", "--kill-who=main", "device-agent")
    lab.unplug("WATCHED01")
    lab.vm.until(f"[ $(systemctl show --value -p NRestarts device-agent) = {restarts + 1} ]")
    lab.vm.until("systemctl is-active -q device-agent", limit=300)
    assert "Watchdog timeout" in lab.journal("-n", "50")
    assert lab.unit("MainPID") != before
    lab.expect({"WATCHED01": [ONLINE, UNPLUGGED]})


def test_a_power_cut_with_callbacks_waiting_loses_none(lab: Lab) -> None:
    serials = [f"POWER{number:03}" for number in range(1, 7)]
    lab.answer("503")
    lab.phones("plug_many", kind="android", count=6, prefix="POWER")
    for serial in serials:
        lab.until_state(serial, "online")
    ids = lab.pending()
    assert len(ids) == 6
    # What shows that this cuts as deep as it should: nobody asked the disk to keep this one.
    lab.vm.write("/var/lib/unsynced", "kept only by chance")
    lab.vm.cut_power()
    lab.vm.boot()
    assert lab.vm.run("cat", "/var/lib/unsynced", ok=False).out == ""
    lab.vm.run("systemctl", "is-system-running", "--wait")
    assert lab.unit("ActiveState") == "active"
    lab.expect({serial: [ONLINE, UNPLUGGED] for serial in serials})
    online = [call for call in lab.callbacks() if call["body"]["eventDescription"] == ONLINE]
    assert {call["headers"]["webhook-id"] for call in online} == ids, "the very ones that waited"
