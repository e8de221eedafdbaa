"""Says over netlink what udevd says: messages in libudev's wire format.

The format is systemd's (src/libsystemd/sd-device/device-monitor.c): 40 bytes of header, then the
properties as NUL-terminated `KEY=VALUE`. Multicast needs CAP_NET_ADMIN over the network namespace,
and libudev believes only uid 0: run it in one of its own (tests/fakes/udev_namespace.py).
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fakes.udev_dump import Dumped
    from tests.fakes.udev_sysfs import FakeUsbDevice

NETLINK_KOBJECT_UEVENT = 15
UDEV_GROUP = 2
MAGIC = 0xFEEDCAFE
HEADER = struct.Struct("=8s4s3I4s4s8s")
"""Prefix, magic, header size, properties' offset and length, three hashes; all but the three
integers in network order."""

_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes, seed: int = 0) -> int:
    """MurmurHash2 (Austin Appleby, public domain), 32 bits, little-endian."""
    value = (seed ^ len(data)) & _MASK
    whole = len(data) & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        mixed = (word * _MULTIPLIER) & _MASK
        mixed = ((mixed ^ (mixed >> 24)) * _MULTIPLIER) & _MASK
        value = ((value * _MULTIPLIER) & _MASK) ^ mixed
    if rest := data[whole:]:
        value = ((value ^ int.from_bytes(rest, "little")) * _MULTIPLIER) & _MASK
    value = ((value ^ (value >> 13)) * _MULTIPLIER) & _MASK
    return value ^ (value >> 15)


def message(properties: Mapping[str, str]) -> bytes:
    """One message of udevd; the kernel-side filters match on SUBSYSTEM and DEVTYPE."""
    body = b"".join(
        f"{key}={value}".encode("utf-8", "surrogateescape") + b"\0"
        for key, value in properties.items()
    )
    header = HEADER.pack(
        b"libudev\0",
        struct.pack(">I", MAGIC),
        HEADER.size,
        HEADER.size,
        len(body),
        struct.pack(">I", murmur2(properties["SUBSYSTEM"].encode())),
        struct.pack(">I", murmur2(properties["DEVTYPE"].encode())),
        bytes(8),  # no tags
    )
    return header + body


class UdevNet:
    """A sender in udevd's place."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT
        )
        self._numbers = itertools.count(1000)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, action: str, device: FakeUsbDevice | Dumped, **changed: str | None) -> None:
        """Tell of the device; `changed` properties replace its own, None leaves one out."""
        properties = {"ACTION": action, "SEQNUM": str(next(self._numbers)), **device.properties}
        for key, value in changed.items():
            if value is None:
                properties.pop(key, None)
            else:
                properties[key] = value
        self.send_raw(message(properties))

    def send_raw(self, data: bytes) -> None:
        """Send these bytes to whoever listens to udevd; nobody listening is fine."""
        # Refused is the copy that netlink offers to the kernel itself.
        with contextlib.suppress(ConnectionRefusedError):
            self._socket.sendto(data, (0, UDEV_GROUP))
