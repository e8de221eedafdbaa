"""usbmux over USB, the iPhone's end: TCP-like connections in packets over one bulk pipe each way.

As usbmuxd speaks it (libimobiledevice/usbmuxd, src/device.c). A packet begins with protocol and
length, both 4 bytes, big-endian. The host asks for version 2 with protocol 0; once it is granted,
headers grow by a magic number and two sequence numbers, and the host sends a setup packet (2).
Protocol 6 carries a TCP header and data; windows are in units of 256 bytes. A connection is refused
and ended by RST. What ends a packet is its length; zero-length packets mean nothing.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .device import Pipe

    Service = Callable[["Stream"], Awaitable[None]]

log = logging.getLogger(__name__)

VERSION, SETUP, TCP = 0, 2, 6
SHORT = struct.Struct(">II")
LONG = struct.Struct(">IIIHH")
VERSIONS = struct.Struct(">III")
SEGMENT = struct.Struct(">HHIIBBHHH")
MAGIC = 0xFEEDFACE
MOST = 65536
"""Bytes of a packet; usbmuxd sends at most 49,152."""
PIECE = 8192
"""Bytes of data in a packet of ours: usbmuxd reads 16,384 at once."""
WINDOW = 512
"""What the host may send unacknowledged, in units of 256 bytes."""
FIN, SYN, RST, ACK = 1, 2, 4, 16


class Stream:
    """One connection of the host to a service on the phone; TLS can be put on it and taken off.

    `asyncio.IncompleteReadError` once the host has closed it, `ssl.SSLError` where TLS fails.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.raw = asyncio.StreamReader()
        self._send = send
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._plain = bytearray()

    async def readexactly(self, size: int) -> bytes:
        """That many bytes."""
        if self._tls is None:
            return await self.raw.readexactly(size)
        while len(self._plain) < size:
            try:
                piece = self._tls.read(65536)
            except ssl.SSLWantReadError:
                await self._more()
                continue
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                raise asyncio.IncompleteReadError(bytes(self._plain), size)
            self._plain += piece
        piece = bytes(self._plain[:size])
        del self._plain[:size]
        return piece

    def write(self, data: bytes) -> None:
        """Send; the host's window is waited for behind the caller's back."""
        if self._tls is None:
            self._send(data)
        else:
            self._tls.write(data)
            self._send(self._outgoing.read())

    async def until_closed(self) -> None:
        """Throw away what comes until the host closes."""
        while await self.raw.read(65536):
            pass

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The server's end of a handshake."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send(self._outgoing.read())
                await self._more()
            except ssl.SSLError:
                self._send(self._outgoing.read())  # the alert
                raise
            else:
                self._send(self._outgoing.read())
                self._tls = tls
                return

    async def stop_tls(self) -> None:
        """Go on in the clear, as after StopSession; the host's goodbye inside TLS is read first."""
        if self._tls is not None:
            self._tls = None
            head = await self.raw.readexactly(5)  # content type, version, length
            await self.raw.readexactly(int.from_bytes(head[3:], "big"))

    async def _more(self) -> None:
        data = await self.raw.read(65536)
        if data:
            self._incoming.write(data)
        elif self._incoming.eof:
            raise asyncio.IncompleteReadError(bytes(self._plain), None)
        else:
            self._incoming.write_eof()


class _Connection:
    """The phone's end of one TCP-like connection."""

    def __init__(self, mux: Mux, host_port: int, port: int, segment: _Segment) -> None:
        self._mux = mux
        self._host_port, self._port = host_port, port
        self._sent = 0  # our sequence number: of the next byte
        self._acknowledged = 0  # by the host
        self._window = segment.window
        self._received = segment.seq + 1  # what we acknowledge
        self._queue = bytearray()
        self.task: asyncio.Task[None] | None = None
        self.stream = Stream(self._write)

    def start(self, service: Service) -> None:
        self.segment(SYN | ACK)
        self._sent = self._acknowledged = 1
        self.task = asyncio.get_running_loop().create_task(self._run(service))

    def segment(self, flags: int, data: bytes = b"") -> None:
        self._mux.send_segment(self._port, self._host_port, self._sent, self._received, flags, data)

    def receive(self, segment: _Segment) -> None:
        self._acknowledged, self._window = segment.ack, segment.window
        if segment.data:
            self._received += len(segment.data)
            self.stream.raw.feed_data(segment.data)
            self.segment(ACK)
        self._flush()

    def end(self) -> None:
        """The host closed it, or is gone."""
        self.stream.raw.feed_eof()
        if self.task is not None:
            self.task.cancel()

    def _write(self, data: bytes) -> None:
        self._queue += data
        self._flush()

    def _flush(self) -> None:
        while self._queue:
            room = self._window - (self._sent - self._acknowledged)
            size = min(room, PIECE, len(self._queue))
            if size <= 0:
                return
            self.segment(ACK, bytes(self._queue[:size]))
            del self._queue[:size]
            self._sent += size

    async def _run(self, service: Service) -> None:
        try:
            await service(self.stream)
        except (EOFError, ssl.SSLError):
            pass  # the host hung up, or says what is no message or no TLS
        except Exception:
            # Nobody awaits this task; the host sees its connection reset.
            log.exception("a service on port %s failed", self._port)
        finally:
            self._mux.ended(self._host_port, self._port, self)


