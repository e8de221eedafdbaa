"""A reload of a hub, and of an agent that is to be one. No broker is there: none is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.ports import free_port
from tests.kit.agent import AgentProcess
from tests.kit.configs import NO_SOURCES

if TYPE_CHECKING:
    from pathlib import Path

HUB = '[fleet]\nservers = ["nats://127.0.0.1:{port}"]\nhost = "hub-1"\nrole = "hub"\n'


async def test_a_hubs_name_takes_a_restart_and_its_role_is_refused(place: Path) -> None:
    hub = HUB.format(port=free_port())
    async with AgentProcess(place, hub) as agent:
        await agent.start()
        agent.write(hub.replace("hub-1", "hub-2"))
        code, answered = await agent.api("POST", "/v1/reload")
        assert (code, answered["needs_restart"]) == (200, ["fleet.host"])
        agent.write(NO_SOURCES)
        code, answered = await agent.api("POST", "/v1/reload")
        assert (code, answered["error"]["code"]) == (422, "unusable")
        assert "make none of what was started as a hub" in answered["error"]["message"]
        _, answered = await agent.api("GET", "/v1/hosts")
        assert answered["hub"]["connected"] is False


async def test_an_agent_becomes_no_hub_by_a_reload(place: Path) -> None:
    async with AgentProcess(place, NO_SOURCES) as agent:
        await agent.start()
        agent.write(HUB.format(port=free_port()))
        code, answered = await agent.api("POST", "/v1/reload")
        assert (code, answered["error"]["code"]) == (422, "unusable")
        assert "make one of what was started as no hub" in answered["error"]["message"]
        _, answered = await agent.api("GET", "/v1/hosts")
        assert answered == {"hub": None, "hosts": []}
