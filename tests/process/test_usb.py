"""The whole agent over udev, adb and usbmux at once: every test of usb_inner.py, in a namespace."""

from __future__ import annotations

import pytest

from tests.fakes import inner
from tests.process import usb_inner


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> inner.Results:
    return inner.run(usb_inner, tmp_path_factory.mktemp("usb"))


@pytest.mark.netns
@pytest.mark.parametrize("name", inner.names(usb_inner))
def test_inside(name: str, results: inner.Results) -> None:
    inner.check(results, name)
