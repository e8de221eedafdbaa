"""Sends callbacks for another process, for `sending`: as little as a second process could be.

`python -m benchmarks.sending_process URL` prints its port, sends what comes over one connection
with the agent's own client, and ends with its standard input. A message is 4 bytes of length and
then `marshal`: (number, message id, body, headers) one way, (number, status) the other.
"""

from __future__ import annotations

import asyncio
import marshal
import struct
import sys
from typing import TYPE_CHECKING, Any

from agent.clock import LoopClock
from agent.deliver.client import Client
from agent.model import Callback
from benchmarks.receiver import until_stdin_ends
from benchmarks.sample import WEBHOOK_ID, make_webhook, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = struct.Struct("!I")


class Wire(asyncio.Protocol):
    """Messages over one connection; those of one turn of the loop are written together."""

    def __init__(self, heard: Callable[[Any], None]) -> None:
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand over every whole message."""
        received = self._received + data
        at = 0
        while at + 4 <= len(received):
            (length,) = LENGTH.unpack_from(received, at)
            if at + 4 + length > len(received):
                break
            self._heard(marshal.loads(received[at + 4 : at + 4 + length]))  # our own process's
            at += 4 + length
        self._received = received[at:]

    def say(self, message: tuple[Any, ...]) -> None:
        """Send one, at the end of this turn."""
        if not self._out:
            self._loop.call_soon(self._flush)
        told = marshal.dumps(message)
        self._out += LENGTH.pack(len(told)), told

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def close(self) -> None:
        """End it."""
        self._transport.close()


async def serve(url: str) -> None:
    """Serve until standard input ends."""
    quiet()
    client, webhook, running = Client(), make_webhook(url), set[asyncio.Task[None]]()

    def connected() -> Wire:
        async def send(
            number: int, message_id: str, body: bytes, headers: tuple[tuple[str, str], ...]
        ) -> None:
            now = LoopClock().wall_ms()
            callback = Callback(message_id, WEBHOOK_ID, "", now, body, headers)
            answer = await client.attempt(webhook, callback, now)
            wire.say((number, answer.status))

        def heard(message: Any) -> None:
            task = asyncio.create_task(send(*message))
            running.add(task)
            task.add_done_callback(running.discard)

        wire = Wire(heard)
        return wire

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await until_stdin_ends()
    server.close()
    await client.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
