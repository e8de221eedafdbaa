"""What the page looks at, asked of a running agent over its socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE, NO_SOURCES, ONLY_ADB
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIG = (
    AT_ONCE
    + ONLY_ADB
    + """\
probe_interval = "0s"
[[devices]]
udid = "ce09"
name = "<img src=x onerror=alert(1)>"
tags = ["rack-1"]
[[webhooks]]
id = 7
name = "board"
url = "{good}"
events = ["online", "offline", "unplugged"]
[[webhooks]]
id = 8
name = "broken"
url = "{bad}"
events = ["unplugged"]
"""
)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def get(agent: AgentProcess, path: str) -> Any:
    status, told = await agent.api("GET", path)
    assert status == 200, told
    return told


async def examined(agent: AgentProcess) -> Any:
    """What the doctor found; on a busy host that takes longer than the API lets anybody wait."""
    async with asyncio.timeout(5 * LIMIT):
        while True:
            status, told = await agent.api("GET", "/v1/doctor")
            if status != 503:
                assert status == 200, told
                return told


@pytest.fixture
async def lived(place: Path) -> AsyncIterator[AgentProcess]:
    """An agent whose phone has been through all states, with an endpoint that fails."""
    good, bad = await Receiver().start(), await Receiver().start()
    bad.default = answer(503, body=b"out to lunch")
    async with FakeAdbHost() as host:
        text = CONFIG.format(adb=host.address, good=good.url(), bad=bad.url())
        async with AgentProcess(place, text) as agent:
            await agent.start()
            host.set(Listed("ce09", "device", port="1-4.2", transport_id=1))
            await agent.until_device("ce09", "state", "online")
            host.set(Listed("ce09", "unauthorized", port="1-4.2", transport_id=1))
            await agent.until_device("ce09", "state", "offline")
            host.remove("ce09")
            await agent.until_device("ce09", "state", "unplugged")
            host.set(Listed("ce09", "device", port="1-4.2", transport_id=2))
            await agent.until_device("ce09", "state", "online")
            await good.until(lambda: len(good.requests) == 4, "four callbacks")
            await bad.until(lambda: len(bad.requests) >= 1, "the one that fails")
            lease = await agent.api("POST", "/v1/leases", {"udid": "ce09", "holder": "alice"})
            assert lease[0] == 201
            await agent.until_device("ce09", "state", "utilizing")
            yield agent
            assert await agent.stop() == 0
    await good.close()
    await bad.close()


async def test_a_devices_page_says_why(lived: AgentProcess) -> None:
    (row,) = (await get(lived, "/v1/devices"))["devices"]
    page = await get(lived, "/v1/devices/CE09")
    assert {key: page[key] for key in row} == row, "a row, and more"
    assert page["name"] == "<img src=x onerror=alert(1)>"
    assert page["host"] == (await get(lived, "/v1/status"))["host"] != ""
    assert page["lease"] == (await get(lived, "/v1/leases"))["leases"][0]
    readings = page["readings"]
    assert (readings["bridge"], readings["bridge_source"]) == ("ready", "adb")
    assert (readings["usage"], readings["holder"]) == ("in use", "alice")
    assert all(readings[f"{name}_since"] for name in ("presence", "bridge", "usage"))
    assert readings["bridge_since"] >= page["transitions"][2]["at"], "since it came back"
    (seen,) = page["sightings"]
    assert (seen["source"], seen["says"], seen["port"]) == ("adb", "ready", "1-4.2")


async def test_a_transition_has_the_callbacks_that_it_made(lived: AgentProcess) -> None:
    used, online, unplugged, offline, first = (await get(lived, "/v1/devices/ce09"))["transitions"]
    (call,) = online["callbacks"]
    assert (call["webhook_name"], call["status"], call["created"]) == ("board", 200, online["at"])
    assert {call["webhook_name"] for call in unplugged["callbacks"]} == {"board", "broken"}
    waits = next(call for call in unplugged["callbacks"] if call["webhook_name"] == "broken")
    assert (waits["state"], waits["device_state"]) == ("pending", "unplugged")
    assert [len(each["callbacks"]) for each in (used, offline, first)] == [0, 1, 1]
    shown = await get(lived, "/v1/webhooks/broken")
    assert (shown["pending"], shown["waiting_devices"]) == (1, 1)
    assert (await get(lived, "/v1/webhooks/7"))["pending"] == 0


async def test_transitions_come_in_pages(lived: AgentProcess) -> None:
    path = "/v1/devices/ce09/transitions"
    told = await get(lived, f"{path}?limit=2")
    whole = told["transitions"]
    while told["next"]:
        assert len(told["transitions"]) == 2
        told = await get(lived, f"{path}?limit=2&cursor={told['next']}")
        whole += told["transitions"]
    assert whole == (await get(lived, path))["transitions"]
    page = await get(lived, "/v1/devices/ce09")
    assert (page["transitions"], page["next"]) == (whole, None), "few enough for one page"
    for query in ("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=-1", "from=1"):
        status, refused = await lived.api("GET", f"{path}?{query}")
        assert (status, refused["error"]["code"]) == (400, "bad_request"), query
    assert (await lived.api("GET", "/v1/devices/none/transitions"))[0] == 404


async def test_deliveries_come_in_pages_and_between_two_times(place: Path) -> None:
    receiver = await Receiver().start()
    async with FakeAdbHost() as host:
        text = CONFIG.format(adb=host.address, good=receiver.url(), bad=receiver.url())
        async with AgentProcess(place, text) as agent:
            await agent.start()
            names = [f"phone{number}" for number in range(5)]
            for name in names:
                host.set(Listed(name))
                await agent.until_device(name, "state", "online")
            await agent.until_delivered()
            every = (await get(agent, "/v1/deliveries"))["deliveries"]
            assert [row["udid"] for row in every] == names[::-1]
            first = await get(agent, "/v1/deliveries?limit=2&webhook=board&state=delivered")
            second = await get(agent, f"/v1/deliveries?limit=2&cursor={first['next']}")
            last = await get(agent, f"/v1/deliveries?limit=2&cursor={second['next']}")
            assert last["next"] is None
            pages = [row for page in (first, second, last) for row in page["deliveries"]]
            assert pages == every
            assert (await get(agent, "/v1/deliveries?limit=5"))["next"] is None
            middle = every[2]["created"]
            older = (await get(agent, f"/v1/deliveries?until={middle}"))["deliveries"]
            newer = (await get(agent, f"/v1/deliveries?since={middle}"))["deliveries"]
            assert older == every[3:]
            assert newer == every[:3]
            assert (await get(agent, "/v1/deliveries?until=1h"))["deliveries"] == []
            code, out, _ = await agent.cli("deliveries", "list", "--json", "--until", middle)
            assert (code, json.loads(out)["deliveries"]) == (0, older)
            for query in ("cursor=x", "cursor=", "until=soon", "limit=1001"):
                status, refused = await agent.api("GET", f"/v1/deliveries?{query}")
                assert (status, refused["error"]["code"]) == (400, "bad_request"), query
            status, refused = await agent.api("POST", "/v1/deliveries/replay", {"cursor": "5"})
            assert status == 400
            assert "unknown filter 'cursor'" in refused["error"]["message"]
            body = {"state": "delivered", "until": middle}
            status, again = await agent.api("POST", "/v1/deliveries/replay", body)
            assert (status, again["replayed"]) == (200, [row["id"] for row in older[::-1]])
            assert await agent.stop() == 0
    await receiver.close()


async def test_the_status_says_of_each_source_and_each_mistake(place: Path) -> None:
    async with FakeAdbHost() as host:
        text = ONLY_ADB.format(adb=host.address)
        async with AgentProcess(place, text) as agent:
            await agent.start()
            told = await get(agent, "/v1/status")
            states = {each["source"]: each["state"] for each in told["sources"]}
            assert states == {"udev": "off", "adb": "up", "usbmux": "off"}
            assert told["reload"]["problems"] == []
            agent.write(text + '[[webhooks]]\nname = "a"\nurl = "nowhere"\nevnts = []\n')
            assert (await agent.api("POST", "/v1/reload"))[0] == 422
            last = (await get(agent, "/v1/status"))["reload"]
            assert not last["ok"]
            mistakes = last["problems"]
            assert len(mistakes) >= 2
            assert {each["file"] for each in mistakes} == {str(agent.path)}
            assert all(each["line"] and each["message"] for each in mistakes)
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))  # and it does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with AgentProcess(place, ONLY_ADB.format(adb=address)) as agent:
            await agent.start()
            told = await get(agent, "/v1/status")
            adb = next(each for each in told["sources"] if each["source"] == "adb")
            assert adb["state"] == "down"
            assert address in adb["reason"]


async def test_the_agent_has_itself_examined_and_tells_no_secret(place: Path) -> None:
    receiver = await Receiver().start()
    config = NO_SOURCES + (
        f'[[webhooks]]\nname = "board"\nurl = "{receiver.url("/hook?token=hidden")}"\n'
        f'events = ["online"]\nsecret = "{SECRET}"\n'
    )
    async with AgentProcess(place, config) as agent:
        await agent.start()
        told = await asyncio.gather(*[examined(agent) for _ in range(10)])
        assert all(each == told[0] for each in told), "one look for all who ask at once"
        rows = told[0]["findings"]
        board = next(each for each in rows if each["check"] == "board")
        assert (board["section"], board["verdict"]) == ("Webhooks", "ok")
        assert "reached in" in board["found"]
        runs = next(each for each in rows if (each["section"], each["check"]) == ("Agent", "agent"))
        assert runs["verdict"] == "ok"
        assert receiver.requests == [], "nothing was sent"
        assert "hidden" not in json.dumps(told)
        assert SECRET.removeprefix("whsec_") not in json.dumps(told)
        code, out, _ = await agent.cli("doctor", "--json")
        assert code in {0, 1}
        assert {(each["section"], each["check"]) for each in json.loads(out)["findings"]} == {
            (each["section"], each["check"]) for each in rows
        }
        agent.write(config + "nonsense = 1\n")
        async with asyncio.timeout(5 * LIMIT):  # what was found is kept for a few seconds
            while True:
                again = await examined(agent)
                if again != told[0]:
                    break
                await asyncio.sleep(0.2)
        assert again["verdict"] == "fail"
        assert any("nonsense" in each["found"] for each in again["findings"])
        assert await agent.stop() == 0
    await receiver.close()


async def test_the_doctor_works_in_a_process_of_his_own(place: Path) -> None:
    """In the agent's his threads kept its loop from work; one that dies takes nothing with it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = NO_SOURCES + (
            f'[[webhooks]]\nname = "board"\nurl = "https://127.0.0.1:{silent.getsockname()[1]}"\n'
            f'events = ["online"]\nsecret = "{SECRET}"\n'
        )
        async with AgentProcess(place, config) as agent:
            await agent.start()
            assert agent.process is not None
            asked = asyncio.create_task(agent.api("GET", "/v1/doctor"))
            async with asyncio.timeout(LIMIT):
                while not (found := await asyncio.to_thread(doctors, agent.process.pid)):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.02)
            (doctor,) = found
            os.kill(doctor, signal.SIGKILL)
            status, answered = await asked
            assert (status, answered["error"]["code"]) == (500, "failed")
            assert "the agent's log says why" in answered["error"]["message"]
            assert any("the doctor ended with -9" in line for line in agent.log)
            again = await examined(agent)
            board = next(each for each in again["findings"] if each["check"] == "board")
            assert board["verdict"] == "fail", "who dies is not kept"
            assert SECRET.removeprefix("whsec_") not in json.dumps([again, agent.log])


def doctors(pid: int) -> list[int]:
    """The processes that the agent has the doctor work in."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"agent.doctor.examine" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


async def test_a_phone_at_no_port_is_told_beside_the_tree(place: Path) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, ONLY_ADB.format(adb=host.address)) as agent,
    ):
        await agent.start()
        assert (await get(agent, "/v1/ports"))["controllers"] == []
        host.set(Listed("emulator-5554"))
        await agent.until_device("emulator-5554", "state", "online")
        told = await get(agent, "/v1/ports")
        assert [each["udid"] for each in told["unplaced"]] == ["emulator-5554"]
        assert "[usb] enabled = false" in told["reason"]
