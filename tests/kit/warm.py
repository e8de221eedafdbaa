"""`device-agent` as a process, without a start of the interpreter for each.

Starting Python and importing the agent takes half a second of CPU; the tests do it hundreds of
times. Here one process per test worker imports it, and forks for each command that is asked for.
What comes of it is a process like any other: its own pid, streams, environment, directory, signals
and exit code. What Python reads as it starts (and what is imported first) is not tried that way:
`may_be_warm` sends those commands to the installed script, and so does COLD=1 in the environment.
The commands of the docs, the terminals' and the packages' tests start the script, too.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEVICE_AGENT = Path(sys.executable).parent / "device-agent"
_REQUEST = 256 * 1024
"""Bytes, at most: the words and the environment."""
_HARMLESS = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "RUNTIME_DIRECTORY", "LOGNAME"}
"""These are read by the agent alone, and not as its modules are imported."""


def may_be_warm(environ: Mapping[str, str]) -> bool:
    """Whether a command with these beside the worker's own environment may be forked."""
    return not os.environ.get("COLD") and environ.keys() <= _HARMLESS


class WarmProcess:
    """A `device-agent`, as far as `asyncio.subprocess.Process` is needed here."""

    def __init__(self, pid: int, status: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._until_ended(status))

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; the exit code, or the signal as a negative number."""
        return await asyncio.shield(self._ended)

    async def _until_ended(self, status: asyncio.StreamReader) -> int:
        self.returncode = os.waitstatus_to_exitcode(int(await status.read()))
        return self.returncode


class _Parent:
    """The process that forks; there is one for each process that runs tests."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.warm", str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        atexit.register(self._close)

    def ask(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Have it fork."""
        socket.send_fds(self._socket, [request], descriptors)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=20)


_parents: list[_Parent] = []


async def start(
    *arguments: str | Path, environ: Mapping[str, str], stdout: bool = False
) -> WarmProcess:
    """`device-agent ARGUMENTS` with exactly this environment; its stderr is a pipe."""
    if not _parents:
        _parents.append(_Parent())
    pipes = {name: os.pipe() for name in ("status", "stderr", *(("stdout",) if stdout else ()))}
    nowhere = os.open(os.devnull, os.O_RDONLY)
    own_out = os.dup(pipes["stdout"][1] if stdout else 1)
    given = [nowhere, own_out, pipes["stderr"][1], pipes["status"][1]]
    request = {
        "arguments": [os.fspath(each) for each in arguments],
        "environ": dict(environ),
        "directory": str(Path.cwd()),
    }
    try:
        _parents[0].ask(json.dumps(request).encode(), given)
    finally:
        for descriptor in (nowhere, own_out, *(theirs for _, theirs in pipes.values())):
            os.close(descriptor)
    readers = {name: await _reading(ours) for name, (ours, _) in pipes.items()}
    made = WarmProcess(int(await readers["status"].readline()), readers["status"])
    made.stdout, made.stderr = readers.get("stdout"), readers["stderr"]
    return made


async def _reading(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader


# --- in the process that forks ------------------------------------------------------------------


def _serve(asked: socket.socket) -> list[str]:
    """Fork for each request, tell of each end; returns in each child, with its words."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asked.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_of_ends(children)
        if asked.fileno() not in ready:
            continue
        data, given, _, _ = socket.recv_fds(asked, _REQUEST, 4)
        if not data:
            sys.exit()
        if pid := os.fork():
            for descriptor in given[:3]:
                os.close(descriptor)
            children[pid] = given[3]
            _write(given[3], f"{pid}\n")
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asked.close()
        for descriptor in (woken, wake, given[3], *children.values()):
            os.close(descriptor)
        return _become(json.loads(data), given[:3])


def _tell_of_ends(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        told = children.pop(pid)
        _write(told, f"{status}\n")
        os.close(told)


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test is over
        os.write(descriptor, text.encode())


def _become(request: dict[str, object], streams: list[int]) -> list[str]:
    """Take on what was asked for; returns the words of the command."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    _open_streams()
    environ, arguments = request["environ"], request["arguments"]
    assert isinstance(environ, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(str(request["directory"]))
    sys.argv = [str(DEVICE_AGENT), *arguments]
    return arguments


def _open_streams() -> None:
    """As a start of the interpreter does it: the old ones know what they led to (seekable?)."""
    text = sys.stdout.encoding
    for name, number, mode, buffering, errors in (
        ("stdin", 0, "r", -1, sys.stdin.errors),
        ("stdout", 1, "w", -1, sys.stdout.errors),
        ("stderr", 2, "w", 1, "backslashreplace"),
    ):
        made = open(  # noqa: SIM115 - a standard stream
            number, mode, buffering, encoding=text, errors=errors, closefd=False
        )
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


def _main() -> NoReturn:
    asked = socket.socket(fileno=int(sys.argv[1]))
    # A worker that is interrupted closes the socket, and that ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module("agent.cli.run")
    arguments = _serve(asked)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli = importlib.import_module("agent.cli")
    sys.exit(cli.main(arguments))


if __name__ == "__main__":
    _main()
