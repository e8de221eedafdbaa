"""Real adb servers for tests: own HOME, own port, killed by their own pid.

    server = RealAdbServer(binary, tmp_path)
    await server.start()                 # listens on server.port, kept over kill and start
    await server.register(phone)         # a tests.fakes.phone.FakePhone
    await server.kill()                  # SIGKILL: the phones are forgotten
    await server.start()
    server.freeze(); server.thaw()       # SIGSTOP, SIGCONT: accepts and answers nothing

`server.address` is what the agent's `adb_server` key takes. `BINARIES` names those found here.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakes.ports import free_port
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.fakes.phone import FakePhone


def _binaries() -> dict[str, Path]:
    """Name → binary: adbutils' and the distribution's, as far as they are installed."""
    found: dict[str, Path] = {}
    spec = importlib.util.find_spec("adbutils")
    for root in (spec and spec.submodule_search_locations) or ():
        bundled = Path(root) / "binaries" / "adb"
        if bundled.exists():
            found["bundled"] = bundled
    system = shutil.which("adb", path="/usr/bin")
    if system:
        found["system"] = Path(system)
    return found


BINARIES = _binaries()


async def request(port: int, service: str) -> bytes:
    """All that the adb server on that port answers to one request, up to its closing."""
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{len(service):04x}{service}".encode())
            return await reader.read(-1)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class RealAdbServer:
    """One adb server process, in the foreground, under the test's control."""

    def __init__(self, binary: Path, tmp: Path) -> None:
        self._binary = binary
        self._home = tmp
        self._process: asyncio.subprocess.Process | None = None
        self.port = free_port()

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the server runs with: nothing of the caller's adb settings, and no USB.

        Without USB switched off adb 36 would keep silent for its first 3 s.
        """
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._home),
            "TMPDIR": str(self._home),
            "ADB_USB": "0",
            "ADB_LIBUSB": "0",
            "ADB_MDNS": "0",
            # Real emulators' ports are not to be scanned: only registered phones are wanted.
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
        }

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._process is None, "already running"
        self._process = await asyncio.create_subprocess_exec(
            str(self._binary),
            "-L",
            f"tcp:localhost:{self.port}",
            "nodaemon",
            "server",
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(LIMIT):
            while True:
                with contextlib.suppress(OSError):
                    if (await request(self.port, "host:version")).startswith(b"OKAY"):
                        return
                assert self._process.returncode is None, "the adb server ended at start"
                await asyncio.sleep(0.005)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def restart(self) -> None:
        """Kill and start, on the same port."""
        await self.kill()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: the kernel accepts for it, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def register(self, phone: FakePhone) -> str:
        """Have it connect to the phone, which listens again if it had hung up.

        Returns the serial; it is listed a moment later.
        """
        await phone.start()
        await request(self.port, f"host:emulator:{phone.port}")
        return phone.serial

    async def devices(self) -> dict[str, str]:
        """Serial → adb's state, as the server lists them now."""
        answer = (await request(self.port, "host:devices"))[8:].decode()
        return dict(line.split("\t", 1) for line in answer.splitlines())

    async def until_listed(self, serial: str, state: str) -> None:
        """Wait until the server lists the serial in that state ("": not at all)."""
        async with asyncio.timeout(LIMIT):
            while (await self.devices()).get(serial, "") != state:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.005)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
