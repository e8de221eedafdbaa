"""The control socket: one JSON object per line in, one per line out."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import TYPE_CHECKING, Any

from .phones import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from .phones import Phones

log = logging.getLogger(__name__)

LINE = 1024 * 1024
"""Bytes of a request."""


async def listen(phones: Phones, path: Path) -> asyncio.Server:
    """Serve requests at `path` from now on; a stale socket there is replaced."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await _answer(phones, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # it hung up, or a line without end
            pass
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(serve, path, limit=LINE)


async def _answer(phones: Phones, line: bytes) -> dict[str, Any]:
    try:
        return {"ok": True, **await phones.do(json.loads(line))}
    except (RefusedError, ValueError) as error:
        log.info("refused: %s", error)
        return {"ok": False, "error": str(error)}


def ask(path: Path, request: str, limit: float) -> dict[str, Any]:
    """Send one request and wait for its answer, `limit` seconds for each part of it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(limit)
        client.connect(str(path))
        client.sendall(" ".join(request.splitlines()).encode() + b"\n")
        with client.makefile("rb") as answers:
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer
