"""From one host to a fleet, as docs/fleet.md has it: broker, agent and hub on one machine."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.packaging.machine import commands

if TYPE_CHECKING:
    from tests.packaging.machine import Machine

CONFIG = "/etc/device-agent/agent.toml"
HUB = "/etc/device-agent/hub.toml"
BROKER = "/etc/nats-server.conf"
STATUS = "systemctl show -p StatusText device-agent"
PASSWORD = "a-password-of-the-fleet"


@pytest.fixture(scope="module")
def fleet(machine: Machine) -> Machine:
    """With all of it installed, and passwords given to everybody."""
    machine.run("make", "install", "IOS=no", network=True)
    machine.run("apt-get", "update", "-qq", network=True)
    machine.sh(commands("fleet-broker"), network=True)
    text = machine.text(BROKER)
    hub, host, *_ = users(text)
    machine.write(BROKER, text.replace(hub[1], PASSWORD).replace(host[1], PASSWORD))
    machine.run("systemctl", "restart", "nats-server")
    url = "nats://{}:" + PASSWORD + "@127.0.0.1:4222"
    joined = f'[fleet]\nservers = ["{url.format(host[0])}"]\nhost = "{host[0]}"\n'
    machine.write(CONFIG, machine.text(CONFIG) + joined)
    machine.write(HUB, machine.text(HUB).replace("nats://127.0.0.1:4222", url.format(hub[0])))
    machine.sh(commands("service"))
    machine.sh(commands("fleet-hub"))
    return machine


def users(text: str) -> list[tuple[str, str]]:
    """Names and passwords in the broker's configuration: the hub's, then those of hosts."""
    found = re.findall(
        r"^\s*user(?:name)?: *\"?([^\s\"]+)\"?\s+password: *\"([^\"]+)\"", text, re.MULTILINE
    )
    assert len(found) >= 2, text
    return found


def hosts(fleet: Machine) -> dict[str, dict[str, Any]]:
    """As the hub has them."""
    answer = json.loads(fleet.sh(f"device-agent hosts --config {HUB} --json 2>/dev/null").output)
    return {row["host"]: row for row in answer["hosts"]}


def test_the_hub_hears_the_host(fleet: Machine) -> None:
    (_, host, *_) = users(fleet.text(BROKER))
    fleet.until(f"device-agent hosts --config {HUB} --json | grep -q '{host[0]}'")
    assert host[0] in hosts(fleet)
    for unit in ("device-agent", "device-agent-hub"):
        assert fleet.unit("ActiveState", unit) == "active"
        assert fleet.unit("NRestarts", unit) == "0"
        assert PASSWORD not in fleet.journal(unit)


def test_an_operator_looks_at_it(fleet: Machine) -> None:
    said = fleet.sh(commands("fleet-look")).output
    assert "127.0.0.1:9179" in said, "the hub's page"


def test_a_wrong_password_is_said_and_hurts_nobody_else(fleet: Machine) -> None:
    before = fleet.text(CONFIG)
    fleet.write(CONFIG, before.replace(PASSWORD, "wrong"))
    fleet.run("systemctl", "reload", "device-agent")
    fleet.until(f"{STATUS} | grep 'does not let us in'", limit=60)
    assert fleet.unit("ActiveState") == "active"
    assert json.loads(fleet.run("device-agent", "devices", "--json").output) == {"devices": []}
    fleet.write(CONFIG, before)
    fleet.run("systemctl", "reload", "device-agent")
    fleet.until(f"! {STATUS} | grep 'does not let us in'", limit=40)
