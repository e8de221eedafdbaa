"""The adb server's protocol, client side: requests, lists, one shell command; exact and bounded.

Source: AOSP packages/modules/adb, docs/dev/services.md ("HOST SERVICES") and docs/dev/overview.md
("client <-> server protocol"). A request is 4 hex digits of length and the service's name; the
answer is `OKAY` or `FAIL` + 4 hex digits + message. Lists and messages carry 4 hex digits of length
too, which a list past 65,535 bytes overflows: the server then prints five. A one-shot request
ends with the server's closing, so its length can be told all the same (`_whole`); in the stream of
`host:track-devices` it cannot, and breaks it. Requests must not be sent before the last one's
OKAY: the server throws away what it read behind `host:transport-id` (measured, adb 29 and 36).

Nothing here is limited in time by itself except `shell`: callers hold an `asyncio.timeout`.
Errors: `OSError` when the server cannot be reached or dies, `AdbError` for what it answered.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from agent.address import tcp_of
from agent.errors import AgentError
from agent.wire.adb_lists import AdbError, AdbProtocolError, parse_forwards
from agent.wire.dial import dial_tcp, dial_unix
from agent.wire.late import overslept

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from agent.wire.adb_lists import Forward

LIST_LIMIT = 2 * 1024 * 1024
"""Bytes of a list; the server itself sends at most 1 MiB (MAX_PAYLOAD)."""
SHELL_LIMIT = 64 * 1024
"""Bytes of a shell command's output."""
SETTLE = 0.1
"""Seconds for which a phone that is only heard is let speak before it is listened to."""
FAIL_LIMIT = 500
"""Characters of a FAIL's message that are kept, as they came: whoever prints them cleans them."""


class Heard(NamedTuple):
    """What a phone answered."""

    text: str
    whole: bool
    """It came to its end in time, and was no longer than `SHELL_LIMIT`."""


class AdbFailError(AdbError):
    """It answered FAIL; `str()` is its message."""


class PhoneSilentError(AdbError):
    """The server gave the phone's transport, and the phone answered nothing within the limit."""


class LateError(AdbError):
    """The limit passed while this process did not run: the answer may have been there all along."""


class AdbConnection:
    """One connection: requests on it, one after the other.

    On the bare socket: probing a thousand phones makes thousands of these, and asyncio's streams
    cost three times as much for them.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()

    async def request(self, service: str) -> None:
        """Ask for a service and read its OKAY. Raises as `granted`."""
        await self.ask(service)
        await self.granted(service)

    async def ask(self, service: str) -> None:
        """Ask for a service; its OKAY is to be read before anything else is. Raises OSError."""
        data = service.encode()
        await self._loop.sock_sendall(self._socket, b"%04x%b" % (len(data), data))

    async def granted(self, service: str) -> None:
        """Read the OKAY of what was asked for.

        Raises AdbFailError with the server's words, AdbProtocolError, OSError.
        """
        status = await self._exactly(4)
        if status == b"FAIL":
            raise AdbFailError((await self.frame())[:FAIL_LIMIT])
        if status != b"OKAY":
            raise AdbProtocolError(f"the adb server answered {status!r} to {service!r}")

    async def frame(self) -> str:
        """One text with its 4 hex digits of length, read in the loop's next turn."""
        # Reading does not suspend while there is more in the socket: a server whose list never
        # stops changing must not keep everything else from its turn.
        await asyncio.sleep(0)
        header = await self._exactly(4)
        return _text(await self._exactly(_length(header)))

    async def rest(self, limit: int) -> bytes:
        """All until the other side closes; AdbProtocolError past `limit` bytes."""
        while await self._more():
            if len(self._read) > limit:
                raise AdbProtocolError(f"the adb server sent more than {limit} bytes")
        return bytes(self._read)

    async def begins(self) -> None:
        """Return once anything has come of what follows the last OKAY, or its end."""
        if not self._read:
            await self._more()

    def close(self) -> None:
        """At once."""
        self._socket.close()

    def so_far(self) -> bytes:
        """What was read and not yet taken."""
        return bytes(self._read)

    async def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            if not await self._more():
                if not self._read:
                    raise ConnectionResetError("the adb server closed the connection")
                raise AdbProtocolError(
                    f"the adb server closed in the middle of a message: {bytes(self._read[-40:])!r}"
                )
        data = bytes(self._read[:size])
        del self._read[:size]
        return data

    async def _more(self) -> bool:
        """Read what there is; False at the end."""
        data = await self._loop.sock_recv(self._socket, 64 * 1024)
        self._read += data
        return bool(data)


