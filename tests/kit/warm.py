"""`device-agent` as a process, without a start of the interpreter for each.

Starting Python and importing the agent takes half a second of CPU; the tests do it hundreds of
times. Here one process per test worker imports it, and forks for each command that is asked for.
What comes of it is a process like any other: its own pid, streams, environment, directory, signals
and exit code; it waits for its threads and clears up as Python does, up to the taking apart of
modules. What Python reads as it starts (and what is imported first) is not tried that way:
`may_be_warm` sends those commands to the installed script, and so does COLD=1 in the environment.
A process that forks can be started with variables for Python itself (`started`); there is then one
for each set of them. The packages' tests start the script, and so do some of the terminals'.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import BaseModel

DEVICE_AGENT = Path(sys.executable).parent / "device-agent"
RACK = "tests.kit.rack"
"""As the first word instead of a command: that module, with its configuration's path."""
_REQUEST = 256 * 1024
"""Bytes, at most: the words and the environment."""
_HARMLESS = re.compile(
    "NOTIFY_SOCKET|WATCHDOG_USEC|WATCHDOG_PID|RUNTIME_DIRECTORY|LOGNAME"
    "|CREDENTIALS_DIRECTORY|TOKEN_[0-9]+|https?_proxy|no_proxy"
)
"""These are read by the agent alone, and not as its modules are imported."""
_LAUNCHER = """\
#!{python} -IS
import os, socket, sys
pipe, told = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
    asked.connect({path!r})
    words = (os.getcwdb(), b"%d" % len(sys.argv[1:]), *map(os.fsencode, sys.argv[1:]))
    request = b"\\0".join((*words, *(b"%b=%b" % each for each in os.environb.items())))
    socket.send_fds(asked, [request], [0, 1, 2, told])
os.close(told)
with open(pipe) as told:
    told.readline()
    status = os.waitstatus_to_exitcode(int(told.read()))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def may_be_warm(environ: Mapping[str, str]) -> bool:
    """Whether a command with these beside the worker's own environment may be forked."""
    return not os.environ.get("COLD") and all(map(_HARMLESS.fullmatch, environ))


