"""The agent goes on, and loses no callback, where its log cannot be written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.kit.agent import AgentProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.receiver import Receiver

CONFIG = """
[usb]
enabled = false
[ios]
enabled = false
[hold]
offline = "0s"
unplugged = "0s"
[android]
adb_server = "{adb}"
start_server = false
[[webhooks]]
name = "board"
url = "{url}"
events = ["online", "offline", "unplugged"]
"""


@contextlib.contextmanager
def unread(path: Path) -> Iterator[None]:
    """A fifo whose reader hangs, and that is full."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    yield
    os.close(reader)
    os.close(writer)


def opened(stderr: str, fifo: Path) -> int | None:
    """What a shell would have opened; None where there is none at all."""
    match stderr:
        case "2>&-":
            return None
        case "2> >(exec true)":
            reader, writer = os.pipe()
            os.close(reader)
            return writer
        case '2>"$FIFO"':
            return os.open(fifo, os.O_WRONLY)
        case _:
            return os.open(stderr.removeprefix("2>"), os.O_WRONLY)


@pytest.mark.parametrize("style", ["text", "journal", "json"])
@pytest.mark.parametrize(
    "stderr", ["2>/dev/full", "2> >(exec true)", "2>&-", '2>"$FIFO"'], ids=ascii
)
async def test_a_log_that_cannot_be_written_costs_no_transition(
    place: Path, receiver: Receiver, stderr: str, style: str
) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(unread(place / "fifo"))
        writer = opened(stderr, place / "fifo")
        if writer is not None:
            stack.callback(os.close, writer)
        # Without a stderr Python starts otherwise: that is for a shell to do.
        wrapper = () if writer is not None else ("bash", "-c", 'exec 2>&-; exec "$@"', "bash")
        async with FakeAdbHost() as host:
            config = CONFIG.format(adb=host.address, url=receiver.url("/hook"))
            agent = AgentProcess(place, config, wrapper)
            level = f'[agent]\nlog_level = "debug"\nlog_format = "{style}"\n'
            agent.path.write_text(agent.path.read_text().replace("[agent]\n", level))
            async with agent:
                host.set(Listed("ce09"))
                await agent.start(stderr=asyncio.subprocess.PIPE if writer is None else writer)
                await receiver.until(lambda: len(receiver.requests) == 1)
                host.set(Listed("ce09", "unauthorized", transport_id=1))
                await receiver.until(lambda: len(receiver.requests) == 2)
                host.remove("ce09")
                await receiver.until(lambda: len(receiver.requests) == 3)
                states = [
                    json.loads(request.body)["eventDescription"] for request in receiver.requests
                ]
                assert states == ["Online", "Offline", "Unplugged"]
                assert (await agent.api("GET", "/-/ready"))[0] == 200
                rows = (await agent.api("GET", "/v1/devices/ce09"))[1]["transitions"]
                assert [row["to"] for row in rows] == ["unplugged", "offline", "online"]
                assert await agent.stop() == 0
                assert agent.log == []
