"""A holder at the other end of a network that dies. Runs inside, see test_vanish.py."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import tempfile
from pathlib import Path

import aiohttp

from tests.fakes.ports import free_port
from tests.kit.agent import AgentProcess
from tests.kit.configs import only_adb

UDID = "ce0917198075440c057e"
CONFIG = f"""
{only_adb("127.0.0.1:9")}
[[devices]]
udid = "{UDID}"
"""


def loopback(*, up: bool) -> None:
    """Of this namespace; while down it loses every packet (ioctl SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", int(up)))


async def test_a_holder_whose_host_vanishes_has_its_lease_for_a_ttl() -> None:
    loopback(up=True)
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        agent = AgentProcess(Path(name), CONFIG)
        listen = f'listen = "127.0.0.1:{free_port()}"'
        api = f'{listen}\ntoken = "a-token-of-the-lab"'
        agent.path.write_text(agent.path.read_text().replace('listen = ""', api))
        url = f"http://{listen.split(chr(34))[1]}/v1/leases"
        headers = {"Authorization": "Bearer a-token-of-the-lab"}
        body = {"udid": UDID, "holder": "alice", "ttl": 2, "tie": True}
        async with agent:
            await agent.start()
            async with (
                aiohttp.ClientSession(headers=headers) as client,
                client.post(url, json=body) as answer,
            ):
                assert json.loads(await answer.content.readline())["holder"] == "alice"
                assert "renewed" in json.loads(await answer.content.readline())
                loopback(up=False)
                # Not a byte says so: no FIN, no RST. The API's unix socket needs no network.
                await agent.until(
                    lambda: any("its holder's connection ended" in line for line in agent.log),
                    "the lease's end",
                )
            assert (await agent.api("GET", "/v1/leases"))[1] == {"leases": []}
