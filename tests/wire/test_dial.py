"""Connecting to servers, by name, number or path."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from agent.wire.dial import dial_tcp, dial_unix
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_first_address_that_takes_a_connection(host: str) -> None:
    """`localhost` may be ::1 first, where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        async with asyncio.timeout(LIMIT):
            with closing(await dial_tcp(host, str(port))) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)
                assert not sock.getblocking()


async def test_the_last_refusal_where_none_does() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await dial_tcp("127.0.0.1", port)
    with pytest.raises(socket.gaierror):
        await dial_tcp("nowhere.invalid", port)


async def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """Asyncio's own takes EAGAIN for a connection that was made."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        first = await dial_unix(path)
        second = asyncio.create_task(dial_unix(path))
        done, _ = await asyncio.wait({second}, timeout=0.1)
        assert not done
        listening.accept()[0].close()
        async with asyncio.timeout(LIMIT):
            (await second).close()
        first.close()
