r"""A scripted adb *server*: real framing by default, and every way of breaking it on demand.

    host = FakeAdbHost()
    await host.start()                       # on host.port, kept over kill and start
    host.set(Listed("R58M", port="1-4.2"))   # add or change; the trackers are told
    host.remove("R58M")
    host.pushing = False                     # adb 29: changes are listed, trackers not told
    host.push_raw(b"00")                     # these very bytes to the trackers
    host.mode = Mode.HANG                    # per service: host.modes["host:devices-l"] = ...
    await host.kill()

What a server in the field said is replayed as it was, odd rows and all:

    host.say("ZUG 5S\tdevice\n", "ZUG 5S                 device 3-1 transport_id:2\n")
    host.fails["host:devices-l"] = "closed\ntoday"
    host.replay(json.loads(adb_json))        # `adb.json` of a bundle of `device-agent doctor`

It answers `host:version`, `host:devices`, `host:devices-l`, `host:track-devices`,
`host:transport-id:N` and then `shell:`; the protocol's source is named in `agent.wire.adb`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from tests.fakes.ports import free_port
from tests.fakes.unix import KEEP_SOCKET

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


_LISTS = {"host:devices", "host:devices-l", "host:track-devices"}


class Mode(Enum):
    """How a request is answered."""

    ANSWER = auto()
    HANG = auto()  # accepted, never answered
    FAIL = auto()  # FAIL with a message
    GARBAGE = auto()  # bytes that are no protocol
    CLOSE = auto()  # closed without a byte


@dataclass
class Listed:
    """One transport."""

    serial: str
    state: str = "device"
    port: str = ""
    model: str = ""
    transport_id: int = 0
    """0: the next free one."""
    answers: bool = True
    """False: a frozen phone; its shell hangs."""
    hangs: str = ""
    """Commands with that text hang: `settings`, of a phone whose system server is stuck."""
    told: str = ""
    """What its shell prints."""
    battery: str | None = None
    """What it prints when it is asked for that; None: `told`."""
    then: str = ""
    """What follows its battery: `silence`, `endless` (it again and again), `reset`; "": the end."""


class FakeAdbHost:
    """The server; use as an async context manager, or `start` and `kill`."""

    def __init__(self, path: str = "") -> None:
        """On a loopback port, or on the unix socket `path`."""
        self.port = 0
        self._path = path
        self.listed: dict[int, Listed] = {}
        self.pushing = True
        self.mode = Mode.ANSWER
        self.modes: dict[str, Mode] = {}
        """Service → mode, where it differs from `mode`."""
        self.raw: dict[str, str] = {}
        """Service → the very text that it answers instead of one made from `listed`."""
        self.fails: dict[str, str] = {}
        """Service → the message with which it FAILs."""
        self.requests: Counter[str] = Counter()
        self.shells: list[tuple[int, str]] = []
        self.connected = 0
        """How many connections are open now."""
        self._next = 1
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._trackers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return self._path or f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        assert self._server is None
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, self._path, **KEEP_SOCKET)
            return
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def kill(self) -> None:
        """Stop listening and cut every connection; the list is kept."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()
        while self._writers:  # noqa: ASYNC110 - each handler takes a turn or two to end
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()

    def set(self, *phones: Listed) -> None:
        """Add transports, or change those of the same id; one push for all."""
        for phone in phones:
            if not phone.transport_id:
                phone.transport_id = self._next
            self._next = max(self._next, phone.transport_id) + 1
            self.listed[phone.transport_id] = phone
        self.push()

    def say(self, plain: str, long: str | None = None) -> None:
        """List these very rows: by `host:devices`, to the trackers and by `host:devices-l`.

        What their shells answer is taken from `listed`, by transport id.
        """
        self.raw["host:devices"] = plain
        if long is not None:
            self.raw["host:devices-l"] = long
        self.push()

    def replay(self, recorded: dict[str, list[str] | dict[str, str]]) -> None:
        """Answer as a server in the field did: `adb.json` of a bundle."""
        for service, answer in recorded.items():
            if isinstance(answer, dict):
                self.fails[service] = answer["FAIL"]
            else:
                self.raw[service] = "".join(f"{line}\n" for line in answer)
        self.push()

    def remove(self, serial: str) -> None:
        """Remove all transports of that serial."""
        self.listed = {n: phone for n, phone in self.listed.items() if phone.serial != serial}
        self.push()

    def push(self) -> None:
        """The full list to every tracker, unless `pushing` is off."""
        if self.pushing:
            self.push_raw(self.frame())

    def push_raw(self, data: bytes) -> None:
        for writer in self._trackers:
            writer.write(data)

    def push_raw_and_close(self, data: bytes) -> None:
        """As a server that dies while it writes."""
        for writer in tuple(self._trackers):
            writer.write(data)
            writer.close()

    def frame(self) -> bytes:
        """The list as `host:devices` has it."""
        if (raw := self.raw.get("host:devices")) is not None:
            return _sized(raw)
        return _sized("".join(f"{p.serial}\t{p.state}\n" for p in self.listed.values()))

    def long_frame(self) -> bytes:
        """As `host:devices-l` has it."""
        if (raw := self.raw.get("host:devices-l")) is not None:
            return _sized(raw)
        lines = []
        for phone in self.listed.values():
            path = f" usb:{phone.port}" if phone.port else ""
            about = f" product:x model:{phone.model} device:y" if phone.model else ""
            lines.append(
                f"{phone.serial:<22} {phone.state}{path}{about} transport_id:{phone.transport_id}\n"
            )
        return _sized("".join(lines))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connected += 1
        try:
            await self._requests(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            self._trackers.discard(writer)
            self.connected -= 1
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        phone: Listed | None = None
        while True:
            service = (await reader.readexactly(int(await reader.readexactly(4), 16))).decode()
            self.requests[service.split(" ", 1)[0]] += 1
            mode = self.modes.get(service, self.mode)
            if service in self.fails:
                writer.write(b"FAIL" + _sized(self.fails[service]))
                return
            if mode is not Mode.ANSWER:
                await self._misbehave(mode, reader, writer)
                return
            if not service.startswith("host:transport-id:"):
                await self._serve_one(service, phone, reader, writer)
                return
            phone = self.listed.get(int(service.rpartition(":")[2]))
            if phone is None:
                writer.write(b"FAIL" + _sized("invalid transport id"))
                return
            writer.write(b"OKAY")

    async def _misbehave(
        self, mode: Mode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if mode is Mode.HANG:
            await reader.read(1)  # until the client gives up
        elif mode is Mode.FAIL:
            writer.write(b"FAIL" + _sized("not today"))
        elif mode is Mode.GARBAGE:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def _serve_one(
        self,
        service: str,
        phone: Listed | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if service not in _LISTS and service in self.raw:
            writer.write(b"OKAY" + _sized(self.raw[service]))
        elif service == "host:devices":
            writer.write(b"OKAY" + self.frame())
        elif service == "host:version":
            writer.write(b"OKAY00040029")
        elif service == "host:devices-l":
            writer.write(b"OKAY" + self.long_frame())
        elif service == "host:track-devices":
            writer.write(b"OKAY" + self.frame())
            self._trackers.add(writer)
            await reader.read(1)
        elif service.startswith("shell:") and phone is not None:
            self.shells.append((phone.transport_id, service.partition(":")[2]))
            if phone.battery is not None and "dumpsys battery" in service and phone.answers:
                await _tell_battery(phone, reader, writer)
                return
            if phone.answers and not (phone.hangs and phone.hangs in service):
                writer.write(b"OKAY" + phone.told.encode())
            else:
                await reader.read(1)
        else:
            writer.write(b"FAIL" + _sized("unknown host service"))


async def _tell_battery(
    phone: Listed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    assert phone.battery is not None
    writer.write(b"OKAY\n" + phone.battery.encode())
    while phone.then == "endless":
        writer.write(phone.battery.encode())
        await writer.drain()
    if phone.then == "silence":
        await reader.read(1)
    elif phone.then == "reset":
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _sized(text: str) -> bytes:
    data = text.encode()
    return b"%04x%b" % (len(data), data)  # five digits past 65,535, as the real one
