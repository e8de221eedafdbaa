"""The listening side: a unix socket for everything, an optional TCP address for reading."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from aiohttp import web

from agent.api.request import STOPPING
from agent.api.routes import build
from agent.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.services import Services

SHUTDOWN_LIMIT = 0.5
"""Seconds that a stop waits for requests under way."""


class ApiServer:
    """Serves one agent; `listen_*` may be called again after a reload, `close` ends all of it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._unix: web.AppRunner | None = None
        self._tcp: web.AppRunner | None = None
        self._socket_path: Path | None = None
        self.address = ""
        """HOST:PORT as bound; "" without TCP."""

    async def listen_unix(self, path: Path) -> None:
        """Serve everything at that path, for the owner and the group only.

        Raises:
            StartError: another agent answers there, or the place cannot be written.
        """
        _refuse_if_answered(path)
        runner = await _runner(build(self._services, trusted=True))
        # The mode must be right from the first instant, not after a chmod.
        mask = os.umask(0o117)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            path.unlink(missing_ok=True)
            await web.UnixSite(runner, path).start()
        except OSError as error:
            await runner.cleanup()
            raise StartError(_why(f"the socket {path}", error, "[api] socket")) from None
        finally:
            os.umask(mask)
        self._unix, self._socket_path = runner, path

    async def listen_tcp(self, address: str) -> None:
        """Serve reading, and changes by token, at HOST:PORT instead of where it was before.

        "" stops serving TCP.

        Raises:
            StartError: the port is in use or not ours to bind; what was served stays served.
        """
        runner = None
        bound = ""
        if address:
            host, _, port = address.rpartition(":")
            runner = await _runner(build(self._services, trusted=False))
            try:
                site = web.TCPSite(runner, host.strip("[]"), int(port))
                await site.start()
            except OSError as error:
                await runner.cleanup()
                raise StartError(_why(f"the address {address}", error, "[api] listen")) from None
            bound = "{}:{}".format(*runner.addresses[0][:2])
        old, self._tcp, self.address = self._tcp, runner, bound
        if old is not None:
            old.app[STOPPING].set()
            await old.cleanup()

    async def close(self) -> None:
        """Stop serving; requests under way get half a second to end."""
        for runner in (self._tcp, self._unix):
            if runner is not None:
                runner.app[STOPPING].set()  # it is not the holders who leave
                await runner.cleanup()
        self._tcp = self._unix = None
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)


async def _runner(app: web.Application) -> web.AppRunner:
    # A handler is cancelled when its client goes away: that is how a tied lease ends.
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_LIMIT, handler_cancellation=True
    )
    await runner.setup()
    return runner


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


def _why(what: str, error: OSError, key: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{what} is in use: stop what listens there, or change {key}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{what} may not be used by this user ({error.strerror}): change {key}"
        case _ if isinstance(error, socket.gaierror):
            return f"{what} has no known host ({error.strerror}): change {key}"
        case _ if "too long" in str(error):
            return f"{what} is too long a path for a socket (107 bytes at most): change {key}"
        case _:
            return f"{what} cannot be used ({error.strerror or error}): change {key}"
