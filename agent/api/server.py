"""The listening side: a unix socket for everything, an optional TCP address for reading."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from agent.address import host_port, split_host_port
from agent.api.certificate import Certificate
from agent.api.connection import Gate
from agent.api.events import end_unlawful
from agent.api.limits import Limits
from agent.api.request import ADDRESS, SHUT, STOPPING
from agent.api.routes import build
from agent.errors import StartError
from agent.wire.resolver import addresses

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from agent.service.services import Services

SHUTDOWN_LIMIT = 0.5
"""Seconds that a stop waits for requests under way."""
NAME_LIMIT = 3.0
"""Seconds for finding the host of an address."""
_LIMITS = Limits()


@dataclass(slots=True)
class Listener:
    """One place that is served; `ApiServer.use` makes it the one, `discard` ends it."""

    runner: web.AppRunner
    listening: asyncio.Server
    address: str = ""
    """HOST:PORT as bound; "" for a unix socket."""
    certificate: Certificate | None = None
    """Of TLS."""
    path: Path | None = None
    """Of a unix socket."""
    inode: int = 0
    """Of its file, which may be another agent's by the end."""

    async def discard(self) -> None:
        """Stop serving; requests under way get half a second to end."""
        self.listening.close()
        self.runner.app[STOPPING].set()  # it is not the holders who leave
        if self.path is not None:  # Python 3.13 has done so by now, earlier ones have not
            with contextlib.suppress(OSError):
                if self.path.lstat().st_ino == self.inode:
                    self.path.unlink()
        await self.runner.cleanup()


class ApiServer:
    """Serves one agent: at one unix socket, and at one TCP address or none.

    To move: `open_*` the new place, which serves at once, then `use` it, or `discard` it.

    Args:
        services: what is served.
        limits: other ones than those that count.
    """

    def __init__(self, services: Services, limits: Limits = _LIMITS) -> None:
        self._services = services
        self._limits = limits
        self._unix: Listener | None = None
        self._tcp: Listener | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def _build(self, *, trusted: bool) -> web.Application:
        app = build(self._services, self._limits, trusted=trusted)
        app[ADDRESS] = lambda: self.address
        return app

    @property
    def address(self) -> str:
        """HOST:PORT as bound; "" without TCP."""
        return "" if self._tcp is None else self._tcp.address

    async def open_unix(self, path: Path) -> Listener:
        """Serve everything at that path, for the owner and the group only.

        Raises:
            StartError: another agent answers there, or the place cannot be written.
        """
        _refuse_if_answered(path)
        runner = await _runner(self._build(trusted=True))
        loop = asyncio.get_running_loop()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            path.unlink(missing_ok=True)
        except OSError as error:
            await runner.cleanup()
            raise StartError(_why(f"the socket {path}", error, "[api] socket")) from None
        try:
            assert runner.server is not None
            gate = Gate(runner.server, self._limits.unix, self._limits, 0.0)
            sock, inode = _bound(path)
            listening = await loop.create_unix_server(gate, sock=sock, backlog=self._limits.backlog)
        except OSError as error:
            await runner.cleanup()
            raise StartError(_why(f"the socket {path}", error, "[api] socket")) from None
        return Listener(runner, listening, path=path, inode=inode)

    async def open_tcp(
        self, address: str, tls: ssl.SSLContext | None = None, *, shut: bool = False
    ) -> Listener:
        """Serve reading, and changes by token or session, at HOST:PORT; with TLS if there is any.

        Args:
            address: HOST:PORT.
            tls: with a certificate.
            shut: reading is for bearers until it is in use, whatever is in force by then.

        Raises:
            StartError: the port is in use or not ours to bind, or the host is not known (in time).
        """
        host, port = split_host_port(address)
        certificate = None if tls is None else Certificate(tls)
        handshake = self._limits.handshake if tls is not None else 0.0
        app = self._build(trusted=False)
        if shut:
            app[SHUT].set()
        runner = await _runner(app)
        try:
            assert runner.server is not None
            listening = await asyncio.get_running_loop().create_server(
                Gate(runner.server, self._limits.tcp, self._limits, handshake),
                await _addresses(host, port),
                port,
                backlog=self._limits.backlog,
                reuse_port=self._share_port(port),
                ssl=tls,
                ssl_handshake_timeout=handshake or None,
                ssl_shutdown_timeout=self._limits.linger if tls is not None else None,
            )
        except OSError as error:
            await runner.cleanup()
            raise StartError(_why(f"the address {address}", error, "[api] listen")) from None
        unread = int(self._limits.unread * 1000)
        for each in listening.sockets:
            # Inherited by connections: a client that takes nothing is hung up on by the kernel.
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)
        bound = host_port(*listening.sockets[0].getsockname()[:2])
        return Listener(runner, listening, bound, certificate)

    def _share_port(self, port: int) -> bool | None:
        """From 127.0.0.1 to 0.0.0.0 of one port both serve for a moment: ours lets ours in."""
        sockets = () if self._tcp is None else self._tcp.listening.sockets
        mine = [each for each in sockets if each.getsockname()[1] == port]
        for each in mine:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return True if mine else None

    def use_unix(self, listener: Listener) -> None:
        """Serve there instead of where it was; requests under way get half a second."""
        self._end(self._unix)
        self._unix = listener

    def use_tcp(self, listener: Listener | None) -> None:
        """Likewise; None: nowhere."""
        self._end(self._tcp)
        self._tcp = listener
        if listener is not None:
            listener.runner.app[SHUT].clear()

    def use_certificate(self, tls: ssl.SSLContext) -> None:
        """Show another one to who comes from now on; who is there goes on with what it has."""
        assert self._tcp is not None
        assert self._tcp.certificate is not None, "the address is opened anew for the first one"
        self._tcp.certificate.use(tls)

    def end_unlawful(self) -> None:
        """End what is followed by who may not read any more: its session ended, or a reload."""
        if self._tcp is not None:
            end_unlawful(self._tcp.runner.app)

    async def close(self) -> None:
        """Stop serving; requests under way get half a second to end."""
        self._end(self._tcp)
        self._end(self._unix)
        self._tcp = self._unix = None
        while self._ending:
            await asyncio.wait(self._ending)

    def _end(self, listener: Listener | None) -> None:
        if listener is None:
            return
        # On its own: the request that asked for the move may be one of those under way.
        task = asyncio.get_running_loop().create_task(listener.discard())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _runner(app: web.Application) -> web.AppRunner:
    # A handler is cancelled when its client goes away: that is how a tied lease ends.
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_LIMIT, handler_cancellation=True
    )
    await runner.setup()
    return runner


