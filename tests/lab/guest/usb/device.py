"""A USB device: descriptors, endpoint 0, and bulk pipes to what its interfaces do.

USB 2.0, chapter 9. High speed, so that bulk packets have 512 bytes.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .usbip import IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .usbip import Urb

PACKET = 512
BULK, INTERRUPT = 2, 3
ENGLISH = 0x0409
DEVICE, CONFIGURATION, STRING, INTERFACE, ENDPOINT = 1, 2, 3, 4, 5
GET_STATUS, CLEAR_FEATURE, SET_FEATURE, SET_ADDRESS, GET_DESCRIPTOR = 0, 1, 3, 5, 6
GET_CONFIGURATION, SET_CONFIGURATION, GET_INTERFACE, SET_INTERFACE = 8, 9, 10, 11


@dataclass(frozen=True)
class Endpoint:
    """`address` has bit 7 for IN."""

    address: int
    kind: int = BULK
    packet: int = PACKET
    interval: int = 0


@dataclass(frozen=True)
class Interface:
    """One alternate setting of one interface."""

    number: int
    triple: tuple[int, int, int]
    """Class, subclass, protocol."""
    endpoints: tuple[Endpoint, ...] = ()
    name: str = ""
    alternate: int = 0


@dataclass(frozen=True)
class Configuration:
    """One configuration; its value is its place, from 1."""

    interfaces: tuple[Interface, ...]
    name: str = ""


@dataclass(frozen=True)
class Description:
    """All that a device says of itself; empty strings are not mentioned in its descriptors."""

    vendor: int
    product: int
    manufacturer: str
    name: str
    serial: str
    configurations: tuple[Configuration, ...]
    release: int = 0x0100

    def strings(self) -> list[str]:
        """Those that descriptors refer to: the first one's index is 1."""
        found = [self.manufacturer, self.name, self.serial]
        for configuration in self.configurations:
            found.append(configuration.name)
            found += [interface.name for interface in configuration.interfaces]
        return list(dict.fromkeys(filter(None, found)))

    def device(self) -> bytes:
        """The device descriptor."""
        return struct.pack(
            "<BBHBBBBHHHBBBB",
            18,
            DEVICE,
            0x0200,
            0,
            0,
            0,
            64,
            self.vendor,
            self.product,
            self.release,
            *map(self._index, (self.manufacturer, self.name, self.serial)),
            len(self.configurations),
        )

    def configuration(self, index: int) -> bytes:
        """A configuration descriptor with all that belongs to it; `index` is from 0."""
        configuration = self.configurations[index]
        body = b"".join(map(self._interface, configuration.interfaces))
        head = struct.pack(
            "<BBHBBBBB",
            9,
            CONFIGURATION,
            9 + len(body),
            len({interface.number for interface in configuration.interfaces}),
            index + 1,
            self._index(configuration.name),
            0xC0,  # self-powered
            250,  # 500 mA, in steps of 2
        )
        return head + body

    def string(self, index: int) -> bytes | None:
        """A string descriptor; None: there is none. Index 0 lists the languages."""
        if index == 0:
            return struct.pack("<BBH", 4, STRING, ENGLISH)
        strings = self.strings()
        if index > len(strings):
            return None
        text = strings[index - 1].encode("utf-16-le")[:252]
        return struct.pack("<BB", 2 + len(text), STRING) + text

    def _interface(self, interface: Interface) -> bytes:
        head = struct.pack(
            "<9B",
            9,
            INTERFACE,
            interface.number,
            interface.alternate,
            len(interface.endpoints),
            *interface.triple,
            self._index(interface.name),
        )
        return head + b"".join(
            struct.pack("<BBBBHB", 7, ENDPOINT, e.address, e.kind, e.packet, e.interval)
            for e in interface.endpoints
        )

    def _index(self, text: str) -> int:
        return self.strings().index(text) + 1 if text else 0


class Pipe:
    """An IN endpoint: transfers of the device on one side, the host's requests on the other."""

    def __init__(self) -> None:
        self._urbs: deque[Urb] = deque()
        self._transfers: deque[bytes] = deque()

    def write(self, transfer: bytes) -> None:
        """Send one transfer. It ends the host's request, however much that asked for."""
        self._transfers.append(transfer)
        self._match()

    def clear(self) -> None:
        """Throw away what was not read."""
        self._transfers.clear()

    def reset(self) -> None:
        """Forget both sides."""
        self._transfers.clear()
        self._urbs.clear()

    def submit(self, urb: Urb) -> None:
        self._urbs.append(urb)
        self._match()

    def cancel(self, urb: Urb) -> None:
        if urb in self._urbs:
            self._urbs.remove(urb)

    def _match(self) -> None:
        while self._urbs and self._transfers:
            urb = self._urbs.popleft()
            transfer = self._transfers.popleft()
            if len(transfer) > urb.length:
                # As a device's packets would: what does not fit waits for the next request.
                self._transfers.appendleft(transfer[urb.length :])
            urb.complete(transfer[: urb.length])


