"""Commands on terminals of other encodings, into pipes that close, and for who may not ask."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.kit import warm
from tests.kit.agent import AgentProcess, ended
from tests.kit.configs import ONLY_ADB
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.receiver import Receiver

CONFIG = (
    ONLY_ADB
    + """\
[[devices]]
udid = "ce09"
name = "Rack \u2713 \u96fb\u8a71\u6a5f \U0001f4f1 \u00e9"
tags = ["\u2713"]
[[devices]]
udid = "r58m"
name = "Plain"
[[webhooks]]
id = 7
name = "board \u2713"
description = "\u2713"
url = "{url}"
events = ["online"]
"""
)
NAME = "Rack \u2713 \u96fb\u8a71\u6a5f \U0001f4f1 \u00e9"
ENCODINGS = {
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    # As the interpreter finds it, with arguments that it cannot decode either.
    "posix": {
        "LC_ALL": "POSIX",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "",
    },
}


@pytest.fixture
async def agent(place: Path, receiver: Receiver) -> AsyncIterator[AgentProcess]:
    async with FakeAdbHost() as adb:
        config = CONFIG.format(adb=adb.address, url=receiver.url("/hook"))
        async with AgentProcess(place, config) as made:
            adb.set(Listed("ce09"), Listed("r58m"))
            await made.start()
            await made.until_device("ce09", "state", "online")
            await made.until_delivered()
            lease = {"udid": "ce09", "holder": "Zo\u00eb \u2713"}
            assert (await made.api("POST", "/v1/leases", lease))[0] == 201
            yield made


async def run(
    agent: AgentProcess, words: tuple[str | bytes, ...], environ: dict[str, str]
) -> tuple[int, bytes, bytes]:
    """Forked from a process that was started in that environment; the first one is itself."""
    script, *arguments = placed(agent, words)
    if warm.may_be_warm({}) and tuple(map(os.fsdecode, words)) != COMMANDS[0]:
        async with asyncio.timeout(LIMIT):
            made = await warm.start(
                *arguments, environ={**os.environ, **environ}, stdout=PIPE, started=environ
            )
        return await ended(made)
    process = await asyncio.create_subprocess_exec(
        script, *arguments, env={**os.environ, **environ}, stdout=PIPE, stderr=PIPE
    )
    return await ended(process)


def placed(agent: AgentProcess, words: tuple[str | bytes, ...]) -> list[str | bytes | Path]:
    """The command with its --config, where it has one."""
    plain = [os.fsdecode(word) for word in words]
    count = 2 if plain[0] in {"webhooks", "deliveries", "lease"} else 1
    config: list[str | Path] = (
        [] if plain[0] in {"schema", "demo", "--help"} else ["--config", agent.path]
    )
    return [DEVICE_AGENT, *words[:count], *config, *words[count:]]


COMMANDS: list[tuple[str | bytes, ...]] = [
    ("devices",),
    ("devices", NAME),
    ("webhooks", "list"),
    ("webhooks", "test", "board \u2713"),
    ("deliveries", "list"),
    ("deliveries", "list", "--webhook", "board \u2713"),
    ("lease", "list"),
    ("check",),
    ("doctor",),
]
REFUSED: list[tuple[str | bytes, ...]] = [
    ("devices", b"\xff\xfe"),
    ("webhooks", "show", "\u2713"),
    ("webhooks", "create", "--name", b"\xff", "--url", "http://a/", "--events", "online"),
    ("deliveries", "show", b"\xff/\xfe"),
    ("deliveries", "replay", "--webhook", b"\xff"),
    ("lease", "acquire", "\u2713", "--holder", b"\xff"),
    ("lease", "acquire", "r58m", "--holder", "x\u2028"),
    ("nonsense \u2713",),
]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_no_name_breaks_a_command(agent: AgentProcess, encoding: str) -> None:
    environ = ENCODINGS[encoding]
    few = encoding not in {"latin-1", "posix"}
    listed = b""
    for words in COMMANDS[:1] if few else (*COMMANDS, *REFUSED):
        given = tuple(
            w.encode(errors="surrogateescape") if isinstance(w, str) else w for w in words
        )
        code, out, err = await run(agent, given, environ)
        assert b"Traceback" not in out + err, (words, err)
        if words in REFUSED:
            assert code in {1, 2}, words
            assert err
        elif words[0] != "doctor":
            assert code == 0, (words, err)
            assert out
            listed = listed or out
    lines = listed.decode("utf-8" if encoding in {"utf-8", "posix"} else encoding).splitlines()
    assert len(lines) == 3
    name, column = lines[1], lines[0].index("UDID")
    if encoding == "utf-8":
        assert name.startswith(NAME)
    else:
        assert name.startswith("Rack ? ??? ? ")
        assert name[column:].startswith("ce09"), "in its column"
        assert lines[2][column:].startswith("r58m")


PIPED: list[tuple[str, ...]] = [
    ("devices",),
    ("deliveries", "list"),
    ("doctor",),
    ("devices", "--watch"),
    ("devices", "--watch", "--json"),
    ("webhooks", "test", "7"),
    ("schema",),
    ("demo",),
]


@pytest.mark.parametrize("to", ["| true", ">&-", ">/dev/full"])
async def test_a_reader_that_goes_away_ends_a_command_without_a_word(
    agent: AgentProcess, place: Path, to: str
) -> None:
    with contextlib.ExitStack() as stack:
        script = DEVICE_AGENT
        if to != ">&-" and warm.may_be_warm({}):  # Python starts otherwise without a stdout
            script = place / "device-agent"
            stack.enter_context(warm.launcher(script))
        await _nobody_reads(agent, to, script)


async def _nobody_reads(agent: AgentProcess, to: str, script: Path) -> None:
    for words in PIPED if to == "| true" else PIPED[:3]:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f'"$@" {to}', "bash", script, *placed(agent, words)[1:]),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert process.stderr is not None
        reading = asyncio.create_task(process.stderr.read())
        while "--watch" in words and not reading.done():
            # It hears that nobody reads when there is something to tell.
            lease = {"udid": "r58m", "holder": "x", "ttl": 60}
            status, answer = await agent.api("POST", "/v1/leases", lease)
            assert status == 201
            await agent.api("DELETE", f"/v1/leases/{answer['id']}")
            await asyncio.wait({reading}, timeout=0.2)
        async with asyncio.timeout(LIMIT):
            err = (await reading).decode()
            await process.wait()
        assert "Traceback" not in err, (words, err)
        assert "BrokenPipe" not in err, (words, err)


async def test_a_message_that_nobody_takes_ends_no_command(agent: AgentProcess) -> None:
    """`use` says on stderr what happens to its lease, and goes on whoever reads that."""
    for stderr in ("2>&-", "2>/dev/full", "2> >(exec true)"):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f'exec {stderr}; "$@"', "bash", DEVICE_AGENT, "use"),
            *("--config", agent.path, "r58m", "--holder", "x", "--", "sh", "-c"),
            "echo begun; read line; exit 7",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            assert await process.stdout.readline() == b"begun\n", "else the lease ends before it"
        row = await agent.until_device("r58m", "state", "utilizing")
        assert row["holder"]
        (lease,) = [
            each
            for each in (await agent.api("GET", "/v1/leases"))[1]["leases"]
            if each["udid"] == "r58m"
        ]
        # Ended by somebody else: there is something to say.
        assert (await agent.api("DELETE", f"/v1/leases/{lease['id']}"))[0] == 200
        await agent.until_device("r58m", "state", "online")
        async with asyncio.timeout(LIMIT):
            await process.communicate(b"\n")
        assert process.returncode == 7


def test_who_is_in_no_group_is_told_which_one(tmp_path: Path) -> None:
    """A file of another user: what to do stands in one line."""
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("root makes a file that is somebody else's, and gives up its rights")
    group = next(each for each in grp.getgrall() if each.gr_gid not in {0, *os.getgroups()})
    folder = tmp_path / "etc"
    path = folder / "agent.toml"
    folder.mkdir()
    path.write_text("")
    path.chmod(0o640)
    folder.chmod(0o750)
    for each in (path, folder):
        os.chown(each, 54321, group.gr_gid)
    unprivileged = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    for words in (
        ["devices"],
        ["webhooks", "create", "--name", "x", "--url", "http://a/", "--events", "all"],
        ["check"],
    ):
        done = subprocess.run(
            [*unprivileged, DEVICE_AGENT, *words, "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(
            f"{path}:1:1: cannot be read (Permission denied): use sudo, or join the group "
            f"{group.gr_name} (sudo usermod --append --groups {group.gr_name} USER"
        )
