"""A forked `device-agent` (tests/kit/warm.py) is to others what a started one is."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost
from tests.kit import warm
from tests.kit.agent import AgentProcess, cli
from tests.kit.configs import ONLY_ADB
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not warm.may_be_warm({}), reason="COLD: nothing is forked")
STARTED = {"PYTHONHASHSEED": "0"}
"""Read as Python starts: with it the installed script is started."""


@pytest.mark.parametrize(
    "words",
    [("--version",), ("--help",), ("check", "--config", "no/such.toml"), ("no-such-command",)],
)
async def test_it_says_the_same_and_ends_the_same(words: tuple[str, ...]) -> None:
    assert warm.may_be_warm({})
    assert not warm.may_be_warm(STARTED)
    assert await cli(*words) == await cli(*words, **STARTED)


async def test_it_has_the_environment_and_the_directory_that_it_was_given(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "here.toml").write_text("nonsense = 1\n")
    async with asyncio.timeout(LIMIT):
        process = await warm.start(
            "check", environ={"DEVICE_AGENT_CONFIG": "here.toml"}, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = await process.stdout.read() + await process.stderr.read()
        assert await process.wait() == 2
    assert b"here.toml:1:1" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
async def test_signals_reach_it_and_its_end_is_told(place: Path, number: signal.Signals) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, ONLY_ADB.format(adb=host.address)) as agent,
    ):
        await agent.start()
        assert isinstance(agent.process, warm.WarmProcess)
        assert os.getpgid(agent.process.pid) == os.getpgid(0)
        agent.signal(number)
        if number is signal.SIGSTOP:
            assert agent.process.returncode is None
            await agent.kill()
            assert agent.process.returncode == -signal.SIGKILL
        else:
            assert await agent.ended() == (0 if number is signal.SIGTERM else -number)
        with pytest.raises(ProcessLookupError):
            os.kill(agent.process.pid, 0)
