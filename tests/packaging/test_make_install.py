"""`make install` on a machine with systemd: from the first start to the last trace."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.packaging.machine import commands
from tests.usage.sample import wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packaging.machine import Machine

CONFIG = "/etc/device-agent/agent.toml"
HUB = "/etc/device-agent/hub.toml"
MANAGED = "/var/lib/device-agent/webhooks.toml"
WEBHOOK = """
[[webhooks]]
name = "{}"
url = "http://127.0.0.1:9/"
events = ["online"]
"""


@pytest.fixture(scope="module")
def installed(machine: Machine) -> str:
    """What the first `make install` printed."""
    return machine.sh(commands("make-install"), network=True).output


def test_it_runs_when_the_command_returns(machine: Machine, installed: str) -> None:
    assert re.search(r"device-agent \d\S+ runs", installed), installed
    assert (machine.unit("ActiveState"), machine.unit("NRestarts")) == ("active", "0")
    assert machine.unit("UnitFileState") == "enabled"
    assert machine.unit("StatusText") != ""
    assert machine.unit("User") == "device-agent"
    assert "ready" in machine.journal()
    out = machine.run("device-agent", "devices", "--json").output
    assert json.loads(out) == {"devices": []}


def test_the_doctor_finds_it_running_and_stopped(machine: Machine, installed: str) -> None:
    def doctor() -> dict[str, tuple[str, str]]:
        answered = json.loads(machine.run("device-agent", "doctor", "--json", ok=False).output)
        return {each["check"]: (each["verdict"], each["found"]) for each in answered["findings"]}

    found = doctor()
    pid = machine.unit("MainPID")
    assert found["unit"] == ("ok", "active (running), no restarts, watchdog")
    assert found["agent"][0] == "ok", found["agent"]
    assert f"pid {pid}, user device-agent" in found["agent"][1]
    assert found["store"][1].startswith("/var/lib/device-agent, ")
    machine.run("systemctl", "stop", "device-agent")
    found = doctor()
    assert found["unit"] == ("fail", "inactive (dead)")
    assert found["store"] == ("ok", "/var/lib/device-agent: whole (quick_check)")
    # Root has looked, and left nothing behind that the agent's user could not use.
    machine.run("systemctl", "start", "device-agent")
    assert machine.sh("find /var/lib/device-agent -not -user device-agent").output == ""


def test_files_have_the_owners_they_need(machine: Machine, installed: str) -> None:
    for path in (CONFIG, HUB):
        assert machine.stat(path) == "root:device-agent 640"
    assert machine.stat("/etc/device-agent") == "root:device-agent 750"
    assert machine.stat("/var/lib/device-agent") == "device-agent:device-agent 700"
    assert machine.stat("/run/device-agent") == "device-agent:device-agent 750"
    assert machine.stat("/run/device-agent/control.sock") == "device-agent:device-agent 660"
    assert machine.stat("/opt/device-agent/bin/device-agent") == "root:root 755"
    assert "plugdev" in machine.run("id", "-nG", "device-agent").output.split()
    strangers = machine.sh(
        "find /opt/device-agent /usr/share/device-agent -not -user root -o -perm -o+w -not -type l"
    )
    assert strangers.output == ""


def test_it_finds_its_adb_and_keeps_its_keys(machine: Machine, installed: str) -> None:
    """A child that writes to HOME and listens: the sandbox lets it."""
    machine.until("ss -ltn | grep -q 127.0.0.1:5037")
    machine.until("test -e /var/lib/device-agent/.android/adbkey")


UDEV = """\
import pyudev; c = pyudev.Context(); list(c.list_devices(subsystem='usb'))
m = pyudev.Monitor.from_netlink(c); m.filter_by('usb'); m.start(); m.poll(0)
"""
NO_PHONES = """\
import os
assert not os.path.exists('/dev/bus/usb'), 'a hub has no phones of its own'
assert not os.access('/var/lib/device-agent', os.R_OK), 'and an agent beside it its own store'
"""


@pytest.mark.parametrize(
    ("unit", "alone"), [("device-agent", UDEV), ("device-agent-hub", NO_PHONES)]
)
def test_all_that_it_loads_works_in_the_sandbox(
    machine: Machine, installed: str, unit: str, alone: str
) -> None:
    """No library maps memory that is both written and executed, nor wants a refused call."""
    text = machine.text(f"/usr/lib/systemd/system/{unit}.service")
    names = (
        "MemoryDenyWriteExecute|SystemCall\\w+|Restrict\\w+|Protect\\w+|Private\\w+|ProcSubset|"
        "NoNewPrivileges|CapabilityBoundingSet|LockPersonality|Device\\w+|Inaccessible\\w+|User|Environment"
    )
    settings = re.findall(rf"^((?:{names})=.*)$", text, re.MULTILINE)
    assert "MemoryDenyWriteExecute=yes" in settings
    machine.run("cp", "packaging/load_all.py", "/opt/load_all.py")
    probe = (
        "import runpy; runpy.run_path('/opt/load_all.py', run_name='__main__')\n"
        f"{alone}"
        "from cryptography.hazmat.primitives.asymmetric import rsa\n"
        "rsa.generate_private_key(65537, 2048)\n"
        "import mmap\n"
        "try: mmap.mmap(-1, 4096, prot=7)\n"  # written and executed
        "except PermissionError: print('the sandbox is in force')\n"
    )
    done = machine.run(
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect",
        *(part for setting in settings for part in ("-p", setting)),
        "/opt/device-agent/bin/python3", "-I", "-c", probe,
    )  # fmt: skip
    assert done.output == "the sandbox is in force\n"
    machine.run("rm", "/opt/load_all.py")


def test_the_hub_is_there_and_waits_to_be_enabled(machine: Machine, installed: str) -> None:
    assert machine.unit("UnitFileState", "device-agent-hub") == "disabled"
    assert machine.unit("ActiveState", "device-agent-hub") == "inactive"
    assert not machine.exists("/var/lib/device-agent-hub")
    machine.run("device-agent", "check", HUB)
    # Without a broker it runs, and says so: that one may come later, and go.
    machine.run("systemctl", "enable", "--now", "device-agent-hub")
    assert machine.unit("ActiveState", "device-agent-hub") == "active"
    assert "4222" in machine.unit("StatusText", "device-agent-hub")
    out = machine.run("device-agent", "devices", "--config", HUB, "--json").output
    assert json.loads(out) == {"devices": []}
    assert machine.stat("/var/lib/device-agent-hub") == "device-agent:device-agent 700"
    assert machine.stat("/run/device-agent-hub/control.sock") == "device-agent:device-agent 660"
    machine.run("systemctl", "reload", "device-agent-hub")
    assert machine.unit("NRestarts", "device-agent-hub") == "0"
    assert machine.unit("ActiveState") == "active", "the agent beside it"


def test_it_runs_from_compiled_files(machine: Machine, installed: str) -> None:
    """Nothing is compiled at a start, for nothing could be written."""
    said = machine.run(
        "/opt/device-agent/bin/python3", "-I", "-B", "-v", "-c", "import agent.cli.run"
    ).output
    assert "code object from '/opt/device-agent/lib/python3" in said or "matches" in said
    assert re.findall(r"wrote '/opt|code object from '/opt.*\.py'", said) == []
    assert len(re.findall(r"\.pyc matches /opt", said)) > 100


def test_shells_complete_it_and_man_knows_it(machine: Machine, installed: str) -> None:
    share = "/usr/share"
    done = machine.sh(
        f"set +u; source {share}/bash-completion/completions/device-agent\n"
        "COMP_WORDS=(device-agent deliv) COMP_CWORD=1\n"
        '_device_agent_completion device-agent; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert done.output == "deliveries\n"
    machine.run("zsh", "-n", f"{share}/zsh/vendor-completions/_device-agent")
    machine.run("fish", "--no-execute", f"{share}/fish/vendor_completions.d/device-agent.fish")
    assert "DEVICE-AGENT(1)" in machine.run("man", "--pager=cat", "device-agent").output


def test_operators_join_the_group(machine: Machine, installed: str) -> None:
    machine.run("useradd", "--no-create-home", "oper")
    asked = ("runuser", "-u", "oper", "--", "device-agent", "devices")
    refused = machine.run(*asked, ok=False)
    assert refused.code != 0
    assert refused.output.count("\n") == 1
    assert f"{CONFIG}:1:1: cannot be read (Permission denied)" in refused.output
    told = machine.run("runuser", "-u", "oper", "--", "device-agent", "doctor", ok=False)
    assert told.code == 2
    assert "cannot be read (Permission denied)" in told.output
    assert "may not be used by this user" in " ".join(told.output.split())
    machine.sh("OPERATOR=oper\n" + commands("operator"))
    machine.run(*asked)


def test_reload_is_synchronous(machine: Machine, installed: str) -> None:
    good = machine.text(CONFIG) + WEBHOOK.format("one") + WEBHOOK.format("two")
    machine.write(CONFIG, good.replace("events", "evnts"))
    assert machine.run("systemctl", "reload", "device-agent", ok=False).code != 0
    assert "did you mean" in machine.journal()
    machine.write(CONFIG, good)
    said = machine.sh(commands("service")).output
    assert "Status: " in said
    assert "reload.done" in said
    assert ids(machine) == {"one": 1, "two": 2}


def ids(machine: Machine) -> dict[str, int]:
    """Webhooks' ids: given once, kept in the store."""
    answer = json.loads(machine.run("device-agent", "webhooks", "list", "--json").output)
    return {row["name"]: row["id"] for row in answer["webhooks"]}


