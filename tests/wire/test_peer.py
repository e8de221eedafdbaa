"""Who is at the other end of a unix socket."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from agent.wire.peer import Peer, listener_at, peer_of

if TYPE_CHECKING:
    from pathlib import Path

ME = Peer(os.getpid(), os.geteuid())


def test_of_a_connection() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == ME


async def test_of_who_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(ConnectionRefusedError):
            await listener_at(tmp_path / "s")
        listening.listen()
        assert await listener_at(tmp_path / "s") == ME
    with pytest.raises(FileNotFoundError):
        await listener_at(tmp_path / "none")
