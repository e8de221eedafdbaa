"""The hosts of a fleet as rows, as a table and as metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import click
import pytest

from agent.cli.hosts import complaint, table
from agent.errors import UnknownHostError
from agent.fleet.hub.hosts import Presence
from agent.fleet.hub.status import HostStatus, HubStatus
from agent.model import DeviceState
from agent.service.hosts import Hosts
from agent.service.metrics import METRICS

if TYPE_CHECKING:
    from agent.service.metrics import Scene

HUB = HubStatus(
    connected=True, blind=False, active=True, reason="", bad_messages=3, dropped=0, moves=2
)
A = HostStatus("A", Presence.ALIVE, True, 2**63 - 1, 12, 3, 1.26, "1.0", 4, "")
B = HostStatus("B", Presence.LOST, False, None, 0, 0, None, "", 0, "host B is lost: \x1b[31m")


class Fleet:
    """As it is said to be."""

    def __init__(self, status: HubStatus = HUB) -> None:
        self.status = status

    def hosts(self) -> list[HostStatus]:
        return [A, B]

    def devices(self) -> dict[tuple[str, DeviceState], int]:
        return {("A", DeviceState.ONLINE): 4}

    async def forget(self, host: str) -> HostStatus:
        assert host == "B"
        return B


def test_rows() -> None:
    assert Hosts(None).rows() == {"hub": None, "hosts": []}
    found = Hosts(Fleet()).rows()
    assert found["hub"] is not None
    assert (found["hub"]["active"], found["hub"]["bad_messages"]) == (True, 3)
    assert found["hosts"][0] == {
        "host": "A",
        "state": "alive",
        "caught_up": True,
        "version": "1.0",
        "epoch": "9223372036854775807",
        "cursor": 12,
        "lag": 3,
        "heartbeat_age": 1.3,
        "devices": 4,
        "problem": "",
    }
    assert (found["hosts"][1]["epoch"], found["hosts"][1]["heartbeat_age"]) == ("", None)


async def test_a_host_is_forgotten_at_a_hub_alone() -> None:
    assert (await Hosts(Fleet()).forget("B"))["state"] == "lost"
    with pytest.raises(UnknownHostError, match="no hub"):
        await Hosts(None).forget("B")


def read(fleet: Fleet | None, name: str) -> list[tuple[tuple[str, ...], Any]]:
    (metric,) = (each for each in METRICS if each.name == f"device_agent_{name}")

    class Only:
        hosts = Hosts(fleet)

    return list(metric.read(cast("Scene", Only())))


def test_metrics() -> None:
    assert read(None, "hub_blind") == []
    assert read(None, "host_up") == []
    assert read(Fleet(replace(HUB, blind=True)), "hub_blind") == [((), True)]
    assert read(Fleet(), "hub_moves") == [((), 2)]
    assert read(Fleet(), "host_up") == [(("A",), True), (("B",), False)]
    assert read(Fleet(), "host_lag_transitions") == [(("A",), 3), (("B",), 0)]
    assert read(Fleet(), "host_heartbeat_age_seconds") == [(("A",), 1.26)]
    assert (("A", "online"), 4) in read(Fleet(), "host_devices")
    assert len(read(Fleet(), "host_devices")) == 8


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        (HUB, ""),
        (replace(HUB, active=False), "this hub is a standby: another one sends the callbacks"),
        (replace(HUB, blind=True, reason="so"), "the hub is blind, and decides nothing: so"),
        (None, 'this agent is no hub: [fleet] role = "hub" makes one'),
    ],
)
def test_what_is_said_of_the_hub(hub: HubStatus | None, said: str) -> None:
    assert complaint(Hosts(None if hub is None else Fleet(hub)).rows()["hub"]) == said


def test_the_table() -> None:
    made = table(Hosts(Fleet()).rows()["hosts"])
    first, second = made.splitlines()[1:]
    assert click.unstyle(first).split() == ["A", "alive", "1", "s", "ago", "4", "3", "1.0"]
    assert second.endswith("host B is lost: ?[31m")
    assert table([]) == "no hosts"