class WarmProcess:
    """A `device-agent`, as far as `asyncio.subprocess.Process` is needed here."""

    def __init__(self, pid: int, status: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._until_ended(status))

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; the exit code, or the signal as a negative number."""
        return await asyncio.shield(self._ended)

    async def communicate(self, given: bytes | None = None) -> tuple[bytes, bytes]:
        """Give it that to read and no more, and wait for its end: what it says on its pipes."""
        if self.stdin is not None and not self.stdin.is_closing():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.stdin.write(given or b"")
                await self.stdin.drain()
            self.stdin.close()
        out, err = await asyncio.gather(_all_of(self.stdout), _all_of(self.stderr))
        await self.wait()
        return out, err

    async def _until_ended(self, status: asyncio.StreamReader) -> int:
        self.returncode = os.waitstatus_to_exitcode(int(await status.read()))
        return self.returncode


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


class _Parent:
    """A process that forks; there is one for each process that runs tests (and `started`)."""

    def __init__(self, started: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.warm", str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **started},
        )
        theirs.close()
        atexit.register(self._close)

    def ask(self, request: bytes, descriptors: Sequence[int], *, session: bool = False) -> None:
        """Have it fork: a session of its own or not, and the request (see `_become`)."""
        socket.send_fds(self._socket, [b"\1" if session else b"\0", request], descriptors)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=20)


_parents: dict[frozenset[tuple[str, str]], _Parent] = {}


def _parent(started: Mapping[str, str] = MappingProxyType({})) -> _Parent:
    key = frozenset(started.items())
    if key not in _parents:
        _parents[key] = _Parent(started)
    return _parents[key]


async def start(
    *arguments: str | bytes | Path,
    environ: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int = subprocess.PIPE,
    session: bool = False,
    started: Mapping[str, str] = MappingProxyType({}),
) -> WarmProcess:
    """`device-agent ARGUMENTS` with exactly this environment.

    Args:
        arguments: its words.
        environ: its environment.
        stdin: DEVNULL, PIPE or a descriptor; so for the others.
        stdout: None is the worker's.
        stderr: what nobody reads is no pipe.
        session: whether it leads a session and a group of its own.
        started: what the process that it is forked from was started with, for Python itself.
    """
    status, told = os.pipe()
    given, ours = [], dict[str, int]()
    for name, number, wanted in (("stdin", 0, stdin), ("stdout", 1, stdout), ("stderr", 2, stderr)):
        if wanted == subprocess.PIPE:
            ends = os.pipe()
            own, theirs = ends if number else reversed(ends)
            ours[name] = own
        elif wanted == subprocess.DEVNULL:
            theirs = os.open(os.devnull, os.O_RDWR)
        else:
            theirs = os.dup(number if wanted is None else wanted)
        given.append(theirs)
    given.append(told)
    words = [os.fsencode(each) for each in arguments]
    variables = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    request = [os.fsencode(Path.cwd()), str(len(words)).encode(), *words, *variables]
    try:
        _parent(started).ask(b"\0".join(request), given, session=session)
    finally:
        for descriptor in given:
            os.close(descriptor)
    reader = await _reading(status)
    made = WarmProcess(int(await reader.readline()), reader)
    made.stdin = await _writing(ours["stdin"]) if "stdin" in ours else None
    made.stdout = await _reading(ours["stdout"]) if "stdout" in ours else None
    made.stderr = await _reading(ours["stderr"]) if "stderr" in ours else None
    return made


@contextlib.contextmanager
def launcher(path: Path) -> Iterator[None]:
    """Inside, an executable for shells at this path has `device-agent` forked; it ends as it does.

    What was forked is no child and not of the group of the shell: it is killed when the executable
    is.
    """
    loop = asyncio.get_running_loop()
    address = str(path.with_suffix(".socket"))

    def forward() -> None:
        connection, _ = listening.accept()
        with connection:
            request, given, _, _ = socket.recv_fds(connection, _REQUEST, 4)
        _parent().ask(request, given)
        for descriptor in given:
            os.close(descriptor)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        path.write_text(_LAUNCHER.format(python=sys.executable, path=address))
        path.chmod(0o755)
        loop.add_reader(listening, forward)
        try:
            yield
        finally:
            loop.remove_reader(listening)


async def _reading(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader


async def _writing(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(descriptor, "wb")
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


# --- in the process that forks ------------------------------------------------------------------


def _serve(asked: socket.socket) -> list[str]:
    """Fork for each request, tell of each end; returns in each child, with its words."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    poll = select.poll()
    poll.register(asked, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if woken in ready:
            os.read(woken, 4096)
            _tell_of_ends(children, poll)
        for pid, told in children.items():
            if told in ready:  # who would have been told has ended
                poll.unregister(told)
                os.kill(pid, signal.SIGKILL)
        if asked.fileno() not in ready:
            continue
        data, given, _, _ = socket.recv_fds(asked, _REQUEST, 4)
        if not data:
            sys.exit()
        if pid := os.fork():
            for descriptor in given[:3]:
                os.close(descriptor)
            children[pid] = given[3]
            poll.register(given[3], 0)  # errors alone
            _write(given[3], f"{pid}\n")
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asked.close()
        for descriptor in (woken, wake, given[3], *children.values()):
            os.close(descriptor)
        return _become(data, given[:3])


def _tell_of_ends(children: dict[int, int], poll: select.poll) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        told = children.pop(pid)
        with contextlib.suppress(KeyError):  # it was killed
            poll.unregister(told)
        _write(told, f"{status}\n")
        os.close(told)


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test is over
        os.write(descriptor, text.encode())


def _become(request: bytes, streams: list[int]) -> list[str]:
    """Take on what was asked for; returns the words of the command.

    Args:
        request: whether it gets a session; then, divided by zeros, the directory, the number of
            words, these, and the environment.
        streams: what shall be 0, 1 and 2.
    """
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    _open_streams()
    if request[0]:
        os.setsid()
    directory, count, *rest = request[1:].split(b"\0")
    arguments = [os.fsdecode(each) for each in rest[: int(count)]]
    os.environ.clear()
    for each in rest[int(count) :]:
        name, _, value = each.partition(b"=")
        os.environb[name] = value
    os.chdir(directory)
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
    for command in pkgutil.iter_modules(importlib.import_module("agent.cli").__path__):
        importlib.import_module(f"agent.cli.{command.name}")
    _build(importlib.import_module("agent.config").Section)
    rack = importlib.import_module(RACK)
    # Else a collection in a child writes into all that was imported, and has it copied.
    gc.collect()
    gc.freeze()
    arguments = _serve(asked)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli = importlib.import_module("agent.cli")
    try:
        code = rack.main(arguments[1]) if arguments[:1] == [RACK] else cli.main(arguments)
    except SystemExit as ended:
        code = ended.code
    _end(code)


def _build(section: type[BaseModel]) -> None:
    """Have the models of the configuration do what they do at first use: most of a command."""
    section.model_rebuild()
    for each in section.__subclasses__():
        _build(each)


def _end(code: str | int | None) -> NoReturn:
    """As the interpreter ends, in its order; but what was there before the fork stays.

    To take that apart has all its pages copied, and takes longer than most commands.
    """
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    gc.collect()  # what the command left: tells of what was not closed or awaited
    if not isinstance(code, str):
        with contextlib.suppress(Exception):  # nobody reads: the interpreter has words for that
            for stream in (sys.stdout, sys.stderr):
                if not stream.closed:
                    stream.flush()
            os._exit(code or 0)
    sys.exit(code)


if __name__ == "__main__":
    _main()
