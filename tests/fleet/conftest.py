"""A broker for each test that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.broker import Broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """One server, with nothing stored."""
    made = await Broker(tmp_path / "broker").start()
    yield made
    made.close()
