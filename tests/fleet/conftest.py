"""A broker for each test that asks for one: the newest there is, and the oldest that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.broker import BUNDLED, Broker, packaged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(params=["bundled", "packaged"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """One server, with nothing stored."""
    binary = BUNDLED if request.param == "bundled" else packaged()
    made = await Broker(tmp_path / "broker", binary).start()
    yield made
    made.close()
