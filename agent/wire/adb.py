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
import re
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.wire.late import overslept
from agent.wire.resolver import addresses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

LIST_LIMIT = 2 * 1024 * 1024
"""Bytes of a list; the server itself sends at most 1 MiB (MAX_PAYLOAD)."""
SHELL_LIMIT = 64 * 1024
"""Bytes of a shell command's output."""
FAIL_LIMIT = 500
"""Characters of a FAIL's message that are kept, as they came: whoever prints them cleans them."""

Rows = dict[str, tuple[str, ...]]
"""Serial → adb's state word; more than one where several phones have that serial."""


class AdbState(StrEnum):
    """adb's own words for a phone's state (adb.h, ConnectionState)."""

    DEVICE = "device"
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    AUTHORIZING = "authorizing"
    CONNECTING = "connecting"
    RECOVERY = "recovery"
    SIDELOAD = "sideload"
    RESCUE = "rescue"
    BOOTLOADER = "bootloader"
    DETACHED = "detached"
    HOST = "host"
    NO_PERMISSIONS = "no permissions"
    """Followed by an explanation in parentheses."""


class AdbError(AgentError):
    """The adb server answered something other than what was asked."""


class AdbFailError(AdbError):
    """It answered FAIL; `str()` is its message."""


class AdbProtocolError(AdbError):
    """It sent what is no adb protocol, or closed in the middle of it."""


class PhoneSilentError(AdbError):
    """The server gave the phone's transport, and the phone answered nothing within the limit."""


class LateError(AdbError):
    """The limit passed while this process did not run: the answer may have been there all along."""


@dataclass(frozen=True, slots=True)
class LongRow:
    """One line of `host:devices-l`. All but the serial may be missing."""

    serial: str
    state: str
    transport_id: int
    """0: the server gave none; ids begin at 1."""
    port: str
    """`1-4.2`; "" for anything that is not on USB, or where the server does not say."""
    model: str
    path: str = ""
    """What says that it is on USB and names no port: `usb:3:5`, `usb:336592896X`."""


def ignore(_: str) -> None:
    """What to do with an odd row where somebody else has told of it."""


def parse_rows(text: str, odd: Callable[[str], None] = ignore) -> Rows:
    """The rows of a plain list: serial, tab, state. Rows that are none go to `odd`, one by one.

    Both may hold blanks, and a serial even a tab, so that what is behind the last tab is the state
    where adb knows it as one; else all behind the first tab.

    Raises AdbProtocolError for a list that ends in the middle of a row, or has not one that is
    one, so that a torn list is never taken for phones that went.
    """
    if text and not text.endswith("\n"):
        raise AdbProtocolError(f"a device list ends in the middle of a row: {text[-40:]!r}")
    rows: Rows = {}
    strange: list[str] = []
    for line in text.split("\n")[:-1]:
        serial, tab, state = line.rpartition("\t")
        if state not in _STATES:
            if not known_state(state.strip()):
                serial, tab, state = line.partition("\t")
            state = state.strip()
        if serial and tab and state:
            rows[serial] = (*rows[serial], state) if serial in rows else (state,)
        else:
            strange.append(line)
    if strange and not rows:
        raise AdbProtocolError(f"a device list has a row that is none: {strange[0][:80]!r}")
    for line in strange:
        odd(line)
    return rows


_STATES = frozenset(AdbState) - {AdbState.NO_PERMISSIONS}
"""The closed set of words that are a state, each by itself."""
_EXPLAINED = re.compile(rf"({'|'.join(AdbState)})(?![\w-])")


def known_state(text: str) -> AdbState | None:
    """The word of adb's with which the text begins; an explanation may follow it."""
    found = _EXPLAINED.match(text)
    return AdbState(found[1]) if found else None


_PORT = re.compile(r"(?:usb:)?(\d+-\d+(?:\.\d+)*)", re.ASCII)
"""`usb:1-4.2` where the server reads USB itself, `1-4.2` where libusb does (adb 35; before and
after that by ADB_LIBUSB=1)."""


def parse_long_rows(text: str, serials: Collection[str]) -> dict[str, tuple[LongRow, ...]]:
    """The rows of `host:devices-l` by serial; those not in `serials` are left out.

    A line is serial, state, then what is known of USB path, product, model, device and
    `transport_id`; each of these may be missing, and unknown ones come. Serial and state are parted
    by blanks and both may hold some, so that only the serials of a plain list tell where the state
    begins.
    """
    blanks = sorted((serial for serial in serials if " " in serial), key=len, reverse=True)
    found: dict[str, tuple[LongRow, ...]] = {}
    for line in text.split("\n"):
        serial = next((each for each in blanks if line.startswith(f"{each} ")), None)
        if serial is None:
            serial = line.partition(" ")[0]
        if serial in serials:
            row = _long_row(serial, line[len(serial) :].split())
            found[serial] = (*found.get(serial, ()), row)
    return found


def _long_row(serial: str, words: Sequence[str]) -> LongRow:
    size = 1
    if words and (words[0] not in _STATES or (len(words) > 1 and not _begins(words[1]))):
        # An explanation, or a state of an adb to come.
        size = next((n for n, word in enumerate(words) if _begins(word)), len(words))
    port = path = last = ""
    details: dict[str, str] = {}
    for word in words[size:]:
        key, colon, value = word.partition(":")
        if not port and (not colon or key == "usb") and (at := _PORT.fullmatch(word)):
            port = at[1]
        elif key == "usb" and colon:
            path = path or word
        elif colon and _is_key(key):
            last = key
            details.setdefault(key, value)
        elif last:  # a blank in a value
            details[last] += f" {word}"
    number = details.get("transport_id", "")
    return LongRow(
        serial,
        " ".join(words[:size]),
        int(number) if number.isascii() and number.isdecimal() else 0,
        port,
        details.get("model", "").replace("_", " ").strip(),
        path,
    )


def _begins(word: str) -> bool:
    """Whether what is known beside the state begins with that word."""
    key, colon, _ = word.partition(":")
    return (colon == ":" and _is_key(key)) or _PORT.fullmatch(word) is not None


def _is_key(text: str) -> bool:
    return text.isascii() and text.replace("_", "").isalpha() and text.islower()


@dataclass(frozen=True, slots=True)
class Forward:
    """One line of `host:list-forward`."""

    serial: str
    local: str
    """`tcp:8200` on the adb server's host, or a `local…:` socket."""
    remote: str


def parse_forwards(text: str) -> list[Forward]:
    """The lines of `host:list-forward`; AdbProtocolError where not one is one."""
    lines = text.splitlines()
    # A serial may hold blanks.
    parted = [words for line in lines if len(words := line.rsplit(" ", 2)) == 3 and all(words)]  # noqa: PLR2004 - serial, local, remote
    if lines and not parted:
        raise AdbProtocolError(f"a list of forwards has a line that is none: {lines[0][:120]!r}")
    return [Forward(*words) for words in parted]


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
            raise AdbFailError((await self.frame())[:FAIL_LIMIT])
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
        found = await addresses(self.host, self.port)
        return found[0][0], (str(found[0][4][0]), self.port)

    async def listing(self, service: str) -> str:
        """The text that `host:devices` or `host:devices-l` answers, of any length."""
        async with self.connect() as connection:
            await connection.request(service)
            return _whole(await connection.rest(LIST_LIMIT))

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
            if overslept(until):
                raise LateError(f"this process did not run for the limit of {limit:g} s") from None
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
