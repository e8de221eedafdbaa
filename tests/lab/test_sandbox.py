"""The unit's sandbox denies what it should, and nothing that the agent needs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.lab import Lab

UNIT = "/lib/systemd/system/device-agent.service"
ATTEMPTS = "/opt/lab/tests/lab/guest/sandbox_attempts.py"
CHANGED = re.compile(
    r"^(Type|NotifyAccess|Exec\w+|Restart\w*|WatchdogSec|WantedBy)=.*\n", re.MULTILINE
)


def test_what_an_intruder_would_try_is_denied(lab: Lab) -> None:
    """Tried in a unit that is the agent's own but for what it executes."""
    unit = CHANGED.sub("", lab.vm.text(UNIT)).replace(
        "[Service]\n",
        f"[Service]\nType=oneshot\nExecStart=/opt/device-agent/bin/python3 -I {ATTEMPTS}\n"
        "StandardOutput=file:/run/lab/attempts\n",
    )
    # Its end takes its own away.
    unit = unit.replace("RuntimeDirectory=device-agent\n", "RuntimeDirectory=lab-sandbox\n")
    lab.vm.write("/run/systemd/system/lab-sandbox.service", unit)
    lab.vm.sh("touch /tmp/others /var/tmp/others; systemctl daemon-reload")
    lab.vm.run("systemctl", "start", "lab-sandbox")
    outcomes = json.loads(lab.vm.text("/run/lab/attempts"))
    allowed = {k: v for k, v in outcomes["attempts"].items() if not v.startswith("denied")}
    assert allowed == {}
    denied = {k: v for k, v in outcomes["needs"].items() if v.startswith("denied")}
    assert denied == {}


def test_the_agent_itself_runs_inside_it(lab: Lab) -> None:
    lab.plug("android", "SANDBOX01")
    lab.until_state("SANDBOX01", "online")
    pid = lab.unit("MainPID")
    status = dict(
        line.split(":\t", 1)
        for line in lab.vm.text(f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert {status[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    uid = lab.vm.run("id", "-u", "device-agent").out.strip()
    assert status["Uid"].split() == [uid] * 4
