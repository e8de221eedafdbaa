"""The udev source, in a private network and mount namespace.

Every test of udev_inner.py is a test here: they run once, together, in one subprocess inside the
namespace, and each result is shown under its own name.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.fakes.udev_namespace import run_inside
from tests.sources import udev_inner

LIMIT = 180.0
INNER = Path(udev_inner.__file__)


def inner_tests() -> list[str]:
    """`name` and `Class::name` of every test function in udev_inner.py."""
    names = []
    for name, thing in vars(udev_inner).items():
        if name.startswith("test_"):
            names.append(name)
        elif name.startswith("Test"):
            names += [
                f"{name}::{test}"
                for test in dir(thing)
                if test.startswith("test_") and callable(getattr(thing, test))
            ]
    return names


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[ET.Element]]:
    """Test name → its reports (several where it is parametrized)."""
    place = tmp_path_factory.mktemp("udev")
    root, report = place / "root", place / "report.xml"
    root.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--basetemp={place / 'inner'}", f"--junitxml={report}", str(INNER)]
    try:
        ended = run_inside(command, root, LIMIT)
    except PermissionError as refusal:
        pytest.skip(str(refusal))
    assert report.exists(), ended.stdout
    found: dict[str, list[ET.Element]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        group = case.get("classname", "").rpartition(".")[2]
        name = case.get("name", "").partition("[")[0]
        found.setdefault(f"{group}::{name}" if group.startswith("Test") else name, []).append(case)
    assert set(found) == set(inner_tests()), ended.stdout
    return found


@pytest.mark.netns
@pytest.mark.parametrize("name", inner_tests())
def test_inside(name: str, results: dict[str, list[ET.Element]]) -> None:
    for case in results[name]:
        for problem in [*case.iter("failure"), *case.iter("error")]:
            pytest.fail(f"{case.get('name')}:\n{problem.text}", pytrace=False)
        for skip in case.iter("skipped"):
            pytest.skip(skip.get("message", "skipped inside"))
