"""The receiver that the README shows takes what the agent signs, and refuses the rest."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from typing import TYPE_CHECKING

from agent.clock import LoopClock
from agent.deliver.client import Client
from agent.deliver.policy import ErrorKind
from agent.model import Callback
from tests.docs.pages import ROOT, blocks
from tests.fakes.ports import free_port
from tests.kit.deliver import make_webhook
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

BODY = json.dumps({"deviceName": "Galaxy Note 8", "eventDescription": "Online"}).encode()


async def test_it_verifies(tmp_path: Path) -> None:
    (code,) = [
        block.text
        for block in blocks("python", ROOT / "README.md")
        if "WebhookVerificationError" in block.text
    ]
    found = re.search(r'SECRET = "([^"]+)"', code)
    assert found is not None
    port = free_port()
    assert "port=8080" in code
    (tmp_path / "receiver.py").write_text(code.replace("port=8080", f"port={port}"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(tmp_path / "receiver.py"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    client = Client()

    async def status(number: int, secret: str) -> int | None:
        webhook = make_webhook(f"http://127.0.0.1:{port}/hook", number, secret=secret)
        now = LoopClock().wall_ms()
        callback = Callback(f"msg_{number}", number, "phone", now, BODY)
        while True:
            sent = await client.attempt(webhook, callback, now)
            if sent.kind is not ErrorKind.REFUSED:
                return sent.status
            await asyncio.sleep(0.05)  # it is another process, and not up yet

    try:
        async with asyncio.timeout(LIMIT):
            assert await status(1, found[1]) == 204
            assert await status(2, "whsec_" + "A" * 32) == 401
            assert process.stdout is not None
            printed = b""
            while b"Galaxy Note 8 Online" not in printed:
                line = await process.stdout.readline()
                assert line, printed
                printed += line
    finally:
        await client.close()
        process.kill()
        await process.wait()