def test_webhooks_of_the_file_are_written_by_commands_for_the_agent_may_not(
    machine: Machine, installed: str
) -> None:
    before = machine.text(CONFIG)
    made = machine.run(
        "device-agent", "webhooks", "create", "--name", "three", "--url", "http://127.0.0.1:9/",
        "--events", "online", "--json",
    ).output  # fmt: skip
    row = json.loads(made)
    assert ids(machine)["three"] == row["id"], "in force"
    assert machine.stat(CONFIG) == "root:device-agent 640"
    asked = ("curl", "--silent", "--unix-socket", "/run/device-agent/control.sock", "-X", "DELETE")
    refused = machine.run(*asked, "http://localhost/v1/webhooks/three").output
    assert json.loads(refused)["error"]["code"] == "provisioned"
    machine.run("device-agent", "webhooks", "delete", "three", "--yes")
    assert machine.text(CONFIG) == before
    assert "three" not in ids(machine)


def test_the_agent_keeps_what_is_made_over_its_api(machine: Machine, installed: str) -> None:
    """In its sandbox, which lets it write its state directory alone."""
    before = machine.text(CONFIG)
    body = {"name": "kept", "url": "http://127.0.0.1:9/", "events": ["online"]}
    made = machine.run(
        "curl", "--silent", "--unix-socket", "/run/device-agent/control.sock",
        "--json", json.dumps(body), "http://localhost/v1/webhooks",
    ).output  # fmt: skip
    row = json.loads(made)
    assert (row["managed"], row["file"]) == (True, MANAGED), row
    assert machine.stat(MANAGED) == "device-agent:device-agent 600"
    machine.run("device-agent", "webhooks", "edit", "kept", "--name", "renamed")
    assert ids(machine)["renamed"] == row["id"]
    machine.run("systemctl", "stop", "device-agent")
    machine.run(
        "device-agent", "webhooks", "create", "--managed", "--name", "later",
        "--url", "http://127.0.0.1:9/", "--events", "online",
    )  # fmt: skip
    assert machine.stat(MANAGED) == "device-agent:device-agent 600", "root made the new one"
    machine.run("systemctl", "start", "device-agent")
    assert {"renamed", "later"} <= ids(machine).keys()
    for name in ("renamed", "later"):
        machine.run("device-agent", "webhooks", "delete", name, "--yes")
    assert machine.text(CONFIG) == before


