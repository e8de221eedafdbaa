"""A broker for each test that asks for one: the newest there is, and the oldest that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.broker import BUNDLED, Broker, packaged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Serve = Callable[..., Awaitable[Broker]]


@pytest.fixture(params=["bundled", "packaged"])
def binary(request: pytest.FixtureRequest) -> Path:
    """Both servers, one after the other."""
    return BUNDLED if request.param == "bundled" else packaged()


@pytest.fixture
async def serve(tmp_path: Path, binary: Path) -> AsyncIterator[Serve]:
    """Starts any number of them."""
    servers: list[Broker] = []

    async def start(**more: Any) -> Broker:
        made = Broker(tmp_path / f"server{len(servers)}", binary, **more)
        servers.append(made)
        return await made.start()

    yield start
    for each in servers:
        each.close()


@pytest.fixture
async def broker(binary: Path, tmp_path: Path) -> AsyncIterator[Broker]:
    """One server, with nothing stored."""
    made = await Broker(tmp_path / "broker", binary).start()
    yield made
    made.close()
