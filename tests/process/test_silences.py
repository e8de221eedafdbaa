"""Silences of a running agent: over API and commands, through kills, and what the receiver gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.sse import follow
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE, only_adb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.receiver import Receiver


def config(receiver: Receiver, adb: str) -> str:
    return f"""{AT_ONCE}{only_adb(adb)}
probe_interval = "0s"
[[webhooks]]
id = 1
name = "all"
url = "{receiver.url()}"
events = ["online", "offline", "utilizing", "unplugged"]
[[devices]]
udid = "r58m"
tags = ["rack-1"]
"""


@pytest.fixture
async def adb() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as host:
        host.set(Listed("ce09", transport_id=1, port="1-4.2.1"))
        host.set(Listed("r58m", transport_id=2, port="1-4.21"))
        yield host


@pytest.fixture
async def agent(place: Path, receiver: Receiver, adb: FakeAdbHost) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(place, config(receiver, adb.address)) as made:
        await made.start()
        await made.until_delivered()
        assert sorted(told(receiver)) == [("ce09", "Online"), ("r58m", "Online")]
        receiver.requests.clear()
        yield made


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """In order, a message that came twice once."""
    bodies = {r.headers["webhook-id"]: json.loads(r.body) for r in receiver.requests}
    return [(body["deviceUdid"], body["eventDescription"]) for body in bodies.values()]


async def silence(agent: AgentProcess, **body: Any) -> dict[str, Any]:
    status, row = await agent.api("POST", "/v1/silences", {"reason": "new cables", **body})
    assert status == 201, row
    return dict(row)


async def test_a_phone_is_silenced_followed_and_told_of_when_it_is_over(
    agent: AgentProcess, adb: FakeAdbHost, receiver: Receiver
) -> None:
    row = await silence(agent, device="CE09", seconds=3600)
    assert {"kind": "device", "value": "ce09", "devices": 1}.items() <= row.items()
    adb.set(Listed("ce09", "unauthorized", transport_id=1, port="1-4.2.1"))
    shown = await agent.until_device("ce09", "state", "offline")
    assert shown["silence"] == {"id": row["id"], "reason": "new cables", "ends": row["ends"]}
    assert shown["told"] == "online"
    adb.set(Listed("r58m", "unauthorized", transport_id=2, port="1-4.21"))
    await agent.until_device("r58m", "state", "offline")
    await agent.until_delivered()
    assert told(receiver) == [("r58m", "Offline")]

    code, out, err = await agent.cli("silence", "list")
    assert code == 0, err
    assert "device ce09" in out
    assert "new cables" in out
    code, out, err = await agent.cli("devices")
    assert "[silenced for 59 min, told: online: new cables]" in out, out + err
    assert (await agent.api("GET", "/v1/status"))[1]["silences"] == 1
    text = await agent.metrics()
    assert "\ndevice_agent_silences 1.0" in text
    assert "\ndevice_agent_devices_silenced 1.0" in text
    await agent.until(lambda: any("1 silenced" in each for each in agent.notifications), "STATUS=")

    code, out, err = await agent.cli("silence", "end", row["id"])
    assert (code, out) == (0, f"{row['id']} has ended\n"), err
    await agent.until(lambda: any("device.told_after_silence" in x for x in agent.log), "the end")
    await agent.until_delivered()
    assert told(receiver) == [("r58m", "Offline"), ("ce09", "Offline")]
    assert (await agent.api("GET", "/v1/silences"))[1] == {"silences": []}
    status, answer = await agent.api("DELETE", f"/v1/silences/{row['id']}")
    assert (status, answer["error"]["code"]) == (404, "unknown_silence")
    assert "ended it" in answer["error"]["message"]


async def test_one_ends_by_itself(
    agent: AgentProcess, adb: FakeAdbHost, receiver: Receiver
) -> None:
    await silence(agent, all=True, seconds=3)
    adb.remove("ce09")
    await agent.until(lambda: any("silence.over" in line for line in agent.log), "the end")
    await agent.until(lambda: any("told_after_silence" in line for line in agent.log), "the call")
    await agent.until_delivered()
    assert told(receiver) == [("ce09", "Unplugged")]


async def test_killed_in_it_and_again_when_it_is_over(
    agent: AgentProcess, adb: FakeAdbHost, receiver: Receiver
) -> None:
    """One that ended while no agent ran ends at the start, once."""
    row = await silence(agent, hub="1-4.2", seconds=3600)
    adb.set(Listed("ce09", "unauthorized", transport_id=1, port="1-4.2.1"))
    await agent.until_device("ce09", "state", "offline")
    await agent.kill()
    adb.set(Listed("new", transport_id=3, port="1-4.2.4"))
    await agent.start()
    shown = await agent.until_device("new", "state", "online")
    assert shown["silence"]["id"] == row["id"]
    assert (await agent.devices())["ce09"]["told"] == "online"
    short = await silence(agent, hub="usb1", seconds=4)
    over = time.monotonic() + 4
    await agent.api("DELETE", f"/v1/silences/{row['id']}")
    await agent.kill()
    assert told(receiver) == []
    # Its end is a moment of the real clock, and far enough that the agent is dead before it.
    await asyncio.sleep(over - time.monotonic())
    for _ in range(3):
        await agent.start()
        await agent.until_delivered()
        assert sorted(told(receiver)) == [("ce09", "Offline"), ("new", "Online")]
        rows = (await agent.api("GET", "/v1/silences"))[1]["silences"]
        assert short["id"] not in [each["id"] for each in rows]
        await agent.kill()


async def test_the_command_says_what_it_covers(agent: AgentProcess) -> None:
    code, out, err = await agent.cli(
        "silence", "add", "--tag", "rack-1", "--for", "2h", "--reason", "moving the rack"
    )
    assert code == 0, err
    assert err.startswith("1 device is silenced until "), err
    assert ": moving the rack" in err
    (row,) = (await agent.api("GET", "/v1/silences"))[1]["silences"]
    assert row["id"] == out.strip()
    assert (row["kind"], row["value"]) == ("tag", "rack-1")
    assert row["by"]
    line = next(line for line in agent.log if "silence.begun" in line)
    assert "rack-1" in line

    code, out, err = await agent.cli(
        "silence", "add", "--all", "--until", "23:59", "--reason", "x", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["devices"] == 2


_REFUSED_COMMANDS = (
    (("--for", "1h"), "name one of"),
    (("--all", "--tag", "x", "--for", "1h"), "name one of"),
    (("--all",), "how long"),
    (("--all", "--for", "1h", "--until", "18:00"), "how long"),
    (("--all", "--until", "yesterday"), "neither like 18:00"),
    (("--all", "--until", "2020-01-01T00:00"), "has passed"),
    (("--device", "ce0", "--for", "1h"), "did you mean ce09"),
    (("--hub", "left", "--for", "1h"), "port path"),
    (("--all", "--for", "400d"), "366 d at most"),
)
_REFUSED_BODIES: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "name one of"),
    ({"device": "ce09", "all": True}, "name one of"),
    ({"all": False, "seconds": 1}, "'all' must be true"),
    ({"all": True}, "either when"),
    ({"all": True, "seconds": 0}, "more than 0"),
    ({"all": True, "seconds": 1e300}, "366 d at most"),
    ({"all": True, "seconds": True}, "must be a number"),
    ({"all": True, "ends": "2026-01-01T00:00:00"}, "time zone"),
    ({"all": True, "ends": "soon"}, "must be a time"),
    ({"all": True, "ends": "0001-01-01T00:00:00+23:59"}, "passed"),
    ({"all": True, "ends": "9999-12-31T00:00:00Z"}, "366 d"),
    ({"all": True, "seconds": 1, "reason": "\x1b[2J"}, "control"),
    ({"all": True, "seconds": 1, "reason": "\ud800"}, "half a character"),
    ({"all": True, "seconds": 1, "who": "me"}, "unknown key 'who'"),
    ({"tag": ["x"], "seconds": 1}, "'tag' must be a string"),
    ({"platform": "windows", "seconds": 1}, "android, ios"),
    ({"hub": "1-4.2; rm", "seconds": 1}, "port path"),
)


async def test_what_cannot_be_silenced_is_said(agent: AgentProcess) -> None:
    for arguments, said in _REFUSED_COMMANDS:
        code, out, err = await agent.cli("silence", "add", *arguments, "--reason", "why")
        assert (code != 0, out, said in err) == (True, "", True), err
    for body, said in _REFUSED_BODIES:
        status, answer = await agent.api("POST", "/v1/silences", {"reason": "why", **body})
        assert (status, said in answer["error"]["message"]) == (400, True), answer
    status, answer = await agent.api("POST", "/v1/silences", {"all": True, "seconds": 1})
    assert "'reason' must be" in answer["error"]["message"]
    status, answer = await agent.api(
        "POST", "/v1/silences", {"device": "nobody", "seconds": 1, "reason": "why"}
    )
    assert (status, answer["error"]["code"]) == (404, "unknown_device")
    assert (await agent.api("GET", "/v1/silences"))[1] == {"silences": []}


async def test_who_follows_hears_of_it(agent: AgentProcess, adb: FakeAdbHost) -> None:
    async with follow(agent.socket, "") as stream:
        await stream.until("snapshot")
        row = await silence(agent, device="ce09", reason="<img src=x onerror=alert(1)>", seconds=60)
        (heard,) = (await stream.until("silences")).data["silences"]
        assert heard == row
        shown = (await stream.until("device")).data["silence"]
        assert shown["reason"] == "<img src=x onerror=alert(1)>", "for the page to put in as text"
        async with follow(agent.socket, "") as late:
            await late.until("snapshot")
            assert (await late.next()).data == {"silences": [row]}
        await agent.api("DELETE", f"/v1/silences/{row['id']}")
        assert (await stream.until("silences")).data == {"silences": []}
        assert (await stream.until("device")).data["silence"] is None


_PHONES = {f"phone-{number}": f"1-{number}" for number in range(1, 9)}


async def shake(host: FakeAdbHost, dice: random.Random) -> None:
    """Plug, authorise, revoke and unplug phones at random, for ever."""
    while True:
        serial, port = dice.choice(list(_PHONES.items()))
        number = int(port[2:])
        match dice.randrange(3):
            case 0:
                host.set(Listed(serial, transport_id=number, port=port))
            case 1:
                host.set(Listed(serial, "unauthorized", transport_id=number, port=port))
            case _:
                host.remove(serial)
        await asyncio.sleep(0.005)


async def hush(agent: AgentProcess, dice: random.Random) -> None:
    """Silence some for a moment, and end one now and then, for ever."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            body: dict[str, Any] = {"seconds": dice.random() / 2, "reason": "why"}
            body |= dice.choice([{"hub": f"1-{dice.randrange(9)}"}, {"all": True}])
            _, row = await agent.api("POST", "/v1/silences", body)
            if dice.random() < 0.3 and "id" in row:
                await agent.api("DELETE", f"/v1/silences/{row['id']}")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kills", [6, pytest.param(150, marks=pytest.mark.long)])
