"""A whole agent in a fleet: killed between telling and being acknowledged, reloaded, stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.fleet import subjects
from agent.fleet.operations import LeaseAcquire
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fleet.agent_side import HOST, Hub, fleet_of
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE, ONLY_ADB
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.broker import Broker

CONFIG = AT_ONCE + ONLY_ADB + 'probe_interval = "0s"\n'
FLEET = '[fleet]\nservers = ["{url}"]\nhost = "{host}"\n'


async def row(agent: AgentProcess) -> dict[str, Any]:
    status, answer = await agent.api("GET", "/v1/status")
    assert status == 200
    found: dict[str, Any] = answer["fleet"]
    return found


async def until_row(agent: AgentProcess, **wanted: Any) -> None:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(2 * LIMIT):
            while {key: found.get(key) for key in wanted} != wanted:
                found = await row(agent) or {}
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{found} is not {wanted}; {agent.log[-20:]}") from None


async def plug(host: FakeAdbHost, turns: int) -> None:
    """Two transitions of each of three phones in a turn."""
    for _ in range(turns):
        for number in (1, 2, 3):
            host.set(Listed(f"phone-{number}", transport_id=number))
        await asyncio.sleep(0.05)
        for number in (1, 2, 3):
            host.remove(f"phone-{number}")
        await asyncio.sleep(0.05)


async def test_killed_between_telling_and_being_acknowledged(place: Path, broker: Broker) -> None:
    hub = await Hub(fleet_of(broker.url)).start()
    async with FakeAdbHost() as phones:
        text = CONFIG.format(adb=phones.address) + FLEET.format(url=broker.url, host=HOST)
        async with AgentProcess(place, text) as agent:
            await agent.start()
            await eventually(lambda: hub.snapshots)
            first = hub.cursor
            hub.acks = False
            for _ in range(3):
                before = hub.cursor
                await plug(phones, 3)
                await eventually(lambda before=before: hub.cursor > before)  # type: ignore[misc] # binds it
                await agent.kill()
                await plug(phones, 1)  # while it is away
                await agent.start()
            await plug(phones, 2)
            hub.acks = True
            await until_row(agent, state="connected", unacked=0, host=HOST)
            assert [each.id for each in hub.taken] == list(range(first + 1, hub.cursor + 1))
            last = {each.device.udid: each for each in hub.taken}
            for udid, told in last.items():
                snapshot = {each.udid: each for each in (await hub.snapshot()).devices}
                assert snapshot[udid].state == told.device.state
                assert snapshot[udid].event == told.id
            answer = await hub.command(
                LeaseAcquire.op, **LeaseAcquire(holder="bob", ttl=60.0, udid="phone-1").args()
            )
            assert answer.result["holder"] == "bob"
            leases = (await agent.api("GET", "/v1/leases"))[1]["leases"]
            assert [lease["id"] for lease in leases] == [answer.result["id"]]
            await agent.until_metric(
                "device_agent_fleet_connected 1", "device_agent_fleet_unacked_transitions 0"
            )
            assert await agent.stop() == 0
            assert "task.failed" not in "".join(agent.log)
    await hub.stop()


async def test_a_reload_joins_and_leaves(place: Path, broker: Broker) -> None:
    hub = await Hub(fleet_of(broker.url)).start()
    async with FakeAdbHost() as phones:
        text = CONFIG.format(adb=phones.address)
        async with AgentProcess(place, text) as agent:
            await agent.start()
            assert await row(agent) is None
            assert "\ndevice_agent_fleet" not in await agent.metrics()
            agent.write(text + FLEET.format(url=broker.url, host=HOST))
            assert (await agent.api("POST", "/v1/reload"))[0] == 200
            await until_row(agent, state="connected", host=HOST)
            agent.write(text + FLEET.format(url=broker.url, host="rack-4"))
            assert (await agent.api("POST", "/v1/reload"))[0] == 200
            await until_row(agent, state="connected", host="rack-4")
            assert hub.link is not None
            assert await hub.link.get(subjects.HOSTS, "rack-4")
            agent.write(text)
            assert (await agent.api("POST", "/v1/reload"))[0] == 200
            assert await row(agent) is None
            broker.stop()  # connected, and silent: a stop waits for no broker
            agent.write(text + FLEET.format(url=broker.url, host=HOST))
            assert (await agent.api("POST", "/v1/reload"))[0] == 200
            began = asyncio.get_running_loop().time()
            assert await agent.stop() == 0
            assert asyncio.get_running_loop().time() - began < 8
    broker.go_on()
    await hub.stop()
