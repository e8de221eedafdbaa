"""usbmuxd's protocol: which iPhones are attached, pairing records, a stream to a phone's port.

Frames (libimobiledevice/usbmuxd, `src/client.c`; libusbmuxd, `usbmuxd-proto.h`): a header of four
little-endian 32-bit numbers (length with header, version 1, message 8, tag), then an XML property
list. A connection that sent `Listen` gets `Attached`, `Detached` and `Paired` messages for ever,
beginning with all that is attached; requests go on connections of their own, whose answers carry
the request's tag. After `Connect` was answered with 0 the connection is the phone's; port numbers
are in network byte order.

Nothing here is limited in time by itself but the rest of an announcement that was begun: callers
hold an `asyncio.timeout`. Errors: `OSError` where usbmuxd cannot be reached or ends, MalformedError
for what is no message of its.
"""

from __future__ import annotations

import asyncio
import plistlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.address import tcp_of
from agent.text import shortened
from agent.wire.dial import dial_tcp, dial_unix

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = struct.Struct("<IIII")
VERSION, PLIST = 1, 8
OK, BAD_DEVICE, REFUSED, NO_SERVICE = 0, 2, 3, 4
"""Results: usbmuxd-proto.h, `usbmuxd_result`."""
MAX_FRAME = 16 * 1024 * 1024
"""Bytes; a list takes about 800 per phone, a pairing record a few thousand."""
QUOTE = 160
"""Characters of what was sent that errors quote."""


class MalformedError(ConnectionError):
    """What came is no message of usbmuxd's; `what` tells the nature of the bytes."""

    def __init__(self, frame: bytes, why: object) -> None:
        self.what = f"{len(frame)} bytes read, beginning {frame[:16].hex(' ') or 'nowhere'}: {why}"
        super().__init__(f"what answers there is no usbmuxd ({self.what})")


class PhoneGoneError(ConnectionError):
    """usbmuxd knows no phone of that DeviceID."""


class PortClosedError(ConnectionError):
    """usbmuxd reached the phone, and nothing listens at that port of it."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A phone that usbmuxd lists or announces."""

    device_id: int
    """usbmuxd counts anew when it is restarted."""
    serial: str
    connection: str
    """`USB`; anything else is a network's."""

    @property
    def is_usb(self) -> bool:
        """Whether it hangs on a cable."""
        return self.connection == "USB"


@dataclass(frozen=True, slots=True)
class Detached:
    """A phone that is no longer attached."""

    device_id: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Somebody pressed Trust on some phone, or stored a record."""


Announcement = Attached | Detached | Paired


def is_local(address: str) -> bool:
    """Whether that is the path of a unix socket."""
    return tcp_of(address) is None


def attached_of(row: Any) -> Attached:
    """A listed or announced phone.

    Raises ValueError with what is missing or odd; nothing else.
    """
    properties = row.get("Properties") if isinstance(row, dict) else None
    if not isinstance(properties, dict):
        raise ValueError("it has no properties")  # noqa: TRY004 - one kind of error for all rows
    device_id = row.get("DeviceID", properties.get("DeviceID"))
    serial, connection = properties.get("SerialNumber"), properties.get("ConnectionType")
    if not _is_id(device_id):
        raise ValueError("its DeviceID is no number")
    if not (isinstance(serial, str) and serial.strip()):
        raise ValueError("its SerialNumber is no text")
    if not (isinstance(connection, str) and connection):
        raise ValueError("its ConnectionType is no text")
    return Attached(device_id, serial, connection)


class UsbmuxConnection:
    """One connection: requests on it one after the other, or announcements; must be closed."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._frame = b""
        self._tag = 0

    def close(self) -> None:
        """Close it, at once."""
        self._socket.close()

    async def listen(self) -> None:
        """Have what comes and goes announced from now on. Nothing marks the first burst's end."""
        result = await self._result({"MessageType": "Listen"})
        if result != OK:
            raise MalformedError(self._frame, f"it answers Listen with {quoted(result)}")

    async def announcement(self, limit: float, odd: Callable[[Any, str], None]) -> Announcement:
        """The next one; waits without limit for its beginning, and `limit` seconds for the rest.

        After that, and when this is cancelled, the stream is out of step: close it. A row that is
        no phone's goes to `odd`, with what is missing.
        """
        while True:
            await asyncio.sleep(0)  # reading does not suspend while a burst is in the socket
            self._frame = b""
            await self._read(HEADER.size)  # nothing was begun yet
            async with asyncio.timeout(limit):
                message = await self._rest_of_message()
            try:
                found = _announced(message)
            except (TypeError, KeyError, ValueError) as error:
                raise MalformedError(self._frame, brief(error)) from None
            if found is not None:
                return found
            try:
                return attached_of(message)
            except ValueError as error:
                odd(message, str(error))

    async def rows(self) -> list[Any]:
        """The rows of its list of devices, as they come: each may be anything."""
        answer = await self._ask({"MessageType": "ListDevices"})
        rows = answer.get("DeviceList")
        if not isinstance(rows, list):
            raise MalformedError(self._frame, f"its list of devices is {quoted(rows)}")
        return rows

    async def pair_record(self, name: str) -> Any:
        """What it keeps for the pairing record of that name, as it is; None: nothing."""
        answer = await self._ask({"MessageType": "ReadPairRecord", "PairRecordID": name})
        return answer.get("PairRecordData")

    async def connect(self, device_id: int, port: int) -> socket.socket:
        """The phone's, non-blocking: closing it is the caller's from now on.

        Raises:
            PortClosedError: nothing listens there on the phone.
            PhoneGoneError: it is no longer attached.
            ConnectionError: usbmuxd refuses otherwise.
        """
        result = await self._result(
            {"MessageType": "Connect", "DeviceID": device_id, "PortNumber": socket.htons(port)}
        )
        if result == OK:
            return self._socket
        if result in {REFUSED, NO_SERVICE}:
            raise PortClosedError(f"nothing listens at port {port} of the phone")
        if result == BAD_DEVICE:
            raise PhoneGoneError("the phone is no longer attached")
        raise ConnectionError(f"usbmuxd refuses the connection (result {result})")

    async def _result(self, request: dict[str, Any]) -> Any:
        answer = await self._ask(request)
        if answer.get("MessageType") != "Result" or "Number" not in answer:
            raise MalformedError(self._frame, f"it answers {quoted(answer)}")
        return answer["Number"]

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._tag += 1
        data = plistlib.dumps(
            {"ClientVersionString": "device-agent", "ProgName": "device-agent", **request}
        )
        header = HEADER.pack(HEADER.size + len(data), VERSION, PLIST, self._tag)
        await self._loop.sock_sendall(self._socket, header + data)
        self._frame = b""
        await self._read(HEADER.size)
        answer = await self._rest_of_message()
        if (tag := HEADER.unpack_from(self._frame)[3]) != self._tag:
            raise MalformedError(self._frame, f"it answers request {tag}, not {self._tag}")
        if not isinstance(answer, dict):
            raise MalformedError(self._frame, f"it answers {quoted(answer)}")
        return answer

    async def _rest_of_message(self) -> Any:
        """Behind the part of a header that was read."""
        while len(self._frame) < HEADER.size:
            await self._read(HEADER.size - len(self._frame))
        size, _, kind, _ = HEADER.unpack_from(self._frame)
        if not HEADER.size < size <= MAX_FRAME:
            raise MalformedError(self._frame, f"a message cannot be {size} bytes long")
        body = bytearray()
        while len(body) < size - HEADER.size:
            body += await self._receive(size - HEADER.size - len(body))
        self._frame += body
        if kind != PLIST:
            raise MalformedError(self._frame, f"a message of kind {kind}, not {PLIST}")
        try:
            return plistlib.loads(body)
        except Exception as error:  # noqa: BLE001 - plistlib lets AttributeError, LookupError … out
            raise MalformedError(self._frame, brief(error)) from None

    async def _read(self, size: int) -> None:
        self._frame += await self._receive(size)

    async def _receive(self, size: int) -> bytes:
        data = await self._loop.sock_recv(self._socket, size)
        if not data:
            raise ConnectionResetError("usbmuxd closed the connection")
        return data


