"""What hangs outside (names, the file) holds up one thing only: all else goes on, the end too."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

HANGING = """
import socket, threading
found = socket.getaddrinfo
def hang(host, *arguments, **more):
    if str(host).endswith("hang.example"):
        threading.Event().wait(600)
    return found(host, *arguments, **more)
socket.getaddrinfo = hang
"""
"""Of a process's start: name servers that are away."""
CONFIG = """
[usb]
enabled = false
[android]
adb_server = "adb.hang.example:5037"
start_server = false
[ios]
usbmuxd = "mux.hang.example:27015"
[usage]
appium = ["http://appium.hang.example:4723"]
[[webhooks]]
name = "board"
url = "http://board.hang.example/"
events = ["online"]
"""

QUIET = "[usb]\nenabled = false\n[android]\nenabled = false\n[ios]\nenabled = false\n"


async def test_names_that_cannot_be_looked_up_hold_up_their_sources_only(
    place: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    async with AgentProcess(place, CONFIG) as agent:
        await agent.start({"PYTHONPATH": str(tmp_path)})
        for source in ("adb.down", "usbmux.down"):
            await agent.until(lambda word=source: word in "\n".join(agent.log), source)
        assert (await agent.api("POST", "/v1/reload"))[0] == 200
        assert "device_agent_ready 1.0" in await agent.metrics()
        assert await agent.stop() == 0


async def test_an_address_to_listen_at_whose_name_hangs_is_refused(
    place: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    async with AgentProcess(place, QUIET) as agent:
        text = agent.path.read_text()
        agent.path.write_text(text.replace('listen = ""', 'listen = "api.hang.example:0"'))
        await agent.start({"PYTHONPATH": str(tmp_path)}, ready=False)
        assert await agent.ended() == 1
        assert "has a host that was not found within 3 s: change [api] listen" in agent.log[-1]
        agent.path.write_text(text)
        await agent.start({"PYTHONPATH": str(tmp_path)})
        agent.path.write_text(text.replace('listen = ""', 'listen = "api.hang.example:0"'))
        code, _, err = await agent.cli("reload")
        assert (code, "change [api] listen" in err) == (1, True), err
        agent.path.write_text(text.replace('listen = ""', 'listen = "localhost:0"'))
        assert (await agent.cli("reload"))[0] == 0
        assert await agent.stop() == 0


async def test_a_file_that_cannot_be_read_holds_up_its_reload_only(place: Path) -> None:
    async with AgentProcess(place, QUIET) as agent:
        await agent.start()
        agent.path.unlink()
        os.mkfifo(agent.path)
        reload = asyncio.create_task(agent.api("POST", "/v1/reload"))
        writing = await until_read(agent.path)
        try:
            assert "device_agent_ready 1.0" in await agent.metrics()
            assert await agent.stop() == 0
        finally:
            os.close(writing)
            await asyncio.gather(reload, return_exceptions=True)


async def until_read(fifo: Path) -> int:
    """A descriptor whose holder has the fifo's reader wait, once there is one."""
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.suppress(OSError):  # ENXIO: nobody reads it yet
                return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            await asyncio.sleep(0.02)
