"""A broker for each test that asks for one: the newest there is, and the oldest that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.broker import BUNDLED, Broker, packaged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Serve = Callable[..., Awaitable[Broker]]


_OF_THE_WIRE = "test_nats_"
"""Files that are about what a broker says; the others are about what is made of it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not about the wire meets the old server in the long form alone."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
            and "packaged" in item.callspec.params.values()
            and not item.path.name.startswith(_OF_THE_WIRE)
        ):
            item.add_marker(pytest.mark.long)


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