async def test_killed_at_any_moment_the_receiver_is_told_of_each_change_once(
    place: Path, receiver: Receiver, kills: int
) -> None:
    """Never the same state twice in a row, and at the end the one that each phone is in."""
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print("seed", seed)
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, config(receiver, host.address)) as agent,
    ):
        tasks = [
            asyncio.create_task(shake(host, dice)),
            asyncio.create_task(hush(agent, dice)),
        ]
        for _ in range(kills):
            await agent.start(ready=dice.random() < 0.8)
            # The moment of death is the test's subject, not its synchronisation.
            await asyncio.sleep(dice.random() * 0.8)
            await agent.kill()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for serial, port in _PHONES.items():
            host.set(Listed(serial, transport_id=int(port[2:]), port=port))
        await agent.start()
        for row in (await agent.api("GET", "/v1/silences"))[1]["silences"]:
            await agent.api("DELETE", f"/v1/silences/{row['id']}")
        for serial in _PHONES:
            await agent.until_device(serial, "told", "online")
        await agent.until_delivered()
        assert not any("not_stored" in line or "step_failed" in line for line in agent.log)
    for serial in _PHONES:
        mine = [event for udid, event in told(receiver) if udid == serial]
        assert mine[-1] == "Online", mine
        assert all(one != other for one, other in pairwise(mine)), mine
