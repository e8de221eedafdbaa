"""The udev source, in a private network and mount namespace: every test of udev_inner.py."""

from __future__ import annotations

import pytest

from tests.fakes import inner
from tests.sources import udev_inner


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> inner.Results:
    return inner.run(udev_inner, tmp_path_factory.mktemp("udev"))


@pytest.mark.netns
@pytest.mark.parametrize("name", inner.names(udev_inner))
def test_inside(name: str, results: inner.Results) -> None:
    inner.check(results, name)
