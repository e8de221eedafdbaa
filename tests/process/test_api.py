"""The API of a whole agent: what a reload cannot put in force, and who did what."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

from tests.fakes.fake_adb_host import FakeAdbHost
from tests.kit.agent import AgentProcess
from tests.process.test_events import CONFIG, plug, until_stored

if TYPE_CHECKING:
    from pathlib import Path

HOOK = '[[webhooks]]\nname = "a"\nurl = "https://127.0.0.1:1/"\nevents = ["online"]\n'


async def test_what_a_reload_cannot_put_in_force_is_the_files_mistake(place: Path) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, "") as agent:
        config = CONFIG.format(adb=host.address)
        agent.write(config)
        await agent.start()
        agent.write(config + HOOK + 'tls = { ca = "nowhere.pem" }\n')
        status, answer = await agent.api("POST", "/v1/reload")
        assert (status, answer["error"]["code"]) == (422, "unusable")
        assert "webhook 'a': tls.ca" in answer["error"]["message"]
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            agent.write(config)
            text = agent.path.read_text().replace('listen = ""', f'listen = "{address}"')
            agent.path.write_text(text)
            status, answer = await agent.api("POST", "/v1/reload")
        assert (status, answer["error"]["code"]) == (422, "unusable")
        assert f"the address {address} is in use" in answer["error"]["message"]


async def test_the_log_says_which_process_took_and_gave_back_a_phone(place: Path) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, "") as agent:
        agent.write(CONFIG.format(adb=host.address))
        await agent.start()
        plug(host, "ce09")
        await until_stored(agent, "ce09", "online")
        body = {"udid": "ce09", "holder": "alice"}
        _, lease = await agent.api("POST", "/v1/leases", body)
        await agent.api("POST", f"/v1/leases/{lease['id']}/renew")
        await agent.api("DELETE", f"/v1/leases/{lease['id']}")
        who = (f"uid={os.getuid()}", f"pid={os.getpid()}")
        await agent.until(
            lambda: sum("api.change" in line for line in agent.log) == 2, "two changes"
        )
        for word in ("lease.acquired", "lease.released", "api.change"):
            line = next(line for line in agent.log if word in line)
            assert all(part in line for part in who), line
