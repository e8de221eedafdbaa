"""What the fault tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost
from tests.fakes.receiver import Receiver
from tests.faults.lab import short_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = await Receiver().start()
    yield made
    await made.close()