class UsbmuxClient:
    """Where usbmuxd is, and the one-shot requests to it; each has its own connection.

    Args:
        address: the absolute path of its socket, or `HOST:PORT`.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def is_local(self) -> bool:
        """Whether it is reached over a unix socket."""
        return is_local(self.address)

    async def open(self) -> UsbmuxConnection:
        """A new connection."""
        tcp = tcp_of(self.address)
        if tcp is None:
            return UsbmuxConnection(await dial_unix(self.address))
        return UsbmuxConnection(await dial_tcp(*tcp))

    async def rows(self) -> list[Any]:
        """See `UsbmuxConnection.rows`."""
        connection = await self.open()
        try:
            return await connection.rows()
        finally:
            connection.close()

    async def pair_record(self, *names: str) -> Any:
        """See `UsbmuxConnection.pair_record`; of the first name for which there is one."""
        connection = await self.open()
        try:
            for name in names:
                if (record := await connection.pair_record(name)) is not None:
                    return record
        finally:
            connection.close()
        return None

    async def connect(self, device_id: int, port: int) -> socket.socket:
        """See `UsbmuxConnection.connect`."""
        connection = await self.open()
        try:
            return await connection.connect(device_id, port)
        except BaseException:
            connection.close()
            raise

    async def stream(
        self, device_id: int, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Likewise, as streams."""
        sock = await self.connect(device_id, port)
        try:
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise


def _announced(message: Any) -> Detached | Paired | None:
    """None: a phone's row. Raises KeyError, TypeError or ValueError for what is no announcement."""
    if _is_row(message) or message["MessageType"] == "Attached":
        return None
    match message["MessageType"]:
        case "Detached":
            if not _is_id(message["DeviceID"]):
                raise TypeError(f"{quoted(message['DeviceID'])} is gone, it says")
            return Detached(message["DeviceID"])
        case "Paired":
            return Paired()
    raise ValueError(f"Unexpected device-state message from usbmuxd: {quoted(message)}")


def _is_row(message: Any) -> bool:
    """Whether a message that names no type has the shape of a phone's row all the same."""
    return (
        isinstance(message, dict)
        and "MessageType" not in message
        and not message.keys().isdisjoint(("DeviceID", "Properties"))
    )


def _is_id(value: object) -> bool:
    """A longer number than usbmuxd's 32 bits cannot even be written down, where it is very long."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32


def quoted(value: object) -> str:
    """What was sent, in short; Python shows not every value that a property list can hold."""
    try:
        return repr(value)[:QUOTE]
    except (ValueError, RecursionError) as error:  # a number of 4,301 digits, lists within lists
        return f"what cannot be shown ({type(value).__name__}: {type(error).__name__})"


def brief(error: Exception) -> str:
    """An error in short: libraries quote whole messages in some of theirs."""
    return shortened(f"{type(error).__name__}: {error}", QUOTE + 1)