def test_an_upgrade_keeps_configuration_and_store(machine: Machine, installed: str) -> None:
    machine.write(CONFIG, machine.text(CONFIG).replace(WEBHOOK.format("one"), ""))
    machine.sh("chmod 600 " + CONFIG + "; chown device-agent: " + CONFIG)  # an operator's choice
    before = machine.text(CONFIG)
    pids = {unit: machine.unit("MainPID", unit) for unit in ("device-agent", "device-agent-hub")}
    # A file of the old version that the new one has not, and a module.
    machine.sh("echo /usr/share/device-agent/old >>/opt/device-agent/installed-files")
    machine.sh("touch /usr/share/device-agent/old /opt/device-agent/lib/old.py")
    said = machine.run("make", "install", "IOS=no", network=True).output
    assert f"{CONFIG} is kept" in said
    for unit, pid in pids.items():
        assert machine.unit("ActiveState", unit) == "active"
        assert machine.unit("MainPID", unit) != pid
    assert machine.text(CONFIG) == before
    assert machine.stat(CONFIG) == "device-agent:device-agent 600"
    assert ids(machine) == {"two": 2}
    assert not machine.exists("/usr/share/device-agent/old")
    assert not machine.exists("/opt/device-agent/lib/old.py")
    assert machine.run("ls", "-A", "/opt").output.count("device-agent") == 1


