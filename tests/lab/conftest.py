"""One machine for all scenarios of a worker; each begins with no phones and nothing waiting."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.lab import Lab
from tests.lab.vm import BUILT, Vm

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in this directory are `lab`."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def machine() -> Iterator[Lab]:
    """Booted; its directory keeps what its console said and its receiver got."""
    if not (BUILT / "disk.key").exists():
        pytest.fail("nothing is built: `make lab` builds and runs")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    directory = Path(os.environ.get("LAB_DIRECTORY", BUILT / "last")) / worker
    shutil.rmtree(directory, ignore_errors=True)
    with Vm(directory) as vm:
        vm.run("systemctl", "is-system-running", "--wait")
        yield Lab(vm)


@pytest.fixture
def lab(machine: Lab) -> Lab:
    """No phones, an empty store, the agent ready."""
    machine.fresh()
    return machine
