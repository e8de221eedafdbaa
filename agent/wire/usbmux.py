"""Connections to usbmuxd's socket, and through it to a port of an iPhone.

The protocol: a header of four little-endian 32-bit numbers (length with header, version 1, message
type 8, tag), then a property list (libusbmuxd, `usbmuxd-proto.h`). After `Connect` was answered
with 0 the connection is the phone's; port numbers are in network byte order.
"""

from __future__ import annotations

import asyncio
import plistlib
import socket
import struct
from typing import Any
from xml.parsers.expat import ExpatError

from agent.wire.resolver import addresses

QUEUE_PAUSE = 0.02
"""Seconds between tries while usbmuxd's queue of connections is full."""
HEADER = struct.Struct("<IIII")
VERSION, PLIST, TAG = 1, 8, 1
OK, BAD_DEVICE, REFUSED = 0, 2, 3
"""Results: usbmuxd-proto.h, `usbmuxd_result`."""
MAX_ANSWER = 64 * 1024
"""Bytes: a result takes 300, a pairing record a few thousand."""
MAX_LIST = 16 * 1024 * 1024
"""Bytes: a list takes about 800 per phone."""


def is_local(address: str) -> bool:
    """Whether that is the path of a unix socket."""
    return _tcp(address) is None


async def open_socket(address: str) -> socket.socket:
    """A connection to usbmuxd, non-blocking. The caller limits the time, and closes it.

    Args:
        address: the path of its socket (`UNIX:/path` too), or `HOST:PORT`.

    Raises:
        OSError: nobody listens there.
    """
    tcp = _tcp(address)
    if tcp is None:
        return await _open_unix(address.removeprefix("UNIX:"))
    return await _open_tcp(*tcp)


async def connect(
    address: str, device_id: int, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream to a port of an attached iPhone. The caller limits the time, and closes it.

    Raises:
        ConnectionRefusedError: nothing listens there on the phone.
        OSError: usbmuxd cannot be reached, knows no such phone, or answers something else.
    """
    sock = await open_socket(address)
    try:
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        request = {
            "MessageType": "Connect",
            "DeviceID": device_id,
            "PortNumber": socket.htons(port),
        }
        writer.write(_packed(request))
        number = _result(await _message(reader))
    except BaseException:
        writer.transport.abort()
        raise
    if number == OK:
        return reader, writer
    writer.transport.abort()
    if number == REFUSED:
        raise ConnectionRefusedError(f"nothing listens at port {port} of the phone")
    if number == BAD_DEVICE:
        raise ConnectionError("the phone is no longer attached")
    raise ConnectionError(f"usbmuxd refuses the connection (result {number})")


async def list_rows(address: str) -> list[Any]:
    """The rows of its list of devices, as they come: each may be anything. The caller limits it.

    Raises:
        OSError: usbmuxd cannot be reached, or answers something else.
    """
    answer = await _ask(address, {"MessageType": "ListDevices"}, MAX_LIST)
    rows = answer.get("DeviceList") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise ConnectionError("usbmuxd answered no list of devices")
    return rows


def usb_serials(rows: list[Any]) -> list[str]:
    """Serials of the iPhones that the rows list over USB; rows that are none are left out."""
    found = []
    for row in rows:
        properties = row.get("Properties") if isinstance(row, dict) else None
        if isinstance(properties, dict) and properties.get("ConnectionType") == "USB":
            serial = properties.get("SerialNumber")
            if isinstance(serial, str) and serial:
                found.append(serial)
    return found


async def has_record(address: str, serial: str) -> bool:
    """Whether usbmuxd keeps a pairing record of that name. The caller limits the time.

    Raises:
        OSError: usbmuxd cannot be reached, or answers something else.
    """
    request = {"MessageType": "ReadPairRecord", "PairRecordID": serial}
    answer = await _ask(address, request, MAX_ANSWER)
    return isinstance(answer, dict) and "PairRecordData" in answer


async def _ask(address: str, request: dict[str, Any], most: int) -> Any:
    """One request on a connection of its own."""
    sock = await open_socket(address)
    try:
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(_packed(request))
        return await _message(reader, most)
    finally:
        writer.transport.abort()


def _packed(request: dict[str, Any]) -> bytes:
    data = plistlib.dumps(
        {"ClientVersionString": "device-agent", "ProgName": "device-agent", **request}
    )
    return HEADER.pack(HEADER.size + len(data), VERSION, PLIST, TAG) + data


async def _message(reader: asyncio.StreamReader, most: int = MAX_ANSWER) -> Any:
    try:
        size, version, kind, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
        if version != VERSION or kind != PLIST or not HEADER.size <= size <= most:
            raise ConnectionError("what answers there is no usbmuxd")
        return plistlib.loads(await reader.readexactly(size - HEADER.size))
    except asyncio.IncompleteReadError:
        raise ConnectionError("usbmuxd closed the connection") from None
    except (plistlib.InvalidFileException, ExpatError, ValueError):
        raise ConnectionError("usbmuxd sent a malformed message") from None


def _result(message: Any) -> Any:
    return message.get("Number") if isinstance(message, dict) else None


def _tcp(address: str) -> tuple[str, str] | None:
    path = address.removeprefix("UNIX:")
    host, colon, port = path.rpartition(":")
    return (host.strip("[]"), port) if colon and "/" not in path else None


async def _open_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            # Not `loop.sock_connect`: a full queue (usbmuxd up to 1.1.1 keeps 5) is EAGAIN
            # here, which asyncio takes for a connection under way and then for a made one.
            try:
                sock.connect(path)
            except BlockingIOError:
                await asyncio.sleep(QUEUE_PAUSE)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def _open_tcp(host: str, port: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    refusal = OSError(f"no address for {host}")
    for family, kind, proto, _, where in await addresses(host, port):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, where)
        except OSError as error:
            sock.close()
            refusal = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise refusal
