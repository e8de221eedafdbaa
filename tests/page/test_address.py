"""The page at an address of a network: every test of address_inner.py, in a namespace."""

from __future__ import annotations

import pytest

from tests.fakes import inner
from tests.page import address_inner


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> inner.Results:
    return inner.run(address_inner, tmp_path_factory.mktemp("address"))


@pytest.mark.netns
@pytest.mark.parametrize("name", inner.names(address_inner))
def test_inside(name: str, results: inner.Results) -> None:
    inner.check(results, name)
