"""`device-agent doctor` as an operator runs it: with an agent, without, and what it hands on."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import socket
import stat
import struct
import tarfile
import termios
from typing import TYPE_CHECKING, Any

import pytest

from agent.doctor.finding import EXIT_CODES, Verdict
from tests.fakes.fake_adb_host import FakeAdbHost, Listed, Mode
from tests.fakes.receiver import answer
from tests.kit.agent import AgentProcess, cli
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.receiver import Receiver

BASE = """
[usb]
enabled = false
[ios]
usbmuxd = "{place}/mux"
[usage]
uiautomator2 = false
[android]
start_server = false
adb_server = "127.0.0.1:{adb}"
[hold]
offline = "0s"
"""


@pytest.fixture
async def adb() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as host:
        host.set(Listed("R58M1"))
        host.set(Listed("R58M2", state="unauthorized"))
        yield host


def config(place: Path, adb: FakeAdbHost, *webhooks: str) -> str:
    return BASE.format(place=place, adb=adb.port) + "".join(webhooks)


def webhook(url: str, name: str = "Board", more: str = "") -> str:
    return f'[[webhooks]]\nname = "{name}"\nurl = "{url}"\nevents = ["online"]\n{more}\n'


async def examined(agent: AgentProcess, **environ: str) -> dict[str, Any]:
    """What `doctor --json` says; its exit code fits it."""
    code, out, err = await agent.cli("doctor", "--json", **environ)
    assert err == ""
    answered: dict[str, Any] = json.loads(out)
    assert code == EXIT_CODES[Verdict(answered["verdict"])]
    worst = max(
        (Verdict(each["verdict"]) for each in answered["findings"]), key=list(Verdict).index
    )
    assert answered["verdict"] == worst
    return answered


def found(answered: dict[str, Any], check: str) -> tuple[str, str]:
    """Verdict and text of the only finding of that check."""
    (each,) = [each for each in answered["findings"] if each["check"] == check]
    assert bool(each["remedy"]) == (each["verdict"] != "ok")
    return each["verdict"], each["found"]


async def test_with_a_running_agent(place: Path, adb: FakeAdbHost, receiver: Receiver) -> None:
    async with AgentProcess(place, config(place, adb, webhook(receiver.url()))) as agent:
        await agent.start()
        await agent.until_device("R58M1", "state", "online")
        await agent.until_device("R58M2", "reason", "unauthorized")
        await agent.until_delivered()
        sent = len(receiver.requests)
        answered = await examined(agent)
        assert answered["agent_runs"]
        assert agent.process is not None
        verdict, text = found(answered, "agent")
        assert verdict == "ok"
        assert f"pid {agent.process.pid}, user " in text
        assert found(answered, "descriptors")[0] == "ok"
        assert found(answered, "file") == ("ok", f"{agent.path}: 1 webhooks, 0 devices")
        assert found(answered, "last reload") == ("ok", "none since start")
        assert found(answered, "udevd") == ("ok", "not watched ([usb] enabled = false)")
        verdict, text = found(answered, "adb server")
        assert (verdict, f"pid {os.getpid()}" in text) == ("ok", True)
        verdict, text = found(answered, "R58M2")
        assert (verdict, "unauthorized" in text) == ("warn", True)
        assert found(answered, "states")[1] == "1 online, 1 offline"
        assert found(answered, "Board")[0] == "ok"
        verdict, text = found(answered, "store")
        assert (verdict, f"{place}/state, " in text) == ("ok", True)
        assert len(receiver.requests) == sent, "nothing was asked of the endpoint"

        agent.path.write_text(agent.path.read_text() + "[nonsense]\n")
        assert (await agent.api("POST", "/v1/reload"))[0] == 422
        answered = await examined(agent)
        assert found(answered, "file")[0] == "fail"
        assert found(answered, "last reload")[0] == "fail"
        assert "nonsense" in found(answered, "last reload")[1]
        assert answered["agent_runs"], "it is found by what is right in the file"


async def test_without_an_agent(place: Path, adb: FakeAdbHost, receiver: Receiver) -> None:
    agent = AgentProcess(place, config(place, adb, webhook(receiver.url())))
    async with agent:
        await agent.start()
        await agent.until_delivered()
        await agent.stop()
    sent = len(receiver.requests)
    answered = await examined(agent)
    assert answered["agent_runs"] is False
    verdict, text = found(answered, "agent")
    assert (verdict, "seen from outside" in text) == ("fail", True)
    assert found(answered, "phones") == ("warn", "R58M2: unauthorized")
    assert found(answered, "store") == ("ok", f"{place}/state: whole (quick_check)")
    assert found(answered, "Board")[0] == "ok"
    assert len(receiver.requests) == sent
    # Nothing of it is in the way of the next start.
    async with agent:
        await agent.start()
        assert await agent.stop() == 0


async def test_a_webhook_that_is_gone_and_one_that_fails(
    place: Path, adb: FakeAdbHost, receiver: Receiver
) -> None:
    receiver.default = answer(410)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        text = config(place, adb, webhook(receiver.url()), webhook(refusing, "Other"))
        async with AgentProcess(place, text) as agent:
            await agent.start()
            await agent.until_metric(r'webhook_state{state="paused",webhook="Board",.*} 1.0')
            answered = await examined(agent)
    verdict, text = found(answered, "Board")
    assert (verdict, text.startswith("paused: ")) == ("fail", True)
    assert "1 callbacks wait" in text
    verdict, text = found(answered, "Other")
    assert (verdict, "refuses connections" in text) == ("fail", True)


async def test_where_everything_hangs(place: Path, adb: FakeAdbHost) -> None:
    """Each part is given up by itself, and the others are told all the same."""
    adb.mode = Mode.HANG

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(silent, "127.0.0.1", 0) as endpoint,
        await asyncio.start_unix_server(silent, place / "mux"),
        await asyncio.start_unix_server(silent, place / "s"),
    ):
        port = endpoint.sockets[0].getsockname()[1]
        text = config(place, adb, webhook(f"https://127.0.0.1:{port}/"))
        answered = await examined(AgentProcess(place, text))
    assert "no answer within 3 s" in found(answered, "agent")[1]
    assert "no answer within 4 s" in found(answered, "adb server")[1]
    assert "no answer within 3 s" in found(answered, "usbmuxd")[1]
    assert "no TLS handshake" in found(answered, "Board")[1]
    assert found(answered, "disk")[0] in {"ok", "warn"}


async def test_without_a_configuration(place: Path) -> None:
    code, out, err = await cli("doctor", "--config", place / "none.toml")
    assert (code, err) == (2, "")
    assert re.search(r"fail +file +.*none.toml:1:1: no such file", out)


async def test_on_a_terminal(place: Path, adb: FakeAdbHost, receiver: Receiver) -> None:
    agent = AgentProcess(place, config(place, adb, webhook(receiver.url())))
    lines = await on_a_terminal(80, "doctor", "--config", agent.path)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert plain[0].startswith("device-agent ")
    assert plain[0].endswith(str(agent.path))
    assert "\x1b[31m\x1b[1mfail\x1b[0m  agent" in "\n".join(lines)
    assert "\x1b[32mok  \x1b[0m  " in "\n".join(lines)
    assert re.fullmatch(r"\d+ failures?( and \d+ warnings?)? among \d+ checks\.", plain[-1])
    # Only what cannot be broken is wider than the terminal: a path.
    assert [line for line in plain[1:] if len(line) > 80 and "/" not in line] == []
    starts = {match.end() for line in plain if (match := re.match(r"  (?:ok|warn|fail) +", line))}
    assert starts == {8}, "the names stand in one column"


async def on_a_terminal(columns: int, *arguments: str | Path) -> list[str]:
    """The lines that `device-agent ARGUMENTS` shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environ = {key: each for key, each in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
    process = await asyncio.create_subprocess_exec(
        DEVICE_AGENT, *arguments, stdout=theirs, stderr=theirs, env=environ
    )
    os.close(theirs)

    def read_all() -> bytes:
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # EIO: the other side is closed
                return shown

    async with asyncio.timeout(LIMIT):
        shown = await asyncio.to_thread(read_all)
        await process.wait()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").splitlines()


def unpacked(bundle: Path) -> dict[str, str]:
    """The files in it, by name."""
    with tarfile.open(bundle) as archive:
        return {
            each.name.partition("/")[2]: file.read().decode()
            for each in archive
            if (file := archive.extractfile(each)) is not None
        }


async def test_the_bundle_holds_what_is_needed_and_no_secret(
    place: Path, adb: FakeAdbHost, receiver: Receiver
) -> None:
    vault = Vault()
    secret = vault.make
    (place / "signing").write_text(secret("file"))
    (place / "signing").chmod(0o600)
    path_token = secret("path token")
    hooks = (
        webhook(
            receiver.url(f"/services/{path_token}?key={secret('query')}"),
            more=f'secret = [{{ file = "signing" }}, "{secret("inline")}"]\n'
            f'headers = {{ X-Key = "{secret("header")}" }} # {secret("comment")}\n'
            f'auth = {{ type = "bearer", token = {{ env = "BOARD_TOKEN" }} }}\n'
            f'proxy = "http://a:{secret("proxy")}@127.0.0.1:9"',
        ),
        webhook(
            receiver.url("/b", userinfo=f"user:{secret('userinfo')}@"),
            "Other",
            'proxy = "http://127.0.0.1:9"\n[webhooks.proxy_auth]\ntype = "basic"\n'
            f'username = "b"\npassword = "{secret("basic")}"',
        ),
    )
    known = [value for name, value in vault.values.items() if name != "comment"]
    told = [
        f"sent with Authorization: Bearer {secret('journal bearer')}",
        f"to https://u:{secret('journal userinfo')}@board.example/x?k={secret('journal query')}",
        f"signed by whsec_{secret('journal whsec')}",
        "verbatim: " + " ".join(known),
        "an innocent line",
    ]
    commands = place / "bin"
    commands.mkdir()
    (commands / "lines").write_text("\n".join(told))
    (commands / "journalctl").write_text(f"#!/bin/sh\nexec cat {commands}/lines\n")
    (commands / "journalctl").chmod(0o755)
    environ = {
        "BOARD_TOKEN": secret("environment"),
        "PATH": f"{commands}:{os.environ['PATH']}",
    }
    text = config(place, adb, *hooks)
    bundle = place / "support.tar.gz"
    async with AgentProcess(place, text) as agent:
        assert vault.found_in(agent.path.read_bytes()) > {"inline", "query", "comment"}
        await agent.start(environ)
        await agent.until_device("R58M2", "reason", "unauthorized")
        code, out, err = await agent.cli("doctor", "--bundle", bundle, **environ)
        assert code in {1, 2}
        assert not vault.found_in(out + err)
        assert f"support bundle: {bundle}" in err
        assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
        files = unpacked(bundle)
        assert {name: each for name, text in files.items() if (each := vault.found_in(text))} == {}
        before = bundle.read_bytes()
        code, _, err = await agent.cli("doctor", "--bundle", bundle, **environ)
        assert (code, "exists already" in err) == (2, True)
        assert bundle.read_bytes() == before
        code, _, err = await agent.cli("doctor", "--bundle", place / "no" / "where", **environ)
        assert (code, "cannot be written" in err) == (2, True)
    assert set(files) == {
        "doctor.txt", "doctor.json", "system.txt", "config.json", "status.json", "devices.json",
        "webhooks.json", "deliveries.json", "metrics.txt", "usb.txt", "udev.txt", "journal.txt",
        "adb.json", "usbmuxd.json",
    }  # fmt: skip
    assert "an innocent line" in files["journal.txt"]
    assert "R58M2" in files["devices.json"]
    assert "R58M2\tunauthorized" in json.loads(files["adb.json"])["host:devices"]
    assert "device_agent_ready" in files["metrics.txt"]
    assert json.loads(files["doctor.json"])["agent_runs"]
    assert files["doctor.txt"].startswith("device-agent ")
    assert "python: 3." in files["system.txt"]
    shown = json.loads(files["config.json"])
    board, other = shown["webhooks"]
    assert board["secret"] == [f"secret file {place}/signing", "inline secret"]
    assert board["headers"] == {"X-Key": "inline secret"}
    assert board["auth"] == {"type": "bearer", "token": "environment variable BOARD_TOKEN"}
    assert other["url"] == f"http://127.0.0.1:{receiver.port}/b"
