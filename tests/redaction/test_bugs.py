"""A bug inside the agent is logged with its traceback, and the traceback tells no values."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest

from tests.kit.waiting import LIMIT
from tests.redaction.vault import Vault

ROOT = Path(__file__).parent.parent.parent
CHILD = Path(__file__).with_name("failing_api_child.py")


@pytest.mark.parametrize("style", ["text", "journal", "json"])
async def test_the_api_and_the_log_tell_no_values(style: str) -> None:
    vault = Vault()
    secret = vault.make("secret", "+/")
    with tempfile.TemporaryDirectory(prefix="da-") as place:
        path = f"{place}/s"
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, CHILD, style, path, secret),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        try:
            assert child.stdout is not None
            async with (
                asyncio.timeout(LIMIT),
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            ):
                assert await child.stdout.readline() == b"listening\n"
                for url in ("/v1/devices", "/v1/deliveries"):
                    async with session.get(f"http://localhost{url}") as response:
                        answer = await response.json()
                        assert response.status == 500
                    assert answer["error"]["code"] == "internal"
                    assert not vault.found_in(json.dumps(answer))
        finally:
            child.kill()
            _, shown = await child.communicate()
    # Its traceback is there, and the line of code that names the variable is.
    for expected in (
        "api.failed",
        'headers["Authorization"][:0]',
        "KeyError",
        "a bug of the agent",
    ):
        assert expected in shown.decode().replace('\\"', '"')
    assert not vault.found_in(shown)
