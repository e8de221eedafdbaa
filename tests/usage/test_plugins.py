"""A source of another package, installed by pip and found by its entry point."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from agent.errors import AgentError
from agent.usage import plugins
from agent.usage.registry import STRENGTH
from tests.usage import conformance
from tests.usage.sample import BookingServer, install
from tests.usage.test_servers import UDID, ServerHarness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.usage.base import UsageSource


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sample package, on this process's path."""
    site = str(install(tmp_path_factory.mktemp("plugin")))
    sys.path.insert(0, site)
    yield
    sys.path.remove(site)


class BookingHarness(ServerHarness):
    """See `conformance.Harness`."""

    holder = "booking of "
    server: BookingServer

    def make(self) -> UsageSource:
        return plugins.make("booking", {"url": self.server.url}, STRENGTH)

    def hold(self) -> None:
        self.server.booked = {UDID: "alice"}

    def end(self) -> None:
        self.server.booked = {}


@pytest.mark.usefixtures("installed")
async def test_conformance() -> None:
    await conformance.check(BookingHarness(BookingServer()))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("other", {}, "no package .* brings this source .installed are booking."),
        ("booking", {}, "KeyError: 'url'"),
        ("appium", {}, "one of the agent's own"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_cannot_be_made_says_why(name: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(AgentError, match=words):
        plugins.make(name, options, STRENGTH)
