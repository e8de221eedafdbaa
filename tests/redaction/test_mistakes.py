"""No mistake in a configuration makes the agent tell a secret of it, whoever reports it.

Each mistake goes through a running agent's reload (answer, log, `STATUS=`); all of them together
through `check`, as text, as JSON and on a terminal, through `run` and through `reload`.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.kit.agent import AgentProcess
from tests.kit.configs import NO_SOURCES
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

GOOD = NO_SOURCES
MISTAKES = {
    "secret empty list": "secret = []\nheaders.X-A = {}",
    "secret in a list of the wrong type": "secret = [{}, 5]",
    "secret in a list of lists": "secret = [[{}]]",
    "secret misspelt": "secrte = {}",
    "secret no base64": "secret = {whsec}",
    "secret with a line break": "secret = {lines}",
    "secret file of the wrong type": "secret = { file = [{}] }",
    "secret table with an unknown key": "secret = { value = {} }",
    "secret table with two keys": "secret = { file = {}, env = {} }",
    "credential that is a path": "secret = { credential = {path} }",
    "auth as text": "auth = {}",
    "auth of no type": "auth = { token = {} }",
    "auth of a type that is none": "auth = { type = {}, token = {} }",
    "bearer with an unknown key": 'auth = { type = "bearer", token = {}, password = {} }',
    "bearer misspelt": 'auth = { type = "bearer", tokn = {} }',
    "bearer of the wrong type": 'auth = { type = "bearer", token = [{}] }',
    "basic with an unknown key": 'auth = { type = "basic", username = "a", passwort = {} }',
    "basic with a bad user": 'auth = { type = "basic", username = ":{bare}", password = {} }',
    "basic of the wrong type": 'auth = { type = "basic", username = [{}], password = 5 }',
    "header that is a line": 'headers = { "X-A: {bare}" = {} }',
    "header of the wrong type": "headers = { X-A = [{}] }",
    "header with blanks": "headers = { X-A = {blanks} }",
    "header of ours": "headers = { webhook-id = {} }",
    "header twice": "headers = { X-A = {}, x-a = {} }",
    "headers as text": "headers = {}",
    "two ways to authorise": 'auth = { type = "bearer", token = {} }\nheaders.Authorization = {}',
    "url too long": "url = {long}",
    "url twice authorised": "url = {userinfo}\nheaders.Authorization = {}",
    "url with a bad port": "url = {port}",
    "url of another scheme": "url = {scheme}",
    "url with a blank": "url = {blank}",
    "url without a host": "url = {hostless}",
    "url of the wrong type": "url = [{}]",
    "key without a certificate": 'tls = { key = "/none", kee = {} }\nurl = {good}',
    "name twice": 'name = "twice"\nurl = {good}\nsecret = {}',
    "name twice again": 'name = "twice"\nurl = {good}\nsecret = {}',
    "unknown key": "colour = {}",
    "usage url": "usage = {}",
}  # fmt: skip
"""What -> the keys of a webhook; `{}` stands for a secret in quotes."""
BROKEN = {
    "no quotes": "secret = {bare}",
    "open quotes": 'secret = "{bare}',
    "stray quote": 'secret = "{bare}"{bare}"',
    "bad escape": r'secret = "{bare}\q"',
    "key twice": 'secret = "{bare}"\nsecret = "{bare}"',
    "no equals": "secret {bare}",
    "open bracket": 'secret = ["{bare}"',
}
"""Mistakes of syntax: each hides whatever else is wrong."""


class Writer:
    """Writes webhooks with mistakes and new secrets in them."""

    def __init__(self) -> None:
        self.vault = Vault()
        self._number = 0

    def bare(self) -> str:
        self._number += 1
        return self.vault.make(f"secret {self._number}")

    def webhook(self, what: str, keys: str) -> str:
        """A table whose mistake is in these keys."""
        shapes = {
            "{whsec}": "whsec_{}!",
            "{lines}": "{}\n{}",
            "{path}": "../{}",
            "{blanks}": " {} ",
            "{good}": "https://board.example/?{}",
            "{long}": f"https://a:{{}}@board.example/?{{}}{'x' * 500}",
            "{userinfo}": "https://a:{}@board.example/?{}",
            "{port}": "https://a:{}@board.example:x/?{}",
            "{scheme}": "ftp://a:{}@board.example/?{}",
            "{blank}": "https://a:{}@board.example/ ?{}",
            "{hostless}": "https://a:{}@/?{}",
        }
        text = keys
        for key, shape in shapes.items():
            while key in text:
                value = shape
                while "{}" in value:
                    value = value.replace("{}", self.bare(), 1)
                text = text.replace(key, json.dumps(value), 1)
        for mark, quote in (("{}", '"'), ("{bare}", "")):
            while mark in text:
                text = text.replace(mark, f"{quote}{self.bare()}{quote}", 1)
        lines = ["[[webhooks]]", 'events = ["online"]', text]
        if not keys.startswith("name ="):
            lines.append(f'name = "{what}"')
        if "url =" not in keys:
            lines.append(f'url = "https://board.example/?{self.bare()}"')
        return "\n".join(lines) + "\n"


async def on_a_terminal(*arguments: str | Path) -> tuple[int, str]:
    """Run `device-agent ARGUMENTS` with a terminal for its errors: (exit code, what it shows)."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            DEVICE_AGENT, *arguments, stderr=theirs, stdout=asyncio.subprocess.DEVNULL
        )
    finally:
        os.close(theirs)
    reading = asyncio.get_running_loop().run_in_executor(None, _read_all, ours)
    async with asyncio.timeout(LIMIT):
        return await process.wait(), (await reading).decode()


