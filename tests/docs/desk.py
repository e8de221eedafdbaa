"""Where the pages' commands are tried: an operator's desk with everything that the pages speak of.

A whole agent with a phone on a real adb server, an Appium, a Grid, a UiAutomator2 server, and a
receiver. What the pages name by the addresses and paths of an installation is translated to those
of the desk. Commands that need a machine's systemd (`systemctl`, `journalctl`, `sudo`) are scripts
that do the same to the desk's agent; on a real systemd they are run by tests/packaging.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.pages import ROOT
from tests.fakes.adb_server import BINARIES, RealAdbServer, request
from tests.fakes.phone import FakePhone
from tests.fakes.ports import free_port
from tests.fakes.receiver import Receiver
from tests.fakes.usage_servers import FakeAppium, FakeGrid
from tests.kit import warm
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB
from tests.kit.waiting import LIMIT
from tests.usage.test_uiautomator2 import FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.docs.pages import Block

CONFIG = (
    ONLY_ADB
    + """\
[usage]
appium = ["{appium}"]
grid = ["{grid}"]
[[devices]]
udid = "{udid}"
name = "Galaxy Note 8"
tags = ["rack-1"]
[[webhooks]]
name = "board"
url = "{receiver}"
events = ["online", "offline", "utilizing", "unplugged"]
[[webhooks]]
name = "my receiver"
url = "{receiver}"
events = ["offline", "unplugged"]
"""
)
_SCRIPTS = {
    "sudo": 'exec "$@"',
    "chgrp": 'test -w "$2"',
    "sudoedit": 'test -w "$1"',
    "systemctl": 'case "$1" in reload) exec device-agent reload ;; status) exec cat "$DESK_LOG" ;; '
    '*) echo "the desk has no systemd for: $*" >&2; exit 1 ;; esac',
    "journalctl": 'exec cat "$DESK_LOG"',
    "pytest": "exec true",
    "adb": 'exec "$DESK_ADB" -P "$DESK_ADB_PORT" "$@"',
}


class Desk:
    """Use inside `running`."""

    def __init__(self, place: Path, tmp_path: Path) -> None:
        self.place = place
        self.adb = RealAdbServer(BINARIES["bundled"], tmp_path)
        self.phone = FakePhone()
        self.appium, self.grid = FakeAppium(), FakeGrid()
        self.receiver = Receiver()
        self.agent = AgentProcess(place, "")
        self.port, self.listen, self.forward = free_port(), free_port(), free_port()
        self._bin = place / "bin"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While all of it runs; the phone is online."""
        self._lay_out()
        async with contextlib.AsyncExitStack() as stack:
            for server in (self.appium, self.grid):
                await server.start()
                stack.push_async_callback(server.stop)
            await self.receiver.start()
            stack.push_async_callback(self.receiver.close)
            for part in (self.adb, self.phone, self.agent):
                await stack.enter_async_context(part)
            config = CONFIG.format(
                adb=self.adb.address,
                appium=self.appium.url,
                grid=self.grid.url,
                udid=self.phone.serial,
                receiver=self.receiver.url(),
            )
            self.agent.write(config)
            text = self.agent.path.read_text()
            token = self.place / "api.token"
            token.write_text("a token")
            token.chmod(0o600)
            served = f'listen = "127.0.0.1:{self.port}"\ntoken = {{ file = "{token}" }}'
            self.agent.path.write_text(text.replace('listen = ""', served))
            self.appium.discovery = False
            await self.agent.start()
            await self.adb.register(self.phone)
            await self.agent.until_device(self.phone.serial, "state", "online")
            self.phone.apps[6790] = FakeServer()
            await request(
                self.adb.port,
                f"host-serial:{self.phone.serial}:forward:tcp:{self.forward};tcp:6790",
            )
            # The pages show what the log says when a server does not tell its sessions.
            await self.agent.until(
                lambda: any("usage.unknown" in line for line in self.agent.log), "usage.unknown"
            )
            self.appium.discovery = True
            if warm.may_be_warm({}):
                stack.enter_context(warm.launcher(self._bin / "device-agent"))
            yield

    async def run(self, block: Block) -> str:
        """Run the block as an operator's shell would, stopping at its first failure; the output.

        Marks above it: `until: TEXT` (it does not end by itself: it is stopped when it has said
        so), `exit: CODES` (any of them ends it well).
        """
        (self.place / "log").write_text("\n".join(self.agent.log) + "\n")
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", self._translated(block.text)),
            cwd=self.place,
            env=self._environ(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        said = b""
        try:
            async with asyncio.timeout(3 * LIMIT):
                if "until" in block.marks:
                    while block.marks["until"].encode() not in said:
                        more = await process.stdout.read(4096)
                        assert more, f"{block.name} ended by itself: {said.decode()}"
                        said += more
                    return said.decode()
                code = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            said += await process.stdout.read()
            await process.wait()
        expected = map(int, block.marks.get("exit", "0").split())
        assert code in expected, f"{block.name}: exit code {code}\n{said.decode()}"
        return said.decode()

    def _lay_out(self) -> None:
        """A directory that looks like a checkout, and the scripts."""
        (self.place / "config").mkdir()
        (self.place / "config" / "agent.toml").symlink_to(self.agent.path)
        (self.place / ".venv").mkdir()
        (self.place / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        for name in ("docs", "benchmarks"):
            (self.place / name).symlink_to(ROOT / name)
        self._bin.mkdir()
        for name, body in _SCRIPTS.items():
            (self._bin / name).write_text(f"#!/bin/sh\n{body}\n")
            (self._bin / name).chmod(0o755)
        (self.place / "run-tests").write_text("#!/bin/sh\ntrue\n")
        (self.place / "run-tests").chmod(0o755)

    def _translated(self, text: str) -> str:
        for here, there in (
            (r"127\.0\.0\.1:9178", f"127.0.0.1:{self.port}"),
            (r"http://127\.0\.0\.1:4723", self.appium.url),
            (r"http://127\.0\.0\.1:4444", self.grid.url),
            (r"/run/device-agent/control\.sock", str(self.agent.socket)),
            (r"/etc/device-agent/agent\.toml", str(self.agent.path)),
            (r"/etc/device-agent/api\.token", str(self.place / "api.token")),
            (r"/etc/device-agent/", f"{self.place}/"),
            (r"\bUDID\b|ce0917198075440c057e", self.phone.serial),
            (r"\bNAME\b", "board"),
            (r"\b8080\b", str(self.listen)),
            (r"\b8200\b", str(self.forward)),
        ):
            text = re.sub(here, there, text)
        return text

    def _environ(self) -> dict[str, str]:
        venv = Path(sys.executable).parent
        kept = {key: os.environ[key] for key in ("LANG", "TMPDIR") if key in os.environ}
        return kept | {
            "PATH": f"{self._bin}:{venv}:{os.environ['PATH']}",
            "HOME": str(self.place),
            "DEVICE_AGENT_CONFIG": str(self.agent.path),
            "DESK_LOG": str(self.place / "log"),
            "DESK_ADB": str(BINARIES["bundled"]),
            "DESK_ADB_PORT": str(self.adb.port),
        }
