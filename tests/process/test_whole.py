"""The whole agent as a process: a real adb server, wire-level phones, real receivers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent import __version__
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.fakes.receiver import Receiver, answer
from tests.kit.agent import AgentProcess, cli
from tests.kit.configs import only_adb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def config(receiver: Receiver, adb: str, offline: str = "60s") -> str:
    """A phone that goes is `offline` for adb first: only who waits for that state holds short."""
    return f"""
[hold]
offline = "{offline}"
unplugged = "300ms"
{only_adb(adb)}
probe_interval = "500ms"
probe_timeout = "1s"
[[webhooks]]
id = 129
name = "Webhook for All events"
url = "{receiver.url()}"
events = ["online", "offline", "utilizing", "unplugged"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


@pytest.fixture
async def adb(tmp_path: Path) -> AsyncIterator[RealAdbServer]:
    async with RealAdbServer(BINARIES["bundled"], tmp_path) as server:
        yield server


@pytest.fixture(params=sorted(BINARIES))
async def each_adb(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RealAdbServer]:
    async with RealAdbServer(BINARIES[request.param], tmp_path) as server:
        yield server


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """What the receiver was told, in order; a message that came twice counts once.

    An agent killed between an answer and its note of it sends that message again: at least once.
    """
    first: dict[str, bytes] = {}
    for request in receiver.requests:
        assert first.setdefault(request.headers["webhook-id"], request.body) == request.body
    bodies = [json.loads(body) for body in first.values()]
    return [(body["deviceUdid"], body["eventDescription"]) for body in bodies]


async def test_from_plug_to_unplug(
    place: Path, receiver: Receiver, each_adb: RealAdbServer
) -> None:
    """Every callback of a phone's day, byte for byte but for time and ids."""
    adb = each_adb
    async with (
        FakePhone(device_name="Galaxy Note 8", authorised=False) as phone,
        AgentProcess(place, config(receiver, adb.address, offline="300ms")) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: len(receiver.requests) == 1, "offline")
        row = (await agent.devices())[phone.serial]
        assert (row["state"], row["platform"]) == ("offline", "android")
        # adb 29 does not push this one: the slow comparison finds it.
        await agent.until_device(phone.serial, "reason", "unauthorized")
        assert (await agent.devices())[phone.serial]["reason_code"] == "unauthorized"

        phone.accept()
        await receiver.until(lambda: len(receiver.requests) == 2, "online")

        command = (sys.executable, "-c", _WAIT_FOR_FILE, place)
        using = asyncio.create_task(agent.cli("use", phone.serial, "--", *command))
        await receiver.until(lambda: len(receiver.requests) == 3, "utilizing")
        row = (await agent.devices())[phone.serial]
        assert row["state"] == "utilizing"
        assert row["holder"].split("@")[1].startswith(os.uname().nodename)
        (place / "go").touch()
        code, out, _ = await using
        assert (code, out.strip()) == (7, phone.serial), (
            "its exit code, and the UDID in its environment"
        )
        assert (await agent.devices())[phone.serial]["state"] == "online"

        phone.stall()
        await receiver.until(lambda: len(receiver.requests) == 4, "offline: found by the probe")
        row = (await agent.devices())[phone.serial]
        assert "unresponsive" in row["reason"]
        assert row["reason_code"] == "unresponsive"
        _, told = await agent.api("GET", f"/v1/devices/{phone.serial}/transitions")
        assert [each["reason_code"] for each in told["transitions"][:3]] == [
            "unresponsive",
            "",
            "in_use",
        ]
        assert any("code=unresponsive" in line for line in agent.log)
        phone.resume()
        await receiver.until(lambda: len(receiver.requests) == 5, "online again")
        agent.write(config(receiver, adb.address))
        assert (await agent.cli("reload"))[0] == 0
        phone.hang_up()
        await receiver.until(lambda: len(receiver.requests) == 6, "unplugged")
        assert await agent.stop() == 0

        for request, (activity, description) in zip(
            receiver.requests,
            [
                ("status.offline", "Offline"),
                ("status.online", "Online"),
                ("state.utilizing", "Utilizing"),
                ("status.offline", "Offline"),
                ("status.online", "Online"),
                ("state.unplugged", "Unplugged"),
            ],
            strict=True,
        ):
            body = request.body.decode()
            moment = json.loads(body)["creationTime"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
            # Behind its prompt a phone tells nobody its name.
            name = phone.serial if request is receiver.requests[0] else "Galaxy Note 8"
            assert body == (
                f'{{"creationTime":"{moment}","eventType":"DEVICE",'
                f'"eventActivity":"device.{activity}","eventDescription":"{description}",'
                f'"deviceUdid":"{phone.serial}",'
                f'"deviceName":"{name}",'
                f'"orgId":1,"webhookId":129,"webhookName":"Webhook for All events"}}'
            )
            headers = request.headers
            assert headers["content-type"] == "application/json"
            assert headers["user-agent"] == f"device-agent/{__version__}"
            assert headers["webhook-id"]
            assert int(headers["webhook-timestamp"]) > 1_700_000_000
            assert headers["webhook-signature"].startswith("v1,")
        ids = {request.headers["webhook-id"] for request in receiver.requests}
        assert len(ids) == len(receiver.requests)


_WAIT_FOR_FILE = """
import os, pathlib, sys, time
print(os.environ["DEVICE_AGENT_UDID"], flush=True)
limit = time.monotonic() + 20
while not pathlib.Path(sys.argv[1], "go").exists() and time.monotonic() < limit:
    time.sleep(0.01)
sys.exit(7)
"""


async def test_an_adb_server_killed_and_restarted_makes_no_callback(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: len(receiver.requests) == 1, "online")
        await adb.kill()
        await agent.until(lambda: any("adb.down" in line for line in agent.log), "adb.down")
        row = (await agent.devices())[phone.serial]
        assert row["state"] == "online"
        assert row["reason"].startswith("when last known")
        assert row["reason_code"] == "source_down"
        # Its network phones are forgotten: registered again while the agent reconnects, the phone
        # is absent for less than its hold time or longer; another one settles the matter.
        agent.write(
            config(receiver, adb.address).replace('unplugged = "300ms"', 'unplugged = "9s"')
        )
        assert (await agent.cli("reload"))[0] == 0
        await adb.start()
        await adb.register(phone)
        async with FakePhone() as second:
            await adb.register(second)
            await receiver.until(lambda: len(receiver.requests) == 2, "the second phone")
            assert told(receiver) == [(phone.serial, "Online"), (second.serial, "Online")]


async def test_what_happened_while_it_was_down_is_told_as_its_net_change(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    async with (
        FakePhone() as stays,
        FakePhone() as goes,
        FakePhone() as comes,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(stays)
        await adb.register(goes)
        await receiver.until(lambda: len(receiver.requests) == 2, "both online")
        await agent.kill()
        goes.hang_up()
        await adb.register(comes)
        await agent.start()
        await receiver.until(lambda: len(told(receiver)) == 4, "what changed")
        assert sorted(told(receiver)[2:]) == sorted(
            [(comes.serial, "Online"), (goes.serial, "Unplugged")]
        )
        assert (await agent.devices())[stays.serial]["state"] == "online"


async def test_callbacks_survive_sigkill_and_come_in_order(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    receiver.default = answer(503)
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: len(receiver.requests) >= 1, "a refused attempt")
        phone.hang_up()
        await agent.until(
            lambda: any("state=unplugged" in line for line in agent.log), "the unplug"
        )
        await agent.kill()
        receiver.requests.clear()
        receiver.default = answer(204)
        await agent.start()
        await receiver.until(lambda: len(told(receiver)) == 2, "both callbacks")
        assert told(receiver) == [(phone.serial, "Online"), (phone.serial, "Unplugged")]


async def test_reload_is_all_or_nothing(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    async with AgentProcess(place, config(receiver, adb.address)) as agent:
        await agent.start()
        good = agent.path.read_text()
        agent.path.write_text(good.replace("events", "event"))
        code, _, err = await agent.cli("reload")
        assert code == 2
        assert re.search(rf"{agent.path}:\d+:\d+: .*did you mean 'events'", err)
        agent.signal(signal.SIGHUP)
        await agent.until(
            lambda: sum("reload.refused" in line for line in agent.log) == 2, "both refusals"
        )
        assert (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"][0]["id"] == 129
        assert any("RELOADING=1" in text for text in agent.notifications)

        agent.path.write_text(good.replace("Webhook for All events", "renamed"))
        code, out, err = await agent.cli("reload")
        assert (code, err) == (0, ""), "one that gets a new name keeps its id"
        row = (await agent.api("GET", "/v1/webhooks/129"))[1]
        assert row["name"] == "renamed"
        agent.path.write_text(good.replace("id = 129", "id = 131"))
        assert (await agent.cli("reload"))[0] == 0
        agent.path.write_text(good.replace("Webhook for All events", "another"))
        code, out, err = await agent.cli("reload")
        assert code == 1, "id 129 belonged to one that is gone"
        assert "129" in err

        agent.path.write_text(good.replace("id = 129", "id = 130"))
        code, out, err = await agent.cli("reload")
        assert (code, err) == (0, "")
        assert out == "reloaded: webhooks changed\n"
        assert (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"][0]["id"] == 130
        assert not any("adb.down" in line for line in agent.log), "what did not change stays"
        status = (await agent.api("GET", "/v1/status"))[1]
        assert status["reload"]["ok"]


async def test_sigterm_ends_it_within_its_limit_with_a_hanging_receiver(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    gate = asyncio.Event()

    async def hang(_request: Any, _writer: Any) -> None:
        await gate.wait()

    receiver.default = hang
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: receiver.open == 1, "an attempt under way")
        assert await agent.stop() == 0
        assert "STOPPING=1" in agent.notifications
        assert not agent.socket.exists()
        gate.set()
        receiver.default = answer(204)
        receiver.requests.clear()
        await agent.start()
        await receiver.until(lambda: len(receiver.requests) == 1, "it, again")
        assert told(receiver) == [(phone.serial, "Online")]


async def test_a_second_agent_is_refused(place: Path, receiver: Receiver) -> None:
    text = config(receiver, "127.0.0.1:1")
    async with AgentProcess(place, text) as first:
        await first.start()
        other = place / "other"
        other.mkdir()
        async with AgentProcess(other, "") as second:
            second.path.write_text(
                first.path.read_text().replace(f'"{first.socket}"', f'"{second.socket}"')
            )
            await second.start(ready=False)
            assert await second.ended() == 1
            assert len(second.log) == 1, second.log
            assert str(first.directory / "state") in second.log[0]


async def test_a_port_in_use_is_one_line_and_exit_1(place: Path, receiver: Receiver) -> None:
    async with AgentProcess(place, config(receiver, "127.0.0.1:1")) as agent:
        text = agent.path.read_text()
        agent.path.write_text(text.replace('listen = ""', f'listen = "127.0.0.1:{receiver.port}"'))
        await agent.start(ready=False)
        assert await agent.ended() == 1
        last = agent.log[-1]
        assert f"127.0.0.1:{receiver.port} is in use" in last
        assert "[api] listen" in last


async def test_a_bad_configuration_is_every_mistake_and_exit_2(place: Path) -> None:
    async with AgentProcess(place, "[hold]\noffline = 5\n[nonsense]\n") as agent:
        await agent.start(ready=False)
        assert await agent.ended() == 2
        assert len(agent.log) == 2, agent.log
        assert all(re.match(rf"{agent.path}:\d+:\d+: ", line) for line in agent.log)
        assert not (place / "state").exists(), "nothing was started"
        code, _, err = await agent.cli("check")
        assert code == 2
        assert err.splitlines() == agent.log


async def test_no_agent_is_said_with_what_to_do(place: Path) -> None:
    agent = AgentProcess(place, "")
    code, _, err = await agent.cli("devices")
    assert code == 1
    assert "no agent runs with this configuration" in err
    assert "Traceback" not in err


async def test_use_of_an_unknown_device_names_the_nearest(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: len(receiver.requests) == 1, "online")
        code, _, err = await agent.cli("use", phone.serial[:-1] + "x", "--", "true")
        assert code == 1
        assert phone.serial in err
        first = await agent.api("POST", "/v1/leases", {"udid": phone.serial, "holder": "bob"})
        assert first[0] == 201
        code, _, err = await agent.cli("use", phone.serial, "--", "true")
        assert code == 1
        assert "held by bob" in err


async def test_use_passes_signals_on(place: Path, receiver: Receiver, adb: RealAdbServer) -> None:
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: len(receiver.requests) == 1, "online")
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "device-agent",
            *("use", "--config", agent.path, phone.serial, "--"),
            *(sys.executable, "-c", _WAIT_FOR_FILE, str(place)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
        assert (await agent.devices())[phone.serial]["state"] == "online", "released"


async def test_a_lease_survives_the_agents_death(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: len(receiver.requests) == 1, "online")
        lease = (await agent.api("POST", "/v1/leases", {"udid": phone.serial, "holder": "bob"}))[1]
        await receiver.until(lambda: len(receiver.requests) == 2, "utilizing")
        await agent.kill()
        await agent.start()
        assert (await agent.devices())[phone.serial]["holder"] == "bob"
        assert (await agent.api("POST", f"/v1/leases/{lease['id']}/renew"))[0] == 200
        assert (await agent.api("DELETE", f"/v1/leases/{lease['id']}"))[0] == 200
        # Not before all that can tell of a use has: its last one is remembered over the restart.
        await agent.until_device(phone.serial, "state", "online")
        assert told(receiver) == [(phone.serial, "Online"), (phone.serial, "Utilizing")]


async def test_the_demo_plays_to_its_end() -> None:
    code, out, err = await cli("demo")
    assert (code, err) == (0, "")
    assert "Done: 6 callbacks" in out
    assert out.count("signature good") == 6


async def test_an_unwritable_state_directory_is_one_line(place: Path) -> None:
    (place / "state").write_text("a file where the directory should be")
    async with AgentProcess(place, "") as agent:
        await agent.start(ready=False)
        assert await agent.ended() == 1
        assert len(agent.log) == 1
        assert str(place / "state") in agent.log[0]


async def test_systemd_is_told_how_it_goes(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    async with (
        FakePhone() as phone,
        AgentProcess(place, config(receiver, adb.address)) as agent,
    ):
        await agent.start({"WATCHDOG_USEC": "200000"})
        await adb.register(phone)
        await agent.until(lambda: "STATUS=1 online" in agent.notifications, "STATUS")
        await agent.until(lambda: agent.notifications.count("WATCHDOG=1") >= 3, "WATCHDOG")
        await adb.kill()
        await agent.until(
            lambda: any(n.startswith("STATUS=1 online; adb: ") for n in agent.notifications),
            "STATUS with the problem",
        )
        assert await agent.stop() == 0
        assert agent.notifications[-1] == "STOPPING=1"