def _bound(path: Path) -> tuple[socket.socket, int]:
    """A socket at that path for the owner and the group, and its file's inode.

    Nobody else can reach it at any time: its file is made for the owner alone (Linux takes the
    socket's mode), and opened to the group before anything listens. The umask is the process's, and
    stays as it is.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(0o660)
        return sock, path.lstat().st_ino
    except OSError:
        sock.close()
        raise


def _refuse_if_answered(path: Path) -> None:
    """A socket file nobody answers is left over from a killed agent; one that answers is taken."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(
                f"{path} exists and is no socket: move it away, or set [api] socket to another path"
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(_why(f"the socket {path}", error, "[api] socket")) from None
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)  # a unix socket answers at once, or its backlog is full
        probe.connect(str(path))
        raise StartError(
            f"another agent answers at {path}: stop it, or give this one its own [api] socket"
        )


async def _addresses(host: str, port: int) -> list[str]:
    """Of the host, which may be a name. Raises OSError."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        async with asyncio.timeout(NAME_LIMIT):
            found = await addresses(host, port)
        return list(dict.fromkeys(str(each[4][0]) for each in found))
    return [host]


def _why(what: str, error: OSError, key: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{what} is in use: stop what listens there, or change {key}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{what} may not be used by this user ({error.strerror}): change {key}"
        case _ if isinstance(error, TimeoutError):
            return f"{what} has a host that was not found within {NAME_LIMIT:g} s: change {key}"
        case _ if isinstance(error, socket.gaierror):
            return f"{what} has no known host ({error.strerror}): change {key}"
        case _ if "too long" in str(error):
            return f"{what} is too long a path for a socket (107 bytes at most): change {key}"
        case _:
            return f"{what} cannot be used ({error.strerror or error}): change {key}"