class _Segment:
    """A TCP segment of the host."""

    def __init__(self, packet: bytes) -> None:
        fields = SEGMENT.unpack_from(packet)
        self.host_port, self.port, self.seq, self.ack, offset, self.flags, window, _, _ = fields
        self.window = window << 8
        self.data = packet[(offset >> 4) * 4 :]


class Mux:
    """The function behind an iPhone's multiplexer interface.

    `service` says what listens on a port, None for nothing.
    """

    def __init__(self, service: Callable[[int], Service | None]) -> None:
        self.muted = False
        """It takes everything and answers nothing, not even the first packet."""
        self.answered_at: float | None = None
        """Wall time of the first handshake."""
        self._service = service
        self._pipe: Pipe | None = None
        self._received = bytearray()
        self._header = SHORT
        self._sent = 0  # packets, from the setup packet on
        self._connections: dict[tuple[int, int], _Connection] = {}

    def open(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def close(self) -> None:
        self._reset()
        self._pipe = None

    def receive(self, data: bytes) -> None:
        # A usbmuxd that begins anew, wherever the last one was.
        if data[: SHORT.size] == SHORT.pack(VERSION, SHORT.size + VERSIONS.size):
            self._reset()
        self._received += data
        while len(self._received) >= SHORT.size:
            _, length = SHORT.unpack_from(self._received)
            if not self._header.size <= length <= MOST:
                self._received.clear()  # no packet: wait for a host that begins anew
                return
            if len(self._received) < length:
                return
            packet = bytes(self._received[:length])
            del self._received[:length]
            if not self.muted:
                self._packet(packet)

    def send_segment(
        self, port: int, host_port: int, seq: int, ack: int, flags: int, data: bytes = b""
    ) -> None:
        head = SEGMENT.pack(
            port, host_port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags, WINDOW, 0, 0
        )
        self._send(TCP, head + data)

    def ended(self, host_port: int, port: int, connection: _Connection) -> None:
        """Its service is done with it: close it, unless the host did."""
        if self._connections.get((host_port, port)) is connection:
            del self._connections[host_port, port]
            connection.segment(RST)

    def _reset(self) -> None:
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.end()
        self._received.clear()
        self._header = SHORT
        if self._pipe is not None:
            self._pipe.clear()

    def _packet(self, packet: bytes) -> None:
        protocol, _ = SHORT.unpack_from(packet)
        body = packet[self._header.size :]
        if protocol == VERSION and self._header is SHORT and len(body) >= VERSIONS.size:
            self.answered_at = self.answered_at or time.time()
            self._send(VERSION, VERSIONS.pack(2, 0, 0))
            self._header = LONG
        elif protocol == SETUP:
            self._sent = 0
        elif protocol == TCP and len(body) >= SEGMENT.size:
            self._segment(_Segment(body))

    def _segment(self, segment: _Segment) -> None:
        key = segment.host_port, segment.port
        connection = self._connections.get(key)
        if segment.flags & (RST | FIN):
            if connection is not None:
                del self._connections[key]
                connection.end()
        elif segment.flags == SYN:
            service = self._service(segment.port)
            if service is None or connection is not None:
                self.send_segment(segment.port, segment.host_port, 0, segment.seq + 1, RST | ACK)
                return
            connection = self._connections[key] = _Connection(
                self, segment.host_port, segment.port, segment
            )
            connection.start(service)
        elif connection is not None:
            connection.receive(segment)
        else:
            self.send_segment(segment.port, segment.host_port, segment.ack, segment.seq, RST)

    def _send(self, protocol: int, body: bytes) -> None:
        if self._pipe is None:
            return
        length = self._header.size + len(body)
        if self._header is SHORT:
            head = SHORT.pack(protocol, length)
        else:
            # usbmuxd takes our receive number for its own next one and does not look further.
            head = LONG.pack(protocol, length, MAGIC, self._sent & 0xFFFF, self._sent & 0xFFFF)
            self._sent += 1
        self._pipe.write(head + body)
