"""`device-agent run` as a real process, seen from outside: signals, sockets, READY, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.kit import warm
from tests.kit.waiting import LIMIT, announced
from tests.kit.warm import DEVICE_AGENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_Socket = socket.socket
Process = asyncio.subprocess.Process | warm.WarmProcess


FROM_STORE = "/v1/deliveries?limit=1"
"""Is answered from what is stored, and so after all that was to be stored before it was asked."""


class AgentProcess:
    """One agent with its own directory; `start` may be called again after it ended.

    Args:
        directory: holds the configuration, the state and the sockets. Must be short (107 bytes).
        config: TOML without [agent] state_dir and [api], which are set here.
        wrapper: a command that ends by executing the one behind it: `nsenter …`.
        watch: whether it reloads by itself what is written; else only who asks for it does.
        listen: HOST:PORT of the API over TCP; "": none. The configuration may begin with more keys
            of [api].
    """

    def __init__(
        self,
        directory: Path,
        config: str,
        wrapper: Sequence[str] = (),
        *,
        watch: bool = False,
        listen: str = "",
    ) -> None:
        self.directory = directory
        self.watch = watch
        self.listen = listen
        self.wrapper = tuple(wrapper)
        self.path = directory / "agent.toml"
        self.notify_path = directory / "notify"
        self.notifications: list[str] = []
        self.log: list[str] = []
        self.write(config)
        self.process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    @property
    def socket(self) -> Path:
        """The API's."""
        return self.directory / "s"

    def write(self, config: str) -> None:
        """Write the configuration file."""
        head = (
            f'[agent]\nstate_dir = "{self.directory}/state"\n'
            f"watch_config = {str(self.watch).lower()}\n"
            f'[api]\nsocket = "{self.socket}"\nlisten = "{self.listen}"\n'
        )
        self.path.touch(mode=0o600)
        self.path.write_text(head + config)

    async def start(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
        stderr: int = asyncio.subprocess.PIPE,
    ) -> None:
        """Start it, with these in its environment; returns when it has said READY=1.

        Its log is what it says on stderr, where that is a pipe.
        """
        self.notifications.clear()
        with contextlib.suppress(FileNotFoundError):
            self.notify_path.unlink()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        notify.bind(str(self.notify_path))
        more = {"NOTIFY_SOCKET": str(self.notify_path), **(environ or {})}
        self.process = await self._begun(more, stderr)
        self._readers = [
            asyncio.create_task(self._read_log(self.process.stderr)),
            asyncio.create_task(self._read_notifications(notify)),
        ]
        if ready:
            await self.until(lambda: "READY=1" in self.notifications, "READY=1")

    async def until(self, condition: Any, what: str) -> None:
        """Wait until the log or the notifications make the condition true."""
        await announced(
            self._news, condition, what, lambda: "\n".join((str(self.notifications), *self.log))
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, once all that it has shown by now is stored, if its disk does that in time."""
        with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
            async with asyncio.timeout(2.0):
                await self.api("GET", FROM_STORE)
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self.process is not None
        async with asyncio.timeout(LIMIT):
            code = await self.process.wait()
            await self._readers[0]
        self._readers[1].cancel()
        await asyncio.wait({self._readers[1]})
        return code

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask over the socket: (status, JSON)."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.socket)),
                timeout=aiohttp.ClientTimeout(LIMIT),
            ) as session,
            session.request(method, f"http://localhost{path}", json=body) as response,
        ):
            return response.status, await response.json()

    async def stored(self) -> None:
        """Until all that it shows by now is durable: what is read from the store comes after it.

        A state is shown as soon as it counts. A kill before it is stored loses it, and nobody was
        told of it.
        """
        assert (await self.api("GET", FROM_STORE))[0] == 200

    async def metrics(self) -> str:
        """What a scrape over the socket gets."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.socket)),
                timeout=aiohttp.ClientTimeout(LIMIT),
            ) as session,
            session.get("http://localhost/metrics") as response,
        ):
            text = await response.text()
            assert response.status == 200, text
            assert response.content_type == "text/plain"
            return text

    async def cli(self, *arguments: str | Path, **environ: str) -> tuple[int, str, str]:
        """Run `device-agent ARGUMENTS --config …`: (exit code, stdout, stderr)."""
        return await cli(arguments[0], "--config", self.path, *arguments[1:], **environ)

    async def devices(self) -> dict[str, dict[str, Any]]:
        """Rows of `devices --json`, by UDID."""
        code, out, err = await self.cli("devices", "--json")
        assert code == 0, err
        return {row["udid"]: row for row in json.loads(out)["devices"]}

    async def until_device(self, udid: str, key: str, text: str) -> dict[str, Any]:
        """Wait until that device's row has the text in that key; asks again until LIMIT."""
        row: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                while True:
                    answer = (await self.api("GET", "/v1/devices"))[1]["devices"]
                    row = next((row for row in answer if row["udid"] == udid), {})
                    if text in (row.get(key) or ""):
                        return row
                    await asyncio.sleep(0.05)
        raise AssertionError(f"waited {LIMIT} s for {text!r} in {key} of {row}")

    async def until_metric(self, *patterns: str) -> None:
        """Wait until each pattern is found in /metrics; asks again until LIMIT."""
        text = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                while True:
                    text = await self.metrics()
                    if all(re.search(pattern, text) for pattern in patterns):
                        return
                    await asyncio.sleep(0.05)
        raise AssertionError(f"waited {LIMIT} s for {patterns} in\n{text}")

    async def until_delivered(self, limit: float = 3 * LIMIT) -> None:
        """Wait until no callback is pending."""
        rows: list[Any] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while True:
                    answer = await self.api("GET", "/v1/deliveries?state=pending&limit=5")
                    rows = answer[1]["deliveries"]
                    if not rows:
                        return
                    await asyncio.sleep(0.05)
        raise AssertionError(f"still pending: {rows}\n" + "\n".join(self.log[-20:]))

    async def _begun(self, environ: Mapping[str, str], stderr: int) -> Process:
        words = ("run", "--config", self.path)
        return await begun(*words, environ=environ, wrapper=self.wrapper, stderr=stderr)

    async def _read_log(self, stream: asyncio.StreamReader | None) -> None:
        if stream is None:
            return
        async for line in stream:
            self.log.append(line.decode().rstrip())
            self._news.set()

    async def _read_notifications(self, notify: _Socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                data = await loop.sock_recv(notify, 65536)
                self.notifications += data.decode().split("\n")
                self._news.set()
        finally:
            notify.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()


async def cli(*arguments: str | Path, **environ: str) -> tuple[int, str, str]:
    """Run `device-agent ARGUMENTS`: (exit code, stdout, stderr)."""
    async with asyncio.timeout(LIMIT):
        process = await begun(*arguments, environ=environ, stdout=asyncio.subprocess.PIPE)
    code, out, err = await ended(process)
    return code, out.decode(), err.decode()


async def begun(
    *arguments: str | Path,
    environ: Mapping[str, str] = MappingProxyType({}),
    wrapper: Sequence[str] = (),
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int = asyncio.subprocess.PIPE,
    session: bool = False,
) -> Process:
    """`device-agent ARGUMENTS`, forked if it can be (see `warm`), with these in its environment."""
    told = {**os.environ, **environ}
    if not wrapper and warm.may_be_warm(environ):
        return await warm.start(
            *arguments, environ=told, stdin=stdin, stdout=stdout, stderr=stderr, session=session
        )
    return await asyncio.create_subprocess_exec(
        *(*wrapper, DEVICE_AGENT, *arguments),
        env=told,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=session,
    )


async def ended(process: Process) -> tuple[int, bytes, bytes]:
    """Wait until it ends: (exit code, stdout, stderr)."""
    async with asyncio.timeout(LIMIT):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err
