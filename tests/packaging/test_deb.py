"""The package: built, judged, and installed on a machine without a network."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT
from tests.packaging.machine import commands

if TYPE_CHECKING:
    from tests.packaging.machine import Machine

CONFIG = "/etc/device-agent/agent.toml"
HUB = "/etc/device-agent/hub.toml"


@pytest.fixture(scope="module")
def deb(machine: Machine) -> str:
    """Its path in the machine, built there by the documented commands."""
    script = commands("make-deb")
    assert script.startswith("sudo apt-get install -y dpkg-dev\n")
    machine.sh("rm -rf dist\n" + script.split("\n", 1)[1], network=True)
    return machine.sh(f"ls {ROOT}/dist/*.deb").output.strip()


def test_lintian_finds_no_error(machine: Machine, deb: str) -> None:
    done = machine.run("lintian", "--allow-root", "--fail-on", "error", deb, ok=False)
    assert done.code == 0, done.output


def test_it_depends_on_what_it_was_built_with(machine: Machine, deb: str) -> None:
    minor = machine.run(
        "/usr/bin/python3", "-c", "import sys; print(sys.version_info.minor)"
    ).output.strip()
    depends = machine.run("dpkg-deb", "--field", deb, "Depends").output
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{int(minor) + 1})" in depends
    # Loaded by name at run time, which no tool finds out.
    assert "libudev1" in depends
    assert re.search(r"libc6 \(>= 2\.\d+\)", depends)


def test_it_names_no_place_it_was_built_at(machine: Machine, deb: str) -> None:
    machine.run("dpkg-deb", "-x", deb, "/tmp/unpacked")
    named = machine.sh(f"grep -rlE '{ROOT}|/tmp/tmp\\.' /tmp/unpacked || true").output
    assert named == ""
    assert machine.sh("find /tmp/unpacked -newermt now").output == ""


def test_it_installs_without_a_network_and_runs(machine: Machine, deb: str) -> None:
    machine.sh(commands("install-deb"))
    assert machine.unit("ActiveState") == "active"
    assert machine.unit("UnitFileState") == "enabled"
    for path in (CONFIG, HUB):
        assert machine.stat(path) == "root:device-agent 640"
    assert machine.stat("/etc/device-agent") == "root:device-agent 750"
    assert machine.unit("UnitFileState", "device-agent-hub") == "disabled"
    assert machine.unit("ActiveState", "device-agent-hub") == "inactive"
    machine.run("device-agent", "check", HUB)
    assert json.loads(machine.run("device-agent", "devices", "--json").output) == {"devices": []}
    machine.run("device-agent", "check")
    refused = machine.run("make", "install", ok=False)
    assert "installed from a package" in refused.output


def newer(machine: Machine, deb: str) -> str:
    """The same package with a higher version, and a configuration file that changed."""
    machine.sh(
        f"rm -rf /tmp/newer; dpkg-deb -R {deb} /tmp/newer; cd /tmp/newer\n"
        "sed -i 's/^Version: .*/Version: 999/' DEBIAN/control\n"
        "echo '# new' >>etc/device-agent/agent.toml\n"
        "dpkg-deb --root-owner-group -Zgzip -z1 -b /tmp/newer /tmp/newer.deb"
    )
    return "/tmp/newer.deb"


def test_an_upgrade_keeps_configuration_and_store(machine: Machine, deb: str) -> None:
    text = machine.text(CONFIG).replace("org_id = 1", "org_id = 7")
    machine.write(CONFIG, text)
    machine.run("systemctl", "restart", "device-agent")
    store = machine.run("stat", "-c", "%i", "/var/lib/device-agent/state.db").output
    machine.run("systemctl", "enable", "--now", "device-agent-hub")
    pids = {unit: machine.unit("MainPID", unit) for unit in ("device-agent", "device-agent-hub")}
    machine.run("dpkg", "--force-confdef", "--force-confold", "-i", newer(machine, deb))
    for unit, pid in pids.items():
        assert machine.unit("ActiveState", unit) == "active"
        assert machine.unit("MainPID", unit) != pid
    assert machine.unit("UnitFileState", "device-agent-hub") == "enabled"
    assert machine.text(CONFIG) == text
    assert machine.stat(CONFIG) == "root:device-agent 640"
    assert machine.run("stat", "-c", "%i", "/var/lib/device-agent/state.db").output == store


def test_who_disabled_it_finds_it_disabled_after_an_upgrade(machine: Machine, deb: str) -> None:
    machine.run("systemctl", "disable", "--now", "device-agent")
    machine.run("dpkg", "--force-confold", "-i", "/tmp/newer.deb")
    assert machine.unit("UnitFileState") == "disabled"
    machine.run("systemctl", "enable", "--now", "device-agent")


def test_remove_keeps_and_purge_does_not(machine: Machine, deb: str) -> None:
    machine.run("apt-get", "remove", "-y", "device-agent")
    assert not machine.exists("/opt/device-agent")
    for name in ("device-agent", "device-agent-hub"):
        assert not machine.exists(f"/run/{name}")
        assert machine.exists(f"/var/lib/{name}/state.db")
    assert "org_id = 7" in machine.text(CONFIG)
    machine.run("apt-get", "purge", "-y", "device-agent")
    for path in ("/etc/device-agent", "/var/lib/device-agent", "/var/lib/device-agent-hub"):
        assert not machine.exists(path)
    assert machine.sh("find /etc -name '*device-agent*' -not -path '*/sysusers*'").output == ""


def test_it_takes_the_place_of_make_install(machine: Machine, deb: str) -> None:
    """No module of the one stays among those of the other; the configuration does."""
    machine.sh(
        "dpkg-deb -x /tmp/newer.deb /; touch /opt/device-agent/lib/old.py\n"
        "cd /tmp/newer; find usr -type f -printf '/%p\\n' >/opt/device-agent/installed-files\n"
        f"echo '# mine' >>{CONFIG}"
    )
    machine.run("dpkg", "--force-confold", "-i", deb)
    assert not machine.exists("/opt/device-agent/lib/old.py")
    assert not machine.exists("/opt/device-agent/installed-files")
    assert machine.text(CONFIG).endswith("# mine\n")
    assert machine.unit("ActiveState") == "active"
