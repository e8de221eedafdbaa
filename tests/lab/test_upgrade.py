"""From 0.1.0 to this version, with callbacks waiting, and back: the same phones, the same file."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import pytest

from agent import __version__
from agent.store.migrate import scripts
from tests.lab.lab import CONFIG, HOLDS, ONLINE, SETTINGS, UNPLUGGED
from tests.lab.vm import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.lab import Lab

(WHEEL,) = (ROOT / "tests" / "testdata" / "0.1.0").glob("*.whl")
OLD, PLACE = "0.1.0", "/opt/old"
RUN = f"""\
#!/opt/device-agent/bin/python3 -I
import sys
sys.path.insert(0, "{PLACE}/{WHEEL.name}")
from agent.cli import main
main()
"""
DROP_IN = "/run/systemd/system/device-agent.service.d/old.conf"
UNIT = f"""\
[Service]
ExecStart=
ExecStart={PLACE}/device-agent run --config {CONFIG}
# What must not be started again and again here: its end is what is looked at.
Restart=no
"""
STORE = "/var/lib/device-agent/state.db"


def put_old(lab: Lab) -> None:
    """From the next start on, the unit runs 0.1.0, with its user and in its sandbox."""
    lab.vm.run("mkdir", "-p", PLACE, DROP_IN.rpartition("/")[0])
    wheel = base64.b64encode(WHEEL.read_bytes()).decode()
    lab.vm.run("sh", "-c", f"base64 -d >{PLACE}/{WHEEL.name}", stdin=wheel)
    lab.vm.write(f"{PLACE}/device-agent", RUN)
    lab.vm.run("chmod", "755", f"{PLACE}/device-agent")
    lab.vm.write(DROP_IN, UNIT)
    lab.vm.run("systemctl", "daemon-reload")


def put_new(lab: Lab) -> None:
    """The unit as it is installed."""
    lab.vm.run("rm", "-f", DROP_IN)
    lab.vm.run("systemctl", "daemon-reload")


@pytest.fixture
def old(lab: Lab) -> Iterator[Lab]:
    """0.1.0 runs, with a store of its own; afterwards what was there before does."""
    lab.vm.run("systemctl", "stop", "device-agent")
    put_old(lab)
    lab.vm.sh("mkdir /root/kept && mv /var/lib/device-agent/state.db* /root/kept/")
    lab.vm.write(
        CONFIG, f"{SETTINGS}[hold]\n" + "".join(f'{k} = "{v}"\n' for k, v in HOLDS.items())
    )
    lab.vm.run("systemctl", "start", "device-agent", limit=300)
    yield lab
    lab.phones("unplug_many", all=True)
    lab.vm.run("systemctl", "stop", "device-agent")
    put_new(lab)
    lab.vm.sh(
        "rm -f /var/lib/device-agent/state.db*\n"
        "mv /root/kept/* /var/lib/device-agent/ && rmdir /root/kept\n"
        "systemctl reset-failed device-agent || true"
    )
    lab.vm.run("systemctl", "start", "device-agent", limit=300)


def test_an_upgrade_from_0_1_0_loses_nothing_and_the_way_back_is_refused(old: Lab) -> None:
    lab = old
    assert lab.api("GET", "/v1/status")[1]["version"] == OLD
    lab.plug("android", "STAYS09")
    lab.plug("android", "GOES09")
    lab.expect({"STAYS09": [ONLINE], "GOES09": [ONLINE]})
    lab.answer("503")
    lab.unplug("GOES09")
    lab.plug("android", "COMES09")
    lab.until(lambda: len(lab.pending()) == 2, "two callbacks to wait")
    waiting = lab.pending()
    before = {udid: lab.device(udid) for udid in ("STAYS09", "GOES09", "COMES09")}

    began = time.monotonic()
    lab.vm.run("systemctl", "stop", "device-agent")
    put_new(lab)
    lab.vm.run("systemctl", "start", "device-agent", limit=300)
    print(f"from the stop of {OLD} to a ready {__version__}: {time.monotonic() - began:.1f} s")
    assert lab.api("GET", "/v1/status")[1]["version"] == __version__
    assert lab.pending() == waiting
    for udid, row in before.items():
        now = lab.device(udid)
        assert (now["state"], now["since"]) == (row["state"], row["since"]), udid
    lab.answer("204")
    told = {"STAYS09": [ONLINE], "GOES09": [ONLINE, UNPLUGGED], "COMES09": [ONLINE]}
    lab.expect(told)
    assert waiting < {call["headers"]["webhook-id"] for call in lab.callbacks()}, "the very ones"
    lab.unplug("COMES09")
    told["COMES09"] = [ONLINE, UNPLUGGED]
    lab.expect(told)

    lab.vm.run("systemctl", "stop", "device-agent")
    kept = lab.vm.run("sha256sum", STORE).out
    put_old(lab)
    assert lab.vm.run("systemctl", "start", "device-agent", ok=False, limit=300).code != 0
    refused = (
        f"{STORE} has schema version {len(scripts())}, but this agent knows versions up to 1: a"
        " newer agent wrote it."
    )
    assert refused in lab.journal("-n", "50")
    assert lab.vm.run("sha256sum", STORE).out == kept

    put_new(lab)
    lab.vm.run("systemctl", "start", "device-agent", limit=300)
    lab.unplug("STAYS09")
    told["STAYS09"] = [ONLINE, UNPLUGGED]
    lab.expect(told)