def _read_all(descriptor: int) -> bytes:
    chunks = []
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                chunk = terminal.read(65536)
            except OSError:  # EIO: the other side is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
    return b"".join(chunks)


async def test_no_reload_that_is_refused_tells_a_secret(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = Writer()
    found = writer.vault.found_in
    async with AgentProcess(place, GOOD) as agent:
        # Without a source the start waits for its whole limit.
        good = agent.path.read_text().replace("[api]", 'start_limit = "50ms"\n[api]', 1)
        agent.path.write_text(good)
        await agent.start()
        whole = {what: keys for what, keys in MISTAKES.items() if not what.startswith("name twice")}
        for what, keys in (*whole.items(), *BROKEN.items()):
            agent.path.write_text(good + writer.webhook(what, keys))
            code, answer = await agent.api("POST", "/v1/reload")
            assert (code, answer["error"]["code"]) == (422, "bad_config"), what
            assert f"{agent.path}:" in answer["error"]["message"]
            if what in whole:
                assert f"webhook '{what}'" in answer["error"]["message"]
            assert not found(json.dumps(answer)), what
        status = await agent.api("GET", "/v1/status")
        assert status[1]["reload"]["error"]
        assert not found(json.dumps(status))
        agent.signal(signal.SIGHUP)
        refused = len(whole) + len(BROKEN) + 1
        await agent.until(
            lambda: sum("reload.refused" in line for line in agent.log) == refused, "refusals"
        )
        assert await agent.stop() == 0
    log = "\n".join(agent.log)
    assert "bearer with an unknown key" in log
    assert not found(log)
    assert not found("\n".join(agent.notifications))
    assert any("reload: refused" in line for line in agent.notifications)
    assert not found("".join(capfd.readouterr()))
    with closing(sqlite3.connect(place / "state" / "state.db")) as connection:
        assert not found("\n".join(connection.iterdump()))
    assert found((place / "agent.toml").read_bytes()), "the search finds what is there"


@pytest.mark.parametrize("kind", ["mistakes", *BROKEN])
async def test_no_command_tells_a_secret_of_a_file_with_mistakes(place: Path, kind: str) -> None:
    writer = Writer()
    found = writer.vault.found_in
    mistakes = MISTAKES if kind == "mistakes" else {kind: BROKEN[kind]}
    agent = AgentProcess(place, "\n".join(writer.webhook(*each) for each in mistakes.items()))
    assert found(agent.path.read_bytes())
    outputs = {"terminal": await on_a_terminal("check", agent.path)}
    if kind in {"mistakes", "open quotes"}:
        for command in ("check", "run", "reload"):
            code, out, err = await agent.cli(command)
            outputs[command] = code, out + err
        code, out, err = await agent.cli("check", "--json")
        assert len(json.loads(out)["problems"]) >= len(mistakes)
        outputs["json"] = code, out + err
    for name, (code, shown) in outputs.items():
        assert code == 2, name
        assert str(agent.path) in shown, name
        if kind == "mistakes":
            missing = [what for what in mistakes if "twice" not in what and what not in shown]
            assert not missing, name
        assert not found(shown), name
    if kind == "mistakes":
        assert "•" in outputs["terminal"][1], "the lines are shown, and what may be secret covered"