class Function(Protocol):
    """What an interface does, behind one bulk endpoint each way."""

    def open(self, pipe: Pipe) -> None:
        """The host configured the device: from now on `pipe` takes transfers to it."""

    def receive(self, data: bytes) -> None:
        """One transfer from the host; empty: a zero-length packet, which ended the last one."""

    def close(self) -> None:
        """The host deconfigured the device, or is gone."""


class Device:
    """A device on the bus, from plug to unplug.

    `functions` gives the number of an interface's endpoints (the same both ways) and what is
    behind them, per configuration value; other endpoints take all and give nothing.
    """

    def __init__(
        self, description: Description, functions: Mapping[int, Mapping[int, Function]]
    ) -> None:
        self.description = description
        self.configured = 0
        """The configuration's value; 0: none."""
        self.addressed_at: float | None = None
        """Wall time of the kernel's first request."""
        self.configured_at: float | None = None
        """Wall time of the first configuration."""
        self.on_lost: Callable[[], None] = lambda: None
        self._functions = functions
        self._pipes: dict[int, Pipe] = {}
        self._open: dict[int, Function] = {}
        self._alternates: dict[int, int] = {}
        self._halted: set[int] = set()

    def submit(self, urb: Urb) -> None:
        if urb.endpoint == 0:
            self._control(urb)
        elif not self._has_endpoint(urb.endpoint | (urb.direction << 7)):
            urb.stall()
        elif urb.direction == IN:
            self._pipes.setdefault(urb.endpoint, Pipe()).submit(urb)
        else:
            function = self._open.get(urb.endpoint)
            urb.complete()
            if function is not None:
                function.receive(urb.data)

    def cancel(self, urb: Urb) -> None:
        if urb.endpoint in self._pipes:
            self._pipes[urb.endpoint].cancel(urb)

    def lost(self) -> None:
        self._configure(0)
        self.on_lost()

    def _has_endpoint(self, address: int) -> bool:
        return any(
            endpoint.address == address
            for interface in self._interfaces()
            for endpoint in interface.endpoints
        )

    def _interfaces(self) -> tuple[Interface, ...]:
        if not self.configured:
            return ()
        return self.description.configurations[self.configured - 1].interfaces

    def _configure(self, value: int) -> None:
        for function in self._open.values():
            function.close()
        for pipe in self._pipes.values():
            pipe.reset()
        self._open.clear()
        self._pipes.clear()
        self._halted.clear()
        self._alternates = {}
        self.configured = value
        if value:
            self.configured_at = self.configured_at or time.time()
            for number, function in self._functions.get(value, {}).items():
                self._open[number] = function
                function.open(self._pipes.setdefault(number, Pipe()))

    def _control(self, urb: Urb) -> None:
        self.addressed_at = self.addressed_at or time.time()
        kind, request, value, index, length = struct.unpack("<BBHHH", urb.setup)
        answer: bytes | None = None
        if kind & 0x60 == 0:  # standard; the phones know no request of a class or vendor
            match kind & 0x1F:
                case 0:
                    answer = self._of_device(request, value)
                case 1:
                    answer = self._of_interface(request, value, index)
                case 2:
                    answer = self._of_endpoint(request, value, index)
        if answer is None:
            urb.stall()
        elif urb.direction == OUT:
            urb.complete()
        else:
            urb.complete(answer[: min(length, urb.length)])

    # Standard requests: the answer, empty for what has none; None: not known.

    def _of_device(self, request: int, value: int) -> bytes | None:
        if request == GET_DESCRIPTOR:
            return self._descriptor(value >> 8, value & 0xFF)
        if request == GET_CONFIGURATION:
            return bytes([self.configured])
        if request == GET_STATUS:
            return b"\1\0"  # self-powered
        if request == SET_CONFIGURATION and value <= len(self.description.configurations):
            self._configure(value)
            return b""
        # The virtual host mostly answers SET_ADDRESS by itself.
        return b"" if request == SET_ADDRESS else None

    def _of_interface(self, request: int, value: int, index: int) -> bytes | None:
        alternates = self._alternates_of(index)
        if request == GET_STATUS and alternates:
            return b"\0\0"
        if request == GET_INTERFACE and alternates:
            return bytes([self._alternates.get(index, 0)])
        if request == SET_INTERFACE and value in alternates:
            self._alternates[index] = value
            return b""
        return None

    def _of_endpoint(self, request: int, value: int, index: int) -> bytes | None:
        if request == GET_STATUS:
            return bytes([index in self._halted, 0])
        if request in (CLEAR_FEATURE, SET_FEATURE) and value == 0 and self._has_endpoint(index):
            (self._halted.discard if request == CLEAR_FEATURE else self._halted.add)(index)
            return b""
        return None

    def _alternates_of(self, number: int) -> set[int]:
        return {i.alternate for i in self._interfaces() if i.number == number}

    def _descriptor(self, kind: int, index: int) -> bytes | None:
        if kind == DEVICE:
            return self.description.device()
        if kind == CONFIGURATION and index < len(self.description.configurations):
            return self.description.configuration(index)
        if kind == STRING:
            return self.description.string(index)
        return None  # no qualifier: a device of one speed; no BOS: USB 2.0
