"""The package: built, judged, and installed on a machine without a network."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import TYPE_CHECKING

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from agent import __version__
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


def test_lintian_finds_neither_error_nor_warning(machine: Machine, deb: str) -> None:
    """Which packaging/debian/lintian-overrides does not say why it is meant."""
    done = machine.run("lintian", "--allow-root", "--fail-on", "error,warning", deb, ok=False)
    assert done.code == 0, done.output


def test_it_is_the_same_byte_for_byte_wherever_it_is_built(machine: Machine, deb: str) -> None:
    """Another directory, umask, zone and locale, and files of another time."""
    machine.sh(
        "mkdir -p '/var/tmp/else where'\n"
        "git -c safe.directory=* ls-files -z --cached --others --exclude-standard |\n"
        "    tar --null --files-from=- --create --ignore-failed-read --file=- |\n"
        "    tar --extract --touch --directory='/var/tmp/else where'"
    )
    stamp = machine.sh("git -c safe.directory=* log -1 --format=%ct").output.strip()
    machine.sh(
        "cd '/var/tmp/else where' && umask 077 && make deb",
        network=True,
        SOURCE_DATE_EPOCH=stamp,
        TZ="Pacific/Kiritimati",
        LC_ALL="C.UTF-8",
        LANG="tr_TR.UTF-8",
    )
    # What differs is named, if anything does.
    difference = (
        f"cmp {deb} '/var/tmp/else where'/dist/*.deb && exit\n"
        f"rm -rf /tmp/a /tmp/b; dpkg-deb -R {deb} /tmp/a\n"
        "dpkg-deb -R '/var/tmp/else where'/dist/*.deb /tmp/b\n"
        "diff -rq /tmp/a /tmp/b | head -n 20; exit 1"
    )
    done = machine.run("bash", "-c", difference, ok=False)
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


INSTALLED = """\
import json, re, sys
from importlib.metadata import distributions
found = {re.sub("[-_.]+", "-", each.name).lower(): each.version for each in distributions()}
print(json.dumps(found))
"""
SITE = "opt/device-agent/lib/python3*/site-packages"
DOC = "/tmp/unpacked/usr/share/doc/device-agent"


def test_its_bill_of_materials_is_what_lies_in_it(machine: Machine, deb: str) -> None:
    text = machine.text(f"{DOC}/sbom.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = Bom.from_json(json.loads(text))  # type: ignore[attr-defined] # a decorator adds it
    python = "/tmp/unpacked/opt/device-agent/bin/python3"
    installed = json.loads(machine.run(python, "-I", "-B", "-c", INSTALLED).output)
    agent = bom.metadata.component
    assert (agent.name, agent.version) == ("device-agent", __version__)
    listed = [agent, *bom.components]
    assert {each.name: each.version for each in listed} == installed
    for each in listed:
        assert str(each.purl) == f"pkg:pypi/{each.name}@{each.version}"
        assert len(next(iter(each.hashes)).content) == 64
        assert each.licenses
        assert all(part.licenses for part in each.components), each.name
    bridge = next(each for each in bom.components if each.name == "adbutils").components
    adb = next(part for part in bridge if part.name == "adb")
    lies = f"/tmp/unpacked/{next(iter(adb.properties)).value}"
    assert next(iter(adb.hashes)).content == machine.run("sha256sum", lies).output.split()[0]
    assert f"Version {adb.version}" in machine.run(lies, "--version").output
    # Nobody is named of whom nothing follows, and the locked hashes are those of the wheels.
    locked = (ROOT / "requirements" / "ios.txt").read_text()
    for each in bom.components:
        assert next(iter(each.hashes)).content in locked, each.name


def test_each_file_of_others_has_its_holder_and_licence(machine: Machine, deb: str) -> None:
    paragraphs = [
        dict(re.findall(r"^(\S+): ?(.*(?:\n .*)*)", each, re.MULTILINE))
        for each in re.split(r"\n\n", machine.text(f"{DOC}/copyright"))
    ]
    assert "copyright-format/1.0" in paragraphs[0]["Format"]
    of_files = [each for each in paragraphs if "Files" in each]
    texts = {
        each["License"].split("\n")[0]
        for each in paragraphs
        if "Files" not in each and "License" in each
    }
    used = set()
    for each in of_files:
        assert each["Copyright"].strip(), each
        assert "\n" not in each["License"], "its text stands once, below"
        used |= set(re.split(" and | or ", each["License"]))
    assert used == texts
    ours = re.compile(r"site-packages/(agent|device_agent-[^/]+)/")
    patterns = [name for each in of_files for name in each["Files"].split() if name != "*"]
    known = re.compile("|".join(fnmatch.translate(name) for name in patterns))
    found = machine.sh(f"cd /tmp/unpacked; find {SITE} -type f -not -path '*/__pycache__/*'").output
    strangers = [
        name for name in found.splitlines() if not known.match(name) and not ours.search(name)
    ]
    assert strangers == []
    # What it says lies there does.
    for line in machine.text(f"{DOC}/copyright").splitlines():
        if re.match(r" opt/\S+[^*]$", line):
            assert machine.exists(f"/tmp/unpacked/{line.strip()}"), line


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
