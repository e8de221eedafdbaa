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
import ipaddress
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

LIST_LIMIT = 2 * 1024 * 1024
"""Bytes of a list; the server itself sends at most 1 MiB (MAX_PAYLOAD)."""
SHELL_LIMIT = 64 * 1024
"""Bytes of a shell command's output."""

Rows = dict[str, tuple[str, ...]]
"""Serial → adb's state word; more than one where several phones have that serial."""


class AdbError(AgentError):
    """The adb server answered something other than what was asked."""


class AdbFailError(AdbError):
    """It answered FAIL; `str()` is its message."""


class AdbProtocolError(AdbError):
    """It sent what is no adb protocol, or closed in the middle of it."""


class PhoneSilentError(AdbError):
    """The server gave the phone's transport, and the phone answered nothing within the limit."""


@dataclass(frozen=True, slots=True)
class LongRow:
    """One line of `host:devices-l`."""

    serial: str
    state: str
    transport_id: int
    port: str
    """`1-4.2` of `usb:1-4.2`; "" for anything that is not on USB."""
    model: str


def parse_rows(text: str) -> Rows:
    """The rows of a plain list, split on the first tab (`no permissions (…)` has spaces).

    Raises AdbProtocolError for anything that is not whole rows, so that a torn list is never
    taken for phones that went.
    """
    if text and not text.endswith("\n"):
        raise AdbProtocolError(f"a device list ends in the middle of a row: {text[-40:]!r}")
    rows: Rows = {}
    for line in text.split("\n")[:-1]:
        serial, tab, state = line.partition("\t")
        if not (serial and tab and state):
            raise AdbProtocolError(f"a device list has a row that is none: {line[:80]!r}")
        rows[serial] = (*rows[serial], state) if serial in rows else (state,)
    return rows


_PADDED = 22
"""`devices-l` pads the serial to this width (transport.cpp, append_transport)."""


def parse_long_rows(text: str, serials: Collection[str]) -> dict[str, tuple[LongRow, ...]]:
    """The rows of `host:devices-l` by serial; those not in `serials` are left out.

    A line is serial, state, then what is known of `usb:` path, product, model and device, and
    always `transport_id`. Serial and state are parted by blanks and both may hold some, so that
    only the serials of a plain list tell where the state begins.
    """
    odd = sorted((serial for serial in serials if " " in serial), key=len, reverse=True)
    found: dict[str, tuple[LongRow, ...]] = {}
    for line in text.split("\n")[:-1]:
        head, _, number = line.rpartition(" transport_id:")
        if not (head and number.isdecimal()):
            raise AdbProtocolError(f"a long device list has a row that is none: {line[:120]!r}")
        head, _ = _cut(head, " device:")
        head, model = _cut(head, " model:")
        head, _ = _cut(head, " product:")
        head, port = _cut(head, " usb:")
        serial = next((s for s in odd if head.startswith(f"{s:<{_PADDED}} ")), None)
        if serial is None:
            serial = head.partition(" ")[0]
        if serial in serials:
            state = head[max(len(serial), _PADDED) + 1 :]
            row = LongRow(serial, state, int(number), port, model.replace("_", " ").strip())
            found[serial] = (*found.get(serial, ()), row)
    return found


@dataclass(frozen=True, slots=True)
class Forward:
    """One line of `host:list-forward`."""

    serial: str
    local: str
    """`tcp:8200` on the adb server's host, or a `local…:` socket."""
    remote: str


def parse_forwards(text: str) -> list[Forward]:
    """The lines of `host:list-forward`; AdbProtocolError for anything else."""
    found = []
    for line in text.splitlines():
        words = line.rsplit(" ", 2)  # a serial may hold blanks
        if len(words) != 3 or not all(words):  # noqa: PLR2004 - serial, local, remote
            raise AdbProtocolError(f"a list of forwards has a line that is none: {line[:120]!r}")
        found.append(Forward(*words))
    return found


def _cut(line: str, key: str) -> tuple[str, str]:
    """The line up to the last ` key:`, and the value behind it ("" without one)."""
    head, found, value = line.rpartition(key)
    return (head, value) if found else (line, "")


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
        """Ask for a service and read its OKAY.

        Raises AdbFailError with the server's words, AdbProtocolError, OSError.
        """
        data = service.encode()
        await self._loop.sock_sendall(self._socket, b"%04x%b" % (len(data), data))
        status = await self._exactly(4)
        if status == b"FAIL":
            raise AdbFailError(await self.frame())
        if status != b"OKAY":
            raise AdbProtocolError(f"the adb server answered {status!r} to {service!r}")

    async def frame(self) -> str:
        """One text with its 4 hex digits of length."""
        header = await self._exactly(4)
        return _text(await self._exactly(_length(header)))

    async def rest(self, limit: int) -> bytes:
        """All until the other side closes; AdbProtocolError past `limit` bytes."""
        while await self._more():
            if len(self._read) > limit:
                raise AdbProtocolError(f"the adb server sent more than {limit} bytes")
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
        """`HOST:PORT`, or the path of a unix socket (whatever has a slash)."""
        self.server = server
        self.host, self.port = "", 0
        self._family: int | None = None
        if "/" not in server:
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isdecimal()):
                raise AgentError(
                    f"adb_server = {server!r} is neither HOST:PORT nor the path of a unix socket"
                )
            # adb binds 127.0.0.1; trying ::1 as well would blur a plain "connection refused".
            self.host = "127.0.0.1" if host == "localhost" else host.strip("[]")
            self.port = int(port)
            with suppress(ValueError):  # a name: looked up for each connection
                version = ipaddress.ip_address(self.host).version
                self._family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004

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
        family, address = await self._address()
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _address(self) -> tuple[int, str | tuple[str, int]]:
        if not self.host:
            return socket.AF_UNIX, self.server
        if self._family is not None:
            return self._family, (self.host, self.port)
        found = await asyncio.get_running_loop().getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        )
        return found[0][0], (str(found[0][4][0]), self.port)

    async def listing(self, service: str) -> str:
        """The text that `host:devices` or `host:devices-l` answers, of any length."""
        async with self.connect() as connection:
            await connection.request(service)
            return _whole(await connection.rest(LIST_LIMIT))

    async def shell(self, transport_id: int, command: str, limit: float) -> str:
        """What a shell command prints on one phone, within `limit` seconds in all.

        Raises PhoneSilentError when it was the phone that did not answer, TimeoutError when it
        was the server, AdbFailError when the phone is gone or refuses, OSError.
        """
        reached = False
        try:
            async with asyncio.timeout(limit), self.connect() as connection:
                # Not `host:transport:SERIAL`: two phones may have one serial, and a phone that
                # was replugged is another one.
                await connection.request(f"host:transport-id:{transport_id}")
                reached = True
                await connection.request(f"shell:{command}")
                return _text(await connection.rest(SHELL_LIMIT))
        except TimeoutError:
            if reached:
                raise PhoneSilentError(f"no answer within {limit:g} s") from None
            raise


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