class AdbClient:
    """Where an adb server is, and the one-shot requests to it; each has its own connection."""

    def __init__(self, server: str) -> None:
        """`HOST:PORT`, or the absolute path of a unix socket."""
        self.server = server
        try:
            host, self.port = tcp_of(server) or ("", 0)
        except ValueError as error:
            raise AgentError(
                f"adb_server = {server!r} is neither HOST:PORT nor the path of a unix socket: "
                f"{error}"
            ) from None
        # adb binds 127.0.0.1; trying ::1 as well would blur a plain "connection refused".
        self.host = "127.0.0.1" if host == "localhost" else host

    @asynccontextmanager
    async def connect(self, limit: float | None = None) -> AsyncIterator[AdbConnection]:
        """A connection, made within `limit` seconds; closed without waiting at the end."""
        async with asyncio.timeout(limit):
            sock = await self._open()
        try:
            yield AdbConnection(sock)
        finally:
            sock.close()

    async def _open(self) -> socket.socket:
        return await (dial_tcp(self.host, self.port) if self.host else dial_unix(self.server))

    async def listing(self, service: str) -> str:
        """The text that `host:devices` or `host:devices-l` answers, of any length."""
        async with self.connect() as connection:
            await connection.request(service)
            return _whole(await connection.rest(LIST_LIMIT))

    async def version(self) -> int:
        """Of its protocol: 41. A client of another one ends the server."""
        said = await self.listing("host:version")
        try:
            return int(said, 16)
        except ValueError:
            raise AdbProtocolError(f"the adb server calls its version {said[:40]!r}") from None

    async def forwards(self) -> list[Forward]:
        """All phones' forwards."""
        return parse_forwards(await self.listing("host:list-forward"))

    async def shell(self, transport_id: int, command: str, limit: float) -> str:
        """What a shell command prints on one phone, within `limit` seconds in all.

        Raises PhoneSilentError when it was the phone that did not answer, TimeoutError when it
        was the server, LateError when it was this process that did not run, AdbFailError when the
        phone is gone or refuses, OSError.
        """
        reached = False
        until = asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout(limit), self.connect() as connection:
                # Not `host:transport:SERIAL`: two phones may have one serial, and a phone that
                # was replugged is another one.
                await connection.request(f"host:transport-id:{transport_id}")
                reached = True
                await connection.request(f"shell:{command}")
                return _text(await connection.rest(SHELL_LIMIT))
        except TimeoutError:
            _late_or_silent(until, limit, reached=reached)
            raise

    async def hear(self, transport_id: int, command: str, limit: float, rest: float) -> Heard:
        """What a shell command prints on one phone: its first words within `limit` seconds.

        Who begins to answer lives, whatever becomes of the rest: that is cut after `rest` seconds
        more, at `limit`, at `SHELL_LIMIT` bytes, or where the connection is lost.

        Raises as `shell` where nothing came.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + limit
        connection = None
        reached = begun = False
        try:
            async with asyncio.timeout(limit) as timer:
                # Not `connect`, whose layers take a tenth of the time of all this.
                connection = AdbConnection(await self._open())
                await connection.request(f"host:transport-id:{transport_id}")
                reached = True
                await connection.ask(shell := f"shell:{command}")
                # By then most have said all, and to be woken once costs less than for each part.
                await asyncio.sleep(min(SETTLE, (until - loop.time()) / 4))
                await connection.granted(shell)
                await connection.begins()
                begun = True
                timer.reschedule(min(until, loop.time() + rest))
                return Heard(_text(await connection.rest(SHELL_LIMIT)), whole=True)
        except (TimeoutError, OSError, AdbProtocolError) as error:
            if begun and connection is not None:
                return Heard(_text(connection.so_far()[:SHELL_LIMIT]), whole=False)
            if isinstance(error, TimeoutError):
                _late_or_silent(until, limit, reached=reached)
            raise
        finally:
            if connection is not None:
                connection.close()


def _late_or_silent(until: float, limit: float, *, reached: bool) -> None:
    """Say whose time it was that ran out: ours, the phone's, or else (return) the server's."""
    if overslept(until):
        raise LateError(f"this process did not run for the limit of {limit:g} s") from None
    if reached:
        raise PhoneSilentError(f"no answer within {limit:g} s") from None


def _text(data: bytes) -> str:
    # A serial is whatever bytes a USB descriptor holds; none may be lost or end the stream.
    return data.decode("utf-8", "backslashreplace")


def _length(header: bytes) -> int:
    try:
        return int(header.decode("ascii"), 16) if header.isalnum() else int("", 16)
    except ValueError:
        raise AdbProtocolError(f"the adb server sent {header!r} for a length") from None


def _whole(answer: bytes) -> str:
    """The text of a one-shot answer read to its end: 4 digits of length, 5 past 65,535 bytes."""
    for digits in (4, 5):
        header, body = answer[:digits], answer[digits:]
        if len(header) == digits and _length(header[:digits]) == len(body):
            return _text(body)
    raise AdbProtocolError(f"the adb server sent {len(answer)} bytes under length {answer[:5]!r}")
