"""The README says what the code does."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import aiohttp

from agent.deliver.signing import Signer
from tests.fakes.ports import free_port
from tests.readme_states import rewritten

ROOT = Path(__file__).parent.parent


def test_the_states_are_drawn_from_the_tables() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == rewritten(readme), "run: python -m tests.readme_states"


async def test_the_receiver_example_verifies(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    secret = re.search(r'SECRET = "(\S+)"', code)
    assert secret is not None
    port = free_port()
    script = tmp_path / "receiver.py"
    script.write_text(code.replace("port=8080", f"port={port}"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    body = b'{"deviceName":"Galaxy Note 8","eventDescription":"Online"}'
    now = int(time.time())
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):

            async def post(signature: str) -> int:
                headers = {
                    "webhook-id": "msg_1",
                    "webhook-timestamp": str(now),
                    "webhook-signature": signature,
                }
                while True:
                    with suppress(aiohttp.ClientConnectorError):  # it is still starting
                        async with session.post(
                            f"http://127.0.0.1:{port}/hook", data=body, headers=headers
                        ) as response:
                            return response.status
                    await asyncio.sleep(0.05)

            assert await post(Signer([secret[1]]).sign("msg_1", now, body)) == 204
            assert await post(Signer(["another"]).sign("msg_1", now, body)) == 401
    finally:
        process.terminate()
        await process.communicate()
