"""Use of a phone through the whole agent: every transition, callbacks compared."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pytest
from aiohttp import web

from tests.fakes.adb_server import BINARIES, RealAdbServer, request
from tests.fakes.phone import FakePhone
from tests.fakes.ports import free_port
from tests.fakes.usage_servers import FakeAppium, FakeGrid, serving
from tests.fakes.usbmuxd import FakeUsbmuxd, Lockdown
from tests.kit.agent import AgentProcess
from tests.kit.configs import only_adb
from tests.kit.store import open_store
from tests.kit.waiting import eventually
from tests.usage.sample import BookingServer, install
from tests.usage.test_uiautomator2 import FakeServer
from tests.usage.test_wda import UDID, FakeWda

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.receiver import Receiver

SESSION = "4f2a1c09-0b7e-4f3c-9d55-0123456789ab"


def told(receiver: Receiver) -> list[str]:
    """What the receiver was told, in order, each message once."""
    bodies = {each.headers["webhook-id"]: json.loads(each.body) for each in receiver.requests}
    return [body["eventDescription"] for body in bodies.values()]


class AppiumServer(Protocol):
    """The fake one or a real one."""

    @property
    def url(self) -> str:
        """As it is configured."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self) -> None:
        """Refuse connections."""


Appium = TypeVar("Appium", bound=AppiumServer)


class LabOf(Generic[Appium]):
    """One agent, one adb server with a phone, an Appium and a Grid."""

    def __init__(self, place: Path, tmp_path: Path, receiver: Receiver, appium: Appium) -> None:
        self.place = place
        self.receiver = receiver
        self.adb = RealAdbServer(BINARIES["bundled"], tmp_path)
        self.appium, self.grid = appium, FakeGrid()
        self.phone = FakePhone()
        self.agent = AgentProcess(place, "")
        self.plugins = ""
        self.environ: dict[str, str] = {}
        """Of the agent."""

    @property
    def config(self) -> str:
        return f"""
{self.plugins}
[hold]
offline = "60s"
unplugged = "300ms"
usage_grace = "2s"
{only_adb(self.adb.address)}
[usage]
interval = "250ms"
appium = ["{self.appium.url}"]
grid = ["{self.grid.url}"]
[[webhooks]]
name = "board"
url = "{self.receiver.url()}"
events = ["online", "offline", "utilizing", "unplugged"]
"""

    @asynccontextmanager
    async def running(
        self, *, offline: str = "60s", usage_grace: str = "2s"
    ) -> AsyncIterator[None]:
        await self.appium.start()
        await self.grid.start()
        try:
            async with self.adb, self.phone, self.agent:
                config = self.config.replace('offline = "60s"', f'offline = "{offline}"')
                self.agent.write(config.replace('grace = "2s"', f'grace = "{usage_grace}"'))
                await self.agent.start(self.environ)
                await self.adb.register(self.phone)
                yield
        finally:
            await self.appium.stop()
            await self.grid.stop()

    async def until_told(self, *expected: str) -> None:
        await self.receiver.until(
            lambda: len(told(self.receiver)) >= len(expected), " ".join(expected)
        )
        assert told(self.receiver) == list(expected)

    async def until(self, key: str, text: str) -> dict[str, str]:
        return await self.agent.until_device(self.phone.serial, key, text)

    async def status(self) -> list[dict[str, Any]]:
        """Of each usage source what it knows."""
        usage: list[dict[str, Any]] = (await self.agent.api("GET", "/v1/status"))[1]["usage"]
        return usage

    async def lease(self) -> str:
        body = {"udid": self.phone.serial, "holder": "alice", "purpose": "by hand"}
        code, lease = await self.agent.api("POST", "/v1/leases", body)
        assert code == 201, lease
        return str(lease["id"])


class Lab(LabOf[FakeAppium]):
    """With a fake Appium."""

    def __init__(self, place: Path, tmp_path: Path, receiver: Receiver) -> None:
        super().__init__(place, tmp_path, receiver, FakeAppium())

    def open_session(self) -> None:
        self.appium.sessions[SESSION] = {"platformName": "Android", "udid": self.phone.serial}


