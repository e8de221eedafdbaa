"""USB/IP's wire, the device's end of one imported device.

Linux Documentation/usb/usbip_protocol.rst: every message begins with 48 bytes in network order —
command, seqnum, devid, direction, endpoint, then 28 bytes by command. A submission to an OUT
endpoint is followed by its data, the answer to an IN one likewise. The setup packet inside a
submission is little-endian, as USB has it.
"""

from __future__ import annotations

import asyncio
import errno
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

CMD_SUBMIT, CMD_UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
OUT, IN = 0, 1
BASIC = struct.Struct(">5I")
SUBMIT = struct.Struct(">Iiiii8s")
"""transfer_flags, transfer_buffer_length, start_frame, number_of_packets, interval, setup."""
RETURN = struct.Struct(">5i8x")
"""status, actual_length, start_frame, number_of_packets, error_count."""
HEADER = 48
SHORT_NOT_OK = 0x1
"""Of transfer_flags (URB_SHORT_NOT_OK): less than asked for is an error, for an IN endpoint."""
MOST = 16 * 1024 * 1024
"""Bytes of one transfer: usbfs' own limit (usbfs_memory_mb) for all of a host's together."""


class BrokenError(Exception):
    """The other end sent what is no USB/IP."""


@dataclass(eq=False)
class Urb:
    """One transfer that the host asks for; answered once, by `complete`, or unlinked."""

    seqnum: int
    endpoint: int
    """Its number, without the direction."""
    direction: int
    length: int
    """Bytes asked for (IN) or sent (OUT)."""
    flags: int
    setup: bytes
    data: bytes
    _finish: Callable[[Urb, int, bytes], None] = field(repr=False)

    def complete(self, data: bytes = b"") -> None:
        """It went well. `data` is what an IN endpoint gives, no more than was asked for."""
        short = self.direction == IN and len(data) < self.length and self.flags & SHORT_NOT_OK
        self._finish(self, -errno.EREMOTEIO if short else 0, data)

    def stall(self) -> None:
        """The endpoint halts, or endpoint 0 does not know the request."""
        self._finish(self, -errno.EPIPE, b"")


class Device(Protocol):
    """What is exported."""

    def submit(self, urb: Urb) -> None:
        """Take a transfer; complete it now or later."""

    def cancel(self, urb: Urb) -> None:
        """The host took this one, which was not completed, back."""

    def lost(self) -> None:
        """The host is gone; what it submitted is void."""


class Export(asyncio.Protocol):
    """One device on one connection.

    `ended` is called once the connection is over, with the reason in words where the host broke
    the protocol, else "".
    """

    def __init__(self, device: Device, ended: Callable[[str], None]) -> None:
        self._device = device
        self._ended = ended
        self._reason = ""
        self._received = bytearray()
        self._pending: dict[int, Urb] = {}
        self._transport: asyncio.Transport | None = None

    @property
    def pending(self) -> int:
        """How many transfers wait."""
        return len(self._pending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._pending.clear()
        self._device.lost()
        self._ended(self._reason)

    def unplug(self) -> None:
        """Pull the cable: the kernel sees the connection's end."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            while self._message():
                pass
        except BrokenError as error:
            self._reason = str(error)
            self.unplug()

    def _message(self) -> bool:
        """Handle the first message if it is all there."""
        if self._transport is None or len(self._received) < HEADER:
            return False
        command, seqnum, _, direction, endpoint = BASIC.unpack_from(self._received)
        if command == CMD_UNLINK:
            (unlinked,) = struct.unpack_from(">I", self._received, BASIC.size)
            del self._received[:HEADER]
            self._unlink(seqnum, unlinked)
            return True
        if command != CMD_SUBMIT:
            raise BrokenError(f"command {command:#x} is neither submit nor unlink")
        flags, length, _, packets, _, setup = SUBMIT.unpack_from(self._received, BASIC.size)
        if direction not in (OUT, IN) or endpoint > 15 or not 0 <= length <= MOST:
            raise BrokenError(
                f"no transfer is {length} bytes in direction {direction} on endpoint {endpoint}"
            )
        if packets not in (0, -1):
            raise BrokenError(f"{packets} isochronous packets, and no phone has such endpoints")
        size = HEADER + (length if direction == OUT else 0)
        if len(self._received) < size:
            return False
        body = bytes(self._received[HEADER:size])
        del self._received[:size]
        if seqnum in self._pending:
            raise BrokenError(f"two transfers are numbered {seqnum}")
        urb = Urb(seqnum, endpoint, direction, length, flags, setup, body, self._finish)
        self._pending[seqnum] = urb
        self._device.submit(urb)
        return True

    def _unlink(self, seqnum: int, unlinked: int) -> None:
        urb = self._pending.pop(unlinked, None)
        if urb is not None:
            self._device.cancel(urb)
        # 0 says that it was too late: the answer to the transfer itself is on its way already.
        self._send(RET_UNLINK, seqnum, (0 if urb is None else -errno.ECONNRESET, 0, 0, 0, 0))

    def _finish(self, urb: Urb, status: int, data: bytes) -> None:
        if self._pending.pop(urb.seqnum, None) is not urb:
            return
        assert len(data) <= urb.length or urb.direction == OUT
        done = len(data) if urb.direction == IN else urb.length if status == 0 else 0
        self._send(RET_SUBMIT, urb.seqnum, (status, done, 0, 0, 0), data)

    def _send(
        self, command: int, seqnum: int, values: tuple[int, int, int, int, int], data: bytes = b""
    ) -> None:
        if self._transport is not None:
            header = BASIC.pack(command, seqnum, 0, 0, 0) + RETURN.pack(*values)
            self._transport.write(header + data)
