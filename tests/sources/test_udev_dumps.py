"""What the agent says of devices that people dumped: every test of udev_dumps_inner.py, inside."""

from __future__ import annotations

import pytest

from tests.fakes import inner
from tests.sources import udev_dumps_inner


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> inner.Results:
    return inner.run(udev_dumps_inner, tmp_path_factory.mktemp("dumps"))


@pytest.mark.netns
@pytest.mark.parametrize("name", inner.names(udev_dumps_inner))
def test_inside(name: str, results: inner.Results) -> None:
    inner.check(results, name)
