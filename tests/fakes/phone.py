"""Wire-level fake Android phones: the device side of the ADB protocol on a TCP port.

A real adb server connects to that port when asked with `host:emulator:<port>` and then lists the
phone as `emulator-<port - 1>`; hanging up takes it off the list, much as an unplug does.

    async with FakePhone(device_name="Rack 3", model="Pixel 8") as phone:
        await server.register(phone)      # a RealAdbServer; or send host:emulator:<phone.port>
        phone.serial                      # "emulator-40001"
        phone.revoke()                    # adb says unauthorized ...
        phone.accept()                    # ... until the user accepts the prompt
        phone.stall()                     # still listed as `device`, answers nothing any more
        phone.resume()                    # answers again, what was asked meanwhile included
        phone.hang_up()                   # off the list; `server.register(phone)` brings it back
        phone.drop()                      # the connection only: adb lists it again 1 s later
        phone.commands                    # every shell command it was sent

`FakePhone(authorised=False)` starts behind the prompt. `phone.shells` maps a shell command to its
answer (text, or a function of the command) for what the built-in shell does not know. Everything
runs on the caller's event loop with no task of its own: a thousand phones are a thousand sockets.

Protocol: AOSP packages/modules/adb, docs/dev/protocol.md (`protocol.txt`): a message is six
little-endian words — command, arg0, arg1, length, checksum, command ^ 0xffffffff — and a payload.
Version 0x01000001 lets both sides skip the checksum once each has said CNXN; it is sent all the
same, for servers that speak 0x01000000. A_STLS is never offered.
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
from typing import TYPE_CHECKING

from tests.fakes.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

VERSION = 0x01000001
MAX_DATA = 256 * 1024
HEADER = struct.Struct("<6I")


def _word(name: bytes) -> int:
    return int.from_bytes(name, "little")


CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = map(
    _word, (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)
SILENCE, ENDLESS = "\0silence", "\0endless"
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_PUBLIC_KEY = 1, 2, 3


def pack(command: int, arg0: int, arg1: int, payload: bytes = b"") -> bytes:
    """One message, checksum included."""
    return (
        HEADER.pack(
            command,
            arg0,
            arg1,
            len(payload),
            sum(payload) & 0xFFFFFFFF,
            command ^ 0xFFFFFFFF,
        )
        + payload
    )


class FakePhone:
    """One phone; use as an async context manager, or `start` and `close`."""

    def __init__(
        self,
        *,
        device_name: str = "",
        marketname: str = "",
        model: str = "Fake Phone",
        serialno: str = "",
        authorised: bool = True,
    ) -> None:
        self.device_name = device_name
        """`settings get global device_name`; "" answers `null`, as an unset one does."""
        self.properties = {
            "ro.product.marketname": marketname,
            "ro.product.model": model,
            "ro.serialno": serialno,
        }
        self.authorised = authorised
        self.battery = ""
        """What `dumpsys battery` prints; "": there is no such program. Ends it with `SILENCE`, it
        says no more and does not end; with `ENDLESS`, it says that again for ever."""
        self.battery_takes = 0.0
        """Seconds that this takes, behind what was asked for before it."""
        self.shells: dict[str, str | Callable[[str], str]] = {}
        self.apps: dict[int, Callable[[bytes], bytes | None]] = {}
        """What listens at the phone's TCP ports: a request in, an answer (None: never) out."""
        self.commands: list[str] = []
        self.port = 0
        """Where it listens; given by `start`, kept over hanging up."""
        self.stalled = False
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()

    async def start(self) -> Self:
        """Listen on loopback, on the same port as before it hung up; no-op while listening."""
        if self._server is None:
            self.port = self.port or free_port()
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Link(self), "127.0.0.1", self.port
            )
        return self

    @property
    def serial(self) -> str:
        """What adb will call it."""
        return f"emulator-{self.port - 1}"

    @property
    def connected(self) -> bool:
        """Is an adb server connected?"""
        return bool(self._links)

    def accept(self) -> None:
        """The user accepts the debugging prompt: whoever waits is let in, and so are all later."""
        self.authorised = True
        for link in self._links:
            link.greet()

    def revoke(self) -> None:
        """Forget the host's key: it is asked to authenticate, and never let in until `accept`."""
        self.authorised = False
        for link in self._links:
            link.greet()

    def stall(self) -> None:
        """Take everything, answer nothing."""
        self.stalled = True

    def resume(self) -> None:
        """Answer what came meanwhile, and all that comes."""
        self.stalled = False
        for link in self._links:
            link.work()

    def drop(self) -> None:
        """Drop the connection but listen on.

        Gone after 250 ms; the adb server tries again after another second, and finds it.
        """
        for link in tuple(self._links):
            link.drop()

    def hang_up(self) -> None:
        """Drop the connection and stop listening: the server takes it off its list in 250 ms."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()

    async def close(self) -> None:
        """The end of the phone."""
        self.hang_up()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def banner(self) -> bytes:
        """The identity of its CNXN: what adb shows in `devices -l`."""
        model = self.properties["ro.product.model"]
        name = f"ro.product.name=fake;ro.product.model={model};ro.product.device=fake;"
        return f"device::{name}".encode()

    def run(self, command: str) -> str:
        """What a shell on the phone prints for `command`.

        It knows `echo`, `getprop`, `settings get global device_name` and `$(...)` in double quotes,
        joined by `;`; all else comes from `shells`.
        """
        self.commands.append(command)
        known = self.shells.get(command)
        if known is not None:
            return known if isinstance(known, str) else known(command)
        return "".join(self._simple(part.strip()) for part in command.split(";"))

    def _simple(self, command: str) -> str:
        command = command.replace("2>/dev/null", "").strip()
        match command.split(" ", 1):
            case ["echo", words]:
                inner = re.sub(
                    r"\$\((.*?)\)", lambda m: self._simple(m[1]).rstrip("\n"), words.strip('"')
                )
                return f"{inner}\n"
            case ["echo"]:
                return "\n"
            case ["getprop", key]:
                return self.properties.get(key.strip(), "") + "\n"
            case ["dumpsys", "battery"] if self.battery:
                return self.battery
            case ["settings", "get global device_name"]:
                return (self.device_name or "null") + "\n"
        return f"/system/bin/sh: {command}: not found\n"


class Link(asyncio.Protocol):
    """One adb server's connection to one phone."""

    def __init__(self, phone: FakePhone) -> None:
        self._phone = phone
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._apps: dict[int, int] = {}  # our id -> the port of the app that is spoken to
        self._streams: dict[
            int, list[bytes]
        ] = {}  # our id (= theirs) -> what is still to be written
        self._late: dict[int, bytes] = {}  # their batteries, which take their time
        self._unending: dict[int, bytes] = {}  # those that do not end -> what they say on and on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._phone._links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._phone._links.discard(self)

    def drop(self) -> None:
        self._phone._links.discard(self)
        assert self._transport is not None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._phone.stalled:
            self.work()

    def work(self) -> None:
        """Handle every whole message received."""
        while len(self._received) >= HEADER.size:
            command, arg0, arg1, length, _, magic = HEADER.unpack_from(self._received)
            assert command ^ magic == 0xFFFFFFFF, "the adb server sent a broken header"
            if len(self._received) < HEADER.size + length:
                return
            payload = bytes(self._received[HEADER.size : HEADER.size + length])
            del self._received[: HEADER.size + length]
            self._handle(command, arg0, arg1, payload)

    def greet(self) -> None:
        """CNXN when authorised, else the demand to authenticate."""
        if self._phone.authorised:
            self._send(CNXN, VERSION, MAX_DATA, self._phone.banner())
        else:
            self._send(AUTH, AUTH_TOKEN, 0, os.urandom(20))

    def _handle(self, command: int, arg0: int, arg1: int, payload: bytes) -> None:
        # Streams: their id is arg0 of what they send; ours is made equal to theirs, which is
        # allowed, for ids only have to be unique per side.
        if command == CNXN or (command == AUTH and arg0 == AUTH_SIGNATURE):
            self.greet()
        elif command == OPEN:
            service = payload.rstrip(b"\0").decode()
            kind, _, argument = service.partition(":")
            if kind == "tcp" and int(argument) in self._phone.apps:
                self._apps[arg0] = int(argument)
                self._send(OKAY, arg0, arg0)
                return
            if kind not in {"shell", "exec"}:
                self._send(CLSE, 0, arg0)
                return
            self._open_shell(arg0, argument)
        elif command == OKAY and arg1 in self._streams:
            self._next(arg1)
        elif command == WRTE:
            self._send(OKAY, arg1, arg0)
            if arg1 in self._apps:
                answer = self._phone.apps[self._apps[arg1]](payload)
                if answer is not None:
                    del self._apps[arg1]
                    self._streams[arg1] = [answer]
                    self._next(arg1)
        elif command == CLSE:
            self._streams.pop(arg1, None)
            self._unending.pop(arg1, None)
        # AUTH with a public key waits for the user: `FakePhone.accept`.

    def _open_shell(self, stream: int, command: str) -> None:
        said = self._phone.run(command)
        before, found, after = said.partition(self._phone.battery or "\0")
        if self._phone.battery_takes and found and before:
            self._late[stream] = f"{found}{after}".encode()
            said = before
        output = said.partition("\0")[0].encode()
        self._streams[stream] = [output] if output else []
        if said.endswith((SILENCE, ENDLESS)):
            self._unending[stream] = output if said.endswith(ENDLESS) else b""
        self._send(OKAY, stream, stream)
        self._next(stream)

    def _next(self, stream: int) -> None:
        """Write what is left, one message per OKAY; then close."""
        chunks = self._streams[stream]
        if chunks:
            self._send(WRTE, stream, stream, chunks.pop())
        elif stream in self._late:
            delay, data = self._phone.battery_takes, self._late.pop(stream)
            asyncio.get_running_loop().call_later(delay, self._write_late, stream, data)
        elif stream in self._unending:
            if self._unending[stream]:
                self._send(WRTE, stream, stream, self._unending[stream])
        else:
            del self._streams[stream]
            self._send(CLSE, stream, stream)

    def _write_late(self, stream: int, data: bytes) -> None:
        assert self._transport is not None
        if stream in self._streams and not self._transport.is_closing():
            self._send(WRTE, stream, stream, data)

    def _send(self, command: int, arg0: int, arg1: int, payload: bytes = b"") -> None:
        assert self._transport is not None
        self._transport.write(pack(command, arg0, arg1, payload))
