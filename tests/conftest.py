"""What all tests share."""

from __future__ import annotations

import functools
import gc
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.pki import make_pki, server_tls
from tests.fakes.receiver import Receiver
from tests.kit.examples import examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

# A busy machine must not fail a property: no example has a deadline. The same examples each time:
# a change is judged by what it changed. RANDOM=1 looks for new ones.
settings.register_profile(
    "agent",
    deadline=None,
    max_examples=examples(100),
    derandomize=not os.environ.get("RANDOM"),
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("agent")
# Thousands of tests are collected, by each worker, and none of them is garbage.
gc.disable()


LONGEST = (
    "process/",
    "fleet/",
    "docs/",
    "redaction/",
    "faults/",
    "store/",
    "sources/",
    "api/",
    "deliver/",
)
"""Where the files are that take longest, by what they start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: else one that was begun last is waited for with idle hands."""
    tests = Path(__file__).parent

    @functools.cache
    def place(path: Path) -> int:
        name = path.relative_to(tests).as_posix() if path.is_relative_to(tests) else ""
        return next((n for n, each in enumerate(LONGEST) if name.startswith(each)), len(LONGEST))

    items.sort(key=lambda item: place(item.path))


def pytest_collection_finish() -> None:
    """What was collected stays: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that needs a namespace may not be skipped for the lack of one."""
    report = yield
    if report.skipped and os.environ.get("CI") and item.get_closest_marker("netns"):
        report.outcome = "failed"
        report.longrepr = f"CI must run this one, and it was skipped: {report.longrepr}"
    return report


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: unix sockets have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        yield Path(name)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A webhook receiver that answers 200 until told otherwise."""
    made = await Receiver().start()
    yield made
    await made.close()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates; see `tests.fakes.pki`."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def secure(pki: Path) -> AsyncIterator[Receiver]:
    """A receiver over TLS."""
    made = await Receiver().start(server_tls(pki))
    yield made
    await made.close()


@pytest.fixture
async def mutual(pki: Path) -> AsyncIterator[Receiver]:
    """A receiver over TLS that asks for a client's certificate."""
    made = await Receiver().start(server_tls(pki, mutual=True))
    yield made
    await made.close()