def test_a_failed_installation_changes_nothing(machine: Machine, installed: str) -> None:
    pid = machine.unit("MainPID")
    done = machine.run("make", "install", "PYTHON=/home/python3", ok=False)
    assert done.code != 0
    assert "there is no /home/python3" in done.output
    done = machine.run("make", "install", ok=False, PIP_RETRIES="0")  # no network here
    assert done.code != 0
    assert machine.unit("MainPID") == pid
    machine.run("device-agent", "--version")
    assert machine.run("ls", "-A", "/opt").output.count("device-agent") == 1


def test_a_package_with_a_usage_source_is_added(
    machine: Machine, installed: str, tmp_path: Path
) -> None:
    package = wheel(tmp_path)
    machine.run("mkdir", "/var/tmp/packages")
    machine.run(
        "sh", "-c", 'printf %s "$1" | base64 -d >"$0"', f"/var/tmp/packages/{package.name}",
        base64.b64encode(package.read_bytes()).decode(),
    )  # fmt: skip
    before = machine.text(CONFIG)
    machine.write(CONFIG, before + '[usage.plugins.booking]\nurl = "http://127.0.0.1:9/"\n')
    found = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/var/tmp/packages\n"
    machine.sh(found + commands("plugin"), network=True)
    assert machine.unit("ActiveState") == "active"
    assert "booking" in machine.journal()
    machine.write(CONFIG, before)
    machine.run("systemctl", "reload", "device-agent")


def test_backup_and_restore(machine: Machine, installed: str) -> None:
    locked = (
        "import sqlite3; sqlite3.connect('/var/lib/device-agent/state.db', timeout=0)"
        ".execute('SELECT * FROM devices')"
    )
    done = machine.run("/usr/bin/python3", "-c", locked, ok=False)
    assert "database is locked" in done.output
    machine.sh(commands("backup"))
    assert machine.stat("/var/backups/device-agent.tar.gz").startswith("root:root")

    # A newer agent's store is refused, with a line that says so; then the backup is restored.
    machine.run("systemctl", "stop", "device-agent")
    newer = (
        "import sqlite3; c = sqlite3.connect('/var/lib/device-agent/state.db');"
        "c.execute('PRAGMA user_version = 1000'); c.commit()"
    )
    machine.run("/usr/bin/python3", "-c", newer)
    assert machine.run("systemctl", "start", "device-agent", ok=False).code != 0
    assert "has schema version 1000, but this agent knows" in machine.journal()
    machine.sh(commands("restore"))
    assert machine.unit("ActiveState") == "active"
    assert ids(machine) == {"two": 2}


def test_uninstall_and_purge(machine: Machine, installed: str) -> None:
    paths = machine.text("/opt/device-agent/installed-files").split()
    said = machine.sh(commands("uninstall")).output
    assert "PURGE=1" in said
    assert [path for path in paths if machine.exists(path)] == []
    for unit in ("device-agent", "device-agent-hub"):
        assert machine.run("systemctl", "status", unit, ok=False).code == 4  # no such unit
    assert not machine.exists("/opt/device-agent")
    assert not machine.exists("/run/device-agent-hub")
    assert machine.exists("/var/lib/device-agent-hub/state.db")
    assert machine.exists(CONFIG)
    assert machine.exists("/var/lib/device-agent/state.db")
    machine.sh(commands("purge"))
    for path in ("/etc/device-agent", "/var/lib/device-agent", "/var/lib/device-agent-hub"):
        assert not machine.exists(path)
    leftovers = machine.sh("find /etc /usr /opt -name '*device-agent*' -not -path '/usr/share/*'")
    assert [p for p in leftovers.output.split() if "/sysusers" not in p] == []
