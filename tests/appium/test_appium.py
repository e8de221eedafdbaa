"""The whole agent and a real Appium 3: what the agent tells of sessions that are really open."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.appium.server import DISCOVERY, RealAppium
from tests.fakes.usage_servers import FakeAppium, serving
from tests.process.test_usage import LabOf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.receiver import Receiver


class AppiumLab(LabOf[RealAppium]):
    """The lab with a real Appium in the fake one's place, and callbacks that say why."""

    def __init__(
        self, place: Path, tmp_path: Path, receiver: Receiver, *arguments: str, base: str = ""
    ) -> None:
        appium = RealAppium(tmp_path, *arguments, base=base)
        super().__init__(place, tmp_path, receiver, appium)

    @property
    def config(self) -> str:
        return super().config + 'payload = "extended"\n'

    def last_told(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.receiver.requests[-1].body)
        return body


@pytest.mark.parametrize("base", ["", "/wd/hub"])
async def test_a_session_is_utilizing_until_two_listings_are_without_it(
    place: Path, tmp_path: Path, receiver: Receiver, base: str
) -> None:
    lab = AppiumLab(place, tmp_path, receiver, DISCOVERY, base=base)
    async with lab.running():
        await lab.until_told("Online")
        session = await lab.appium.open_session(lab.phone.serial)
        holder = f"appium session {session[:8]}"
        await lab.until_told("Online", "Utilizing")
        callback = lab.last_told()
        assert callback["deviceUdid"] == lab.phone.serial
        assert callback["reason"] == f"in use by {holder}"
        row = await lab.until("state", "utilizing")
        assert (row["holder"], row["reason"]) == (holder, f"in use by {holder}")

        await lab.appium.delete_session(session)
        assert (await lab.until("state", "online"))["holder"] == ""
        assert lab.appium.listings_since_deletion() >= 2
        await lab.until_told("Online", "Utilizing")


async def test_a_session_on_another_phone_is_nobody_of_ours(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    lab = AppiumLab(place, tmp_path, receiver, DISCOVERY)
    async with lab.running():
        await lab.until_told("Online")
        await lab.appium.open_session("R58M0000000")
        await lab.agent.until(
            lambda: any("usage.other_device" in line for line in lab.agent.log), "the other phone"
        )
        assert (await lab.until("state", "online"))["holder"] == ""
        await lab.until_told("Online")


async def test_discovery_not_allowed_is_unknown_and_said_once(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    lab = AppiumLab(place, tmp_path, receiver)
    async with lab.running():
        await lab.until_told("Online")
        await lab.appium.open_session(lab.phone.serial)
        row = await lab.until("reason", "session_discovery")
        assert row["reason"].startswith("usage unknown: ")
        assert lab.appium.url in row["reason"]
        asked = len(lab.appium.log)
        await lab.appium.until(lambda: lab.appium.refusals(asked) >= 4, "more questions")
        said = [line for line in lab.agent.log if "usage.unknown" in line]
        assert len(said) == 1, said
        assert DISCOVERY in said[0]
        (source,) = [each for each in await lab.status() if each["source"] == "appium"]
        (target,) = source["targets"]
        assert (target["target"], target["state"]) == (lab.appium.url, "unknown")
        assert DISCOVERY in target["reason"]


async def test_discovery_forbidden_in_mid_session_is_never_idle(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    lab = AppiumLab(place, tmp_path, receiver, DISCOVERY)
    async with lab.running():
        lab.agent.write(lab.config.replace('usage_grace = "2s"', 'usage_grace = "1h"'))
        assert (await lab.agent.cli("reload"))[0] == 0
        await lab.until_told("Online")
        await lab.appium.open_session(lab.phone.serial)
        await lab.until_told("Online", "Utilizing")
        await lab.appium.stop()
        lab.appium.arguments = ()
        await lab.appium.start()
        row = await lab.until("reason", "session_discovery")
        assert row["state"] == "utilizing"
        await lab.appium.until(lambda: lab.appium.refusals(0) >= 6, "more questions")
        assert (await lab.until("reason", "session_discovery"))["state"] == "utilizing"


async def test_appium_killed_in_mid_session_is_unknown_for_the_grace(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    lab = AppiumLab(place, tmp_path, receiver, DISCOVERY)
    async with lab.running():
        await lab.until_told("Online")
        await lab.appium.open_session(lab.phone.serial)
        await lab.until_told("Online", "Utilizing")
        await lab.appium.stop()
        row = await lab.until("reason", "when last known")
        assert row["state"] == "utilizing"
        assert lab.appium.url in row["reason"]
        row = await lab.until("state", "online")
        assert row["reason"].startswith(f"usage unknown: {lab.appium.url}")
        await lab.appium.start()
        session = await lab.appium.open_session(lab.phone.serial)
        await lab.until_told("Online", "Utilizing", "Utilizing")
        assert (await lab.until("state", "utilizing"))["holder"] == f"appium session {session[:8]}"


@pytest.mark.parametrize("discovery", [True, False])
async def test_the_fake_one_answers_as_the_real_one(tmp_path: Path, discovery: bool) -> None:
    fake = FakeAppium(discovery=discovery)
    real = RealAppium(tmp_path, *([DISCOVERY] if discovery else []))
    await real.start()
    try:
        async with serving(fake), aiohttp.ClientSession() as client:
            for path in ("/appium/sessions", "/sessions"):
                async with client.get(fake.url + path) as answer:
                    ours = answer.status, await answer.json()
                theirs = await real.request("GET", path)
                assert _without_stack(ours) == _without_stack(theirs)
            session = await real.open_session("R58M123")
            if discovery:
                fake.sessions[session] = {"udid": "R58M123"}
                async with client.get(fake.url + "/appium/sessions") as answer:
                    (ours,) = (await answer.json())["value"]
                (theirs,) = (await real.request("GET", "/appium/sessions"))[1]["value"]
                assert {key: type(value) for key, value in ours.items()} == {
                    key: type(value) for key, value in theirs.items()
                }
                assert theirs["capabilities"].items() >= ours["capabilities"].items()
    finally:
        await real.stop()


def _without_stack(answer: tuple[int, Any]) -> tuple[int, Any]:
    status, body = answer
    if isinstance(body["value"], dict):
        body["value"].pop("stacktrace")
    return status, body
