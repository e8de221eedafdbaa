"""What took several phones at once, at the hub: told by agents, or a host that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.fleet.hub.message_ids import host_cause
from agent.track.cause import Cause, CauseKind
from tests.fleet.world import GONE_AFTER, OFFLINE, ONLINE, UNPLUGGED, World

if TYPE_CHECKING:
    from tests.fleet.world import SimHost

HUB = Cause("cause-77", CauseKind.HUB, "1-4.2", 3)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.begin()
    return made


def lose(host: SimHost, *udids: str) -> None:
    """It says that a hub took them."""
    for udid in udids:
        host.move(udid, UNPLUGGED)
        told = {"reason": HUB.words, "code": HUB.kind.code, "cause": HUB.id}
        host.devices[udid] = host.devices[udid].model_copy(update=told)
        host.log[-1] = host.log[-1].model_copy(update={"device": host.devices[udid]})


async def test_a_hosts_cause_is_the_hubs_too(world: World) -> None:
    host = world.hosts["A"]
    for udid in "pqr":
        host.move(udid, ONLINE)
    await world.flow()
    lose(host, *"pqr")
    await world.flow()
    await world.wait(60)
    causes = world.hub.commits.causes
    (told,) = causes.all()
    assert (told.id, told.kind, told.place, told.host) == ("cause-77", "hub", "1-4.2", "A")
    assert sorted(told.devices) == ["p", "q", "r"]
    assert causes.counts == {CauseKind.HUB: 1}
    record = world.store.devices["p"]
    assert (record.cause, record.code, record.reason) == ("cause-77", "hub_lost", HUB.words)


async def test_a_lost_host_is_one_cause_with_its_phones(world: World) -> None:
    host, other = world.hosts["A"], world.hosts["B"]
    for udid in "pq":
        host.move(udid, ONLINE)
    other.move("z", ONLINE)
    await world.flow()
    host.cut = True
    await world.wait(GONE_AFTER + 20)
    assert [world.store.devices[udid].state for udid in "pqz"] == [OFFLINE, OFFLINE, ONLINE]
    (told,) = world.hub.commits.causes.all()
    assert (told.kind, told.place, told.host) == ("host", "A", "A")
    assert sorted(told.devices) == ["p", "q"]
    # Alike at each hub that has read as far in its log.
    assert told.id == host_cause("A", host.epoch, len(host.log))
    host.cut = False
    await world.beat("A")
    assert {world.store.devices[udid].cause for udid in "pq"} == {""}


def test_the_id_is_of_what_it_is_made_of() -> None:
    ids = {host_cause(*each) for each in (("A", 1, 2), ("B", 1, 2), ("A", 2, 2), ("A", 1, 3))}
    assert len(ids) == 4
    assert host_cause("A", 1, 2) in ids
    assert all(each.startswith("cause-") and len(each) == 18 for each in ids)
