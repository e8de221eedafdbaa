"""Leases over a network that dies: every test of vanish_inner.py, in a network of its own."""

from __future__ import annotations

import pytest

from tests.fakes import inner
from tests.process import vanish_inner


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> inner.Results:
    return inner.run(vanish_inner, tmp_path_factory.mktemp("vanish"))


@pytest.mark.netns
@pytest.mark.parametrize("name", inner.names(vanish_inner))
def test_inside(name: str, results: inner.Results) -> None:
    inner.check(results, name)
