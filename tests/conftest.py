"""What all tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator

# A busy machine must not fail a property: no example has a deadline.
settings.register_profile(
    "agent", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("agent")


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
