"""The receiver, a process that is killed like the others. It writes down, then answers.

    python -m tests.fleet.proof.receiver PORT FILE

It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from agent.cli.receiver import Receiver
from agent.model import DeviceState
from tests.fleet.proof.oracle import LOST, Sent

if TYPE_CHECKING:
    from agent.cli.receiver import Received

ROOT = Path(__file__).parents[3]


class ReceiverProcess:
    """One at a time, on one port, with one file."""

    def __init__(self, port: int, file: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._words = (str(port), str(file))
        self._file = file
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; returns once it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fleet.proof.receiver", *self._words),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"listening\n"

    async def kill(self) -> None:
        """SIGKILL, where it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def sent(self) -> list[tuple[float, Sent]]:
        """All that came, with the moment: of all of its lives, in order."""
        if not self._file.exists():
            return []
        # A line that a kill cut off was not answered.
        lines = self._file.read_text().split("\n")[:-1]
        return [_read(json.loads(line)) for line in lines if line.endswith("]")]


def _read(line: tuple[float, str, dict[str, object]]) -> tuple[float, Sent]:
    at, message_id, body = line
    del body["creationTime"]
    event = DeviceState(str(body["eventDescription"]).lower())
    return at, Sent(
        message_id,
        int(str(body["webhookId"])),
        str(body["deviceUdid"]),
        event,
        event is DeviceState.OFFLINE and LOST in str(body["reason"]),
        json.dumps(body),
    )


async def _serve(port: int, file: TextIO) -> None:
    def take(got: Received) -> None:
        # One write: whoever is killed leaves a whole line, or one without its end.
        line = json.dumps([time.monotonic(), got.headers["webhook-id"], got.content])
        file.write(line + "\n")
        file.flush()

    receiver = Receiver(take)
    await receiver.start("127.0.0.1", port)
    print("listening", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await receiver.stop()


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a", encoding="utf-8") as opened:
        opened.write("" if opened.tell() == 0 else "\n")  # behind a line that was cut off
        asyncio.run(_serve(int(sys.argv[1]), opened))