@pytest.fixture
def lab(place: Path, tmp_path: Path, receiver: Receiver) -> Lab:
    return Lab(place, tmp_path, receiver)


async def test_a_session_begins_and_ends(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        row = await lab.until("state", "utilizing")
        assert row["holder"] == "appium session 4f2a1c09"
        assert row["reason"] == "in use by appium session 4f2a1c09"
        lab.appium.sessions.clear()
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_use_that_begins_while_the_phone_is_offline(lab: Lab) -> None:
    lab.phone.authorised = False
    async with lab.running(offline="200ms"):
        await lab.until_told("Offline")
        lab.open_session()
        lease = await lab.lease()
        row = await lab.until("holder", "alice (by hand)")
        assert row["state"] == "offline"
        assert row["reason"].endswith("; held by alice (by hand)")
        lab.phone.accept()
        await lab.until_told("Offline", "Utilizing")
        assert (await lab.until("state", "utilizing"))["holder"] == "alice (by hand)"
        await lab.agent.api("DELETE", f"/v1/leases/{lease}")
        await lab.until("holder", "appium session 4f2a1c09")


async def test_unplugged_in_mid_use_and_back_with_the_lease_still_held(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        await lab.lease()
        await lab.until_told("Online", "Utilizing")
        lab.phone.hang_up()
        await lab.until_told("Online", "Utilizing", "Unplugged")
        await lab.adb.register(lab.phone)
        await lab.until_told("Online", "Utilizing", "Unplugged", "Utilizing")
        assert (await lab.until("state", "utilizing"))["holder"] == "alice (by hand)"


async def test_two_sources_that_disagree(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        lab.grid.slots = [({"appium:udid": lab.phone.serial}, {"platformName": "android"})]
        lab.appium.sessions.clear()
        await lab.until("holder", "grid session 5e550-00")
        lab.grid.slots = []
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_lease_over_a_session(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        lease = await lab.lease()
        await lab.until("holder", "alice (by hand)")
        await lab.agent.api("DELETE", f"/v1/leases/{lease}")
        await lab.until("holder", "appium session 4f2a1c09")
        lab.appium.sessions.clear()
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_server_that_dies_is_unknown_for_the_grace_and_says_why(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        await lab.appium.stop()
        row = await lab.until("reason", "when last known")
        assert row["state"] == "utilizing"
        assert lab.appium.url in row["reason"]
        row = await lab.until("state", "online")
        assert row["reason"].startswith("usage unknown: ")
        await lab.appium.start()
        await lab.until_told("Online", "Utilizing", "Utilizing")
        log = "\n".join(lab.agent.log)
        assert log.count("usage.unknown") == 1, log


async def test_discovery_not_allowed_is_shown_and_never_idle(lab: Lab) -> None:
    lab.appium.discovery = False
    async with lab.running():
        await lab.until_told("Online")
        row = await lab.until("reason", "session_discovery")
        assert row["state"] == "online"
        assert "\n".join(lab.agent.log).count("usage.unknown") == 1
        sources = {each["source"]: each for each in await lab.status()}
        assert set(sources) == {"appium", "grid", "uiautomator2"}
        (target,) = sources["appium"]["targets"]
        assert (target["target"], target["state"]) == (lab.appium.url, "unknown")
        assert target["reason"] == row["reason"].removeprefix("usage unknown: ")
        assert target["read"].endswith("Z")
        (target,) = sources["grid"]["targets"]
        assert (target["state"], target["reason"], target["sessions"]) == ("good", "", 0)
        assert (sources["uiautomator2"]["reason"], sources["uiautomator2"]["targets"]) == ("", [])


async def test_the_status_counts_what_is_in_use_and_says_why_it_is_unknown(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        sources = {each["source"]: each for each in await lab.status()}
        assert [each["sessions"] for each in sources["appium"]["targets"]] == [1]
        await lab.appium.stop()
        await lab.until("reason", "when last known")
        sources = {each["source"]: each for each in await lab.status()}
        (target,) = sources["appium"]["targets"]
        assert (target["state"], target["sessions"]) == ("unknown", 1)
        assert "does it run?" in target["reason"]


async def test_an_agent_killed_in_mid_session_calls_nobody_twice(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        await lab.agent.kill()
        await lab.appium.stop()
        await lab.agent.start()
        assert (await lab.until("state", "utilizing"))["holder"] == "appium session 4f2a1c09"
        await lab.appium.start()
        await lab.until("reason", "in use by appium session 4f2a1c09")
        lab.appium.sessions.clear()
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_session_that_ended_while_the_agent_was_down(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        await lab.agent.kill()
        lab.appium.sessions.clear()
        await lab.agent.start()
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_uiautomator2_server_behind_a_forward(lab: Lab) -> None:
    server = FakeServer()
    async with lab.running():
        await lab.until_told("Online")
        lab.phone.apps[6790] = server
        server.sessions = ["0a1b2c3d-1111"]
        port = free_port()
        await request(lab.adb.port, f"host-serial:{lab.phone.serial}:forward:tcp:{port};tcp:6790")
        await lab.until_told("Online", "Utilizing")
        assert (await lab.until("state", "utilizing"))["holder"] == "uiautomator2 session 0a1b2c3d"
        del lab.phone.apps[6790]  # the forward stays, and proves nothing
        await lab.until("state", "online")
        assert (await lab.until("state", "online"))["reason"] == ""


async def in_use(lab: Lab, source: str) -> None:
    """Somebody uses the phone, as that source sees it."""
    match source:
        case "leases":
            await lab.lease()
        case "appium":
            lab.open_session()
        case "grid":
            lab.grid.slots = [({"appium:udid": lab.phone.serial}, {"platformName": "android"})]
        case "uiautomator2":
            server = lab.phone.apps[6790] = FakeServer()
            server.sessions = ["0a1b2c3d-1111"]
            forward = f"host-serial:{lab.phone.serial}:forward:tcp:{free_port()};tcp:6790"
            await request(lab.adb.port, forward)


async def states(agent: AgentProcess, udid: str) -> list[str]:
    """All transitions of the device, as they are stored; the agent has ended."""
    store = open_store(agent.directory / "state")
    try:
        return [str(each.transition.state) for each in await store.transitions.of(udid, 100)][::-1]
    finally:
        await store.close()


@pytest.mark.parametrize("source", ["leases", "appium", "grid", "uiautomator2"])
async def test_a_stop_and_a_start_in_mid_use_tell_nobody_anything(lab: Lab, source: str) -> None:
    async with lab.running():
        await lab.until_told("Online")
        await in_use(lab, source)
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        holder = (await lab.until("state", "utilizing"))["holder"]
        for _ in range(2):
            assert await lab.agent.stop() == 0
            assert await states(lab.agent, lab.phone.serial) == ["online", "utilizing"]
            await lab.agent.start()
            row = await lab.until("reason", f"in use by {holder}")
            assert row["state"] == "utilizing"
        assert await lab.agent.stop() == 0
        assert await states(lab.agent, lab.phone.serial) == ["online", "utilizing"]
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_stop_in_the_middle_of_a_start_tells_nobody_anything(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        await in_use(lab, "appium")
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        await lab.agent.stop()
        lab.adb.freeze()  # it says nothing: the start waits for it
        for answers in (False, True):
            lab.agent.log.clear()
            asked = len(lab.appium.asked)
            await lab.agent.start(ready=False)
            if answers:
                enough = asked + 3  # it is up, and not ready
                await eventually(partial(lab.appium.was_asked, enough), "three questions")
                assert (await lab.agent.api("GET", "/-/ready"))[0] == 503
            else:
                await lab.agent.until(lab.agent.socket.exists, "its first step")
            assert await lab.agent.stop() == 0
            assert await states(lab.agent, lab.phone.serial) == ["online", "utilizing"]
        lab.adb.thaw()
        await lab.agent.start()
        await lab.until("reason", "in use by appium")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_session_below_a_lease_is_in_use_all_along_over_a_restart(lab: Lab) -> None:
    async with lab.running(usage_grace="60s"):
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        lease = await lab.lease()
        await lab.until("holder", "alice (by hand)")
        await lab.agent.until_delivered()
        await lab.agent.stop()
        await lab.appium.stop()
        await lab.agent.start()
        assert (await lab.agent.api("DELETE", f"/v1/leases/{lease}"))[0] == 200
        # Appium cannot say yet whether its session goes on.
        assert (await lab.until("reason", "when last known"))["state"] == "utilizing"
        await lab.appium.start()
        await lab.until("reason", "in use by appium session")
        await lab.agent.stop()
        assert await states(lab.agent, lab.phone.serial) == ["online", "utilizing"]
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_lease_without_a_session_ends_after_a_restart(lab: Lab) -> None:
    async with lab.running(usage_grace="60s"):
        await lab.until_told("Online")
        lease = await lab.lease()
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        await lab.agent.stop()
        await lab.agent.start()
        assert (await lab.agent.api("DELETE", f"/v1/leases/{lease}"))[0] == 200
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_an_android_phone_that_answers_late_after_a_start_is_in_use_all_along(
    lab: Lab,
) -> None:
    async with lab.running(usage_grace="60s"):
        await lab.until_told("Online")
        await in_use(lab, "uiautomator2")
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        await lab.agent.stop()
        lab.phone.revoke()
        await lab.adb.until_listed(lab.phone.serial, "unauthorized")
        await lab.agent.start()  # ready: all usage was read once
        lab.phone.accept()
        await lab.until("reason", "in use by uiautomator2 session 0a1b2c3d")
        await lab.agent.stop()
        assert await states(lab.agent, lab.phone.serial) == ["online", "utilizing"]
        assert told(lab.receiver) == ["Online", "Utilizing"]


@pytest.mark.parametrize("restart", [False, True], ids=["hub", "hub and agent"])
async def test_a_hub_that_was_started_anew_knows_of_no_session_yet(lab: Lab, restart: bool) -> None:
    async with lab.running(usage_grace="60s"):
        await lab.until_told("Online")
        await in_use(lab, "grid")
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        if restart:
            await lab.agent.stop()
        lab.grid.registered = False
        if restart:
            await lab.agent.start()
        await lab.until("reason", "has no nodes yet")
        asked = len(lab.grid.asked)
        # Each question shows that time passes.
        await eventually(lambda: len(lab.grid.asked) >= asked + 4, "four questions")
        assert (await lab.until("holder", "grid session"))["state"] == "utilizing"
        lab.grid.registered = True
        await lab.until("reason", "in use by grid session")
        lab.grid.slots = []
        await lab.until("state", "online")
        assert told(lab.receiver) == ["Online", "Utilizing"]


async def test_a_server_whose_secret_is_missing_says_so_and_nothing_else(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        absent = lab.place / "absent"
        server = (
            f'{{ url = "{lab.appium.url}", auth = {{ type = "basic", username = "ann", '
            f'password = {{ file = "{absent}" }} }} }}'
        )
        lab.agent.write(lab.config.replace(f'"{lab.appium.url}"', server))
        assert (await lab.agent.cli("reload"))[0] == 0
        row = await lab.until("reason", "secret file")
        assert row["reason"].endswith(
            f"secret file {absent} does not exist: correct the path in the configuration"
        )
        log = "\n".join(lab.agent.log)
        assert "usage.bug" not in log
        assert "Traceback" not in log


async def test_usage_servers_change_by_a_reload(lab: Lab) -> None:
    async with lab.running():
        await lab.until_told("Online")
        lab.open_session()
        await lab.until_told("Online", "Utilizing")
        lab.agent.write(lab.config.replace(f'appium = ["{lab.appium.url}"]', "appium = []"))
        assert (await lab.agent.cli("reload"))[0] == 0
        await lab.until("state", "online")
        asked = len(lab.appium.asked)
        lab.grid.asked.clear()
        # What goes on asking shows that time passes.
        await eventually(lambda: len(lab.grid.asked) >= 3, "three questions")
        assert len(lab.appium.asked) == asked, "nothing is asked any more"
        lab.agent.write(lab.config + "[usage.plugins.nobody]\nx = 1\n")
        code, _, error = await lab.agent.cli("reload")
        assert code != 0
        assert "usage.plugins.nobody" in error


@pytest.mark.parametrize("source", ["leases", "appium", "grid", "uiautomator2"])
async def test_each_source_can_be_turned_off_in_mid_use(lab: Lab, source: str) -> None:
    async with lab.running():
        await lab.until_told("Online")
        await in_use(lab, source)
        await lab.until_told("Online", "Utilizing")
        off = "[]" if source in {"appium", "grid"} else "false"
        lines = [each for each in lab.config.splitlines() if not each.startswith(f"{source} = ")]
        config = "\n".join(lines).replace("[usage]", f"[usage]\n{source} = {off}")
        lab.agent.write(config)
        assert (await lab.agent.cli("reload"))[0] == 0
        assert (await lab.until("state", "online"))["reason"] == ""
        assert source not in {each["source"] for each in await lab.status()}
        assert told(lab.receiver) == ["Online", "Utilizing"]
        if source == "leases":
            code, _, error = await lab.agent.cli("lease", "acquire", lab.phone.serial)
            assert code == 1
            assert "leases are turned off: see leases in [usage]" in error


async def test_a_source_of_another_package(lab: Lab, tmp_path: Path) -> None:
    server = BookingServer()
    lab.environ = {"PYTHONPATH": str(install(tmp_path))}
    async with serving(server):
        lab.plugins = f'[usage.plugins.booking]\nurl = "{server.url}"\n'
        async with lab.running():
            await lab.until_told("Online")
            server.booked = {lab.phone.serial: "alice", "R58M0000000": "bob"}
            await lab.until_told("Online", "Utilizing")
            row = await lab.until("state", "utilizing")
            assert (row["holder"], row["reason"]) == (
                "booking of alice",
                "in use by booking of alice",
            )
            lab.open_session()  # what the agent knows itself is stronger
            await lab.until("holder", "appium session 4f2a1c09")
            lab.appium.sessions.clear()
            await lab.until("holder", "booking of alice")

            server.raw = web.Response(status=500)
            row = await lab.until("reason", "when last known")
            assert (row["state"], row["holder"]) == ("utilizing", "booking of alice")
            assert f"{server.url} does not say what is booked" in row["reason"]
            (target,) = next(each for each in await lab.status() if each["source"] == "booking")[
                "targets"
            ]
            assert (target["target"], target["state"]) == (server.url, "unknown")
            server.raw = None
            await lab.until("reason", "in use by booking of alice")

            server.booked = {}
            assert (await lab.until("state", "online"))["reason"] == ""
            server.booked = {lab.phone.serial: "carol"}
            await lab.until_told("Online", "Utilizing", "Utilizing")
            server.booked = {}
            await lab.until("state", "online")
            assert told(lab.receiver) == ["Online", "Utilizing", "Utilizing"]


async def test_without_its_package_the_agent_does_not_start(lab: Lab) -> None:
    lab.agent.write('[usage.plugins.booking]\nurl = "http://127.0.0.1:9"\n')
    async with lab.agent:
        await lab.agent.start(ready=False)
        assert await lab.agent.ended() != 0
    assert "[usage.plugins.booking]: no package in the agent's environment" in "\n".join(
        lab.agent.log
    )


def iphones(place: Path, receiver: Receiver) -> str:
    return f"""
[hold]
unplugged = "300ms"
[usb]
enabled = false
[android]
enabled = false
[ios]
usbmuxd = "{place / "mux"}"
[usage]
interval = "250ms"
[[webhooks]]
name = "board"
url = "{receiver.url()}"
events = ["online", "offline", "utilizing", "unplugged"]
"""


async def test_webdriveragent_on_an_iphone(place: Path, receiver: Receiver) -> None:
    wda = FakeWda()
    config = iphones(place, receiver)
    async with FakeUsbmuxd(place / "mux") as mux, AgentProcess(place, config) as agent:
        phone = mux.attach(UDID, name="Rack 1")
        await agent.start()
        await receiver.until(lambda: told(receiver) == ["Online"], "online")
        wda.session = "4F2A1C09-1111-2222-3333-444455556666"
        phone.apps[8100] = wda
        await receiver.until(lambda: told(receiver) == ["Online", "Utilizing"], "utilizing")
        row = await agent.until_device(UDID, "state", "utilizing")
        assert row["holder"] == "wda session 4F2A1C09"
        phone.apps.clear()
        await agent.until_device(UDID, "state", "online")
        assert told(receiver) == ["Online", "Utilizing"]
        phone.apps[8100] = wda
        await receiver.until(lambda: len(told(receiver)) == 3, "utilizing again")
        agent.write(config.replace("[usage]", "[usage]\nwda = false"))
        assert (await agent.cli("reload"))[0] == 0
        await agent.until_device(UDID, "state", "online")
        assert (await agent.api("GET", "/v1/status"))[1]["usage"] == []
        assert told(receiver) == ["Online", "Utilizing", "Utilizing"]


async def test_an_iphone_in_use_over_restarts(place: Path, receiver: Receiver) -> None:
    """Its lockdown check ends before the first round of usage readings, or long after it."""
    wda = FakeWda()
    wda.session = "4F2A1C09-1111-2222-3333-444455556666"
    config = iphones(place, receiver).replace(
        "[ios]", '[ios]\nprobe_interval = "1s"\nprobe_timeout = "1s"'
    )
    config = config.replace("[hold]", '[hold]\noffline = "60s"')
    async with FakeUsbmuxd(place / "mux") as mux, AgentProcess(place, config) as agent:
        phone = mux.attach(UDID, name="Rack 1", apps={8100: wda})
        await agent.start()
        await receiver.until(lambda: told(receiver)[-1:] == ["Utilizing"], "utilizing")
        before = told(receiver)
        await agent.until_delivered()
        for lockdown in (Lockdown.ANSWERS, Lockdown.SILENT, Lockdown.STALLS, Lockdown.REFUSES):
            assert await agent.stop() == 0
            phone.lockdown = lockdown
            asked = wda.asked
            await agent.start()  # ready: all usage was read once
            if lockdown is not Lockdown.ANSWERS:
                assert wda.asked == asked, "nobody could ask it yet"
            phone.lockdown = Lockdown.ANSWERS
            await agent.until_device(UDID, "reason", "in use by wda session 4F2A1C09")
        assert await agent.stop() == 0
        assert (await states(agent, UDID))[-1] == "utilizing"
        assert (await states(agent, UDID)).count("utilizing") == 1
        assert told(receiver) == before


async def test_an_iphone_that_hangs_delays_no_other(place: Path, receiver: Receiver) -> None:
    stuck, other = FakeWda(), FakeWda()
    stuck.hanging = True
    second = UDID.replace("D4", "D5")
    async with (
        FakeUsbmuxd(place / "mux") as mux,
        AgentProcess(place, iphones(place, receiver)) as agent,
    ):
        mux.attach(UDID, apps={8100: stuck})
        phone = mux.attach(second, apps={8100: other})
        await agent.start()
        row = await agent.until_device(UDID, "reason", "does not answer within")
        assert row["state"] == "online", "it is unknown, and was not in use"
        for session in ("4F2A1C09-1111", "5A3B2D10-2222"):
            other.session = session
            await agent.until_device(second, "holder", f"wda session {session[:8]}")
        assert other.asked > 2 * stuck.asked, "one after the other would be as often"
        phone.apps.clear()
        await agent.until_device(second, "state", "online")
        assert (await agent.until_device(UDID, "state", "online"))["holder"] == ""
        await receiver.until(lambda: told(receiver).count("Utilizing") == 1, "utilizing")
