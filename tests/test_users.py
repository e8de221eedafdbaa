"""Names from a directory that hangs, in real processes whose look-ups take a minute."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent import users
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

HANGING = """
import grp, os, pwd, threading
def hang(*_):
    threading.Event().wait(600)
pwd.getpwuid = pwd.getpwnam = grp.getgrgid = grp.getgrnam = os.getgrouplist = hang
"""
"""Of a process's start: a system whose directory server is away."""
CONFIG = ONLY_ADB


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    return {"PYTHONPATH": str(tmp_path)}


async def test_names_are_found_and_remembered() -> None:
    me = pwd.getpwuid(os.getuid())
    assert users.user_name(me.pw_uid) == me.pw_name
    assert await users.user_name_off_loop(me.pw_uid) == me.pw_name
    assert users.group_name(0) == "root"
    assert users.entry(me.pw_name) == me
    assert users.groups_of(me.pw_name, me.pw_gid) == frozenset(
        os.getgrouplist(me.pw_name, me.pw_gid)
    )


async def test_who_has_no_name_has_none() -> None:
    assert users.user_name(54321) == await users.user_name_off_loop(54321) == ""
    assert users.group_name(54321) == ""
    assert users.user_name(2**40) == ""
    assert users.entry("no such user") is None
    assert users.entry("nul\0") is None


SCRIPT = """
import asyncio, time
from agent import users
begin = time.monotonic()
assert users.user_name(0) == ""
async def work():
    names = await asyncio.gather(*(users.user_name_off_loop(n % 50) for n in range(1000)))
    assert set(names) == {""}
asyncio.run(work())
for number in range(100, 150):
    assert users.user_name(number) == users.group_name(number) == ""
assert users.entry("root") is None
print(time.monotonic() - begin)
"""


def test_a_directory_that_hangs_is_waited_for_once_and_keeps_nobody_from_ending(
    environ: dict[str, str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert float(done.stdout) < LIMIT / 2


async def test_reload_metrics_and_stop_go_on_while_a_name_is_looked_up(
    place: Path, environ: dict[str, str]
) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, CONFIG.format(adb=host.address)) as agent:
        host.set(Listed("ce09"))
        await agent.start(environ)
        lease = {"udid": "ce09", "holder": "alice"}
        for _ in range(20):
            status, answer = await agent.api("POST", "/v1/leases", lease)
            assert status == 201
            assert (await agent.api("DELETE", f"/v1/leases/{answer['id']}"))[0] == 200
            assert (await agent.api("POST", "/v1/reload"))[0] == 200
        assert "device_agent_ready 1.0" in await agent.metrics()
        code, out, err = await agent.cli("devices", **environ)
        assert (code, "ce09" in out) == (0, True), err
        # Who has no name in its environment either is told by number.
        nameless = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
        code, _, err = await agent.cli("lease", "acquire", "ce09", **environ, **nameless)
        assert code == 0
        assert f"held by {os.getuid()}@" in err
        code, _, err = await agent.cli("doctor", "--json", **environ)
        assert code in {0, 1, 2}
        assert "Traceback" not in err
        begin = time.monotonic()
        assert await agent.stop() == 0
        assert time.monotonic() - begin < LIMIT / 2
        assert any("api.change" in line and "user=?" in line for line in agent.log)


async def test_a_name_that_comes_late_counts_from_then_on() -> None:
    asked = users._Directory()
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow() -> str:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return "late"

    assert await asked.ask_off_loop("uid", 1, slow) is None
    gate.set()
    async with asyncio.timeout(LIMIT):
        while await asked.ask_off_loop("uid", 1, slow) != "late":
            pass
