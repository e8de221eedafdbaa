"""A machine to install into, for each file of tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.packaging.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent
TOOLS = (
    *("systemd-nspawn", "unshare", "nsenter", "make", "dpkg-shlibdeps", "lintian"),
    *("man", "zsh", "fish", "ss"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in this directory are `packaging`."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.packaging)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Booted; kept for the whole file, whose tests follow each other as an operator's days do."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        why = f"needs root and {', '.join(missing) or 'nothing else'}"
        if os.environ.get("CI"):
            pytest.fail(f"CI must run this: {why}")
        pytest.skip(why)
    with Machine() as booted:
        yield booted
