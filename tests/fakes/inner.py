"""Shows the tests of a module that runs inside a namespace as tests of one outside.

They run once, together, in one subprocess; each result is reported under its own name.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.fakes.udev_namespace import run_inside

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

LIMIT = 300.0
"""Seconds for all of a module's tests, unless told otherwise."""

Results = dict[str, list[ET.Element]]
"""Test name → its reports (several where it is parametrized)."""


def names(inner: ModuleType) -> list[str]:
    """`name` and `Class::name` of every test function of the module."""
    found = []
    for name, thing in vars(inner).items():
        if name.startswith("test_"):
            found.append(name)
        elif name.startswith("Test"):
            found += [
                f"{name}::{test}"
                for test in dir(thing)
                if test.startswith("test_") and callable(getattr(thing, test))
            ]
    return found


def run(inner: ModuleType, place: Path, limit: float = LIMIT) -> Results:
    """Run the module's tests inside; skips where namespaces are refused."""
    root, report = place / "root", place / "report.xml"
    root.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--basetemp={place / 'inner'}", f"--junitxml={report}", str(inner.__file__)]
    try:
        ended = run_inside(command, root, limit)
    except PermissionError as refusal:
        pytest.skip(str(refusal))
    assert report.exists(), ended.stdout
    found: Results = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        group = case.get("classname", "").rpartition(".")[2]
        name = case.get("name", "").partition("[")[0]
        found.setdefault(f"{group}::{name}" if group.startswith("Test") else name, []).append(case)
    assert set(found) == set(names(inner)), ended.stdout
    return found


def check(results: Results, name: str) -> None:
    """Fail or skip as the test inside did."""
    for case in results[name]:
        for problem in [*case.iter("failure"), *case.iter("error")]:
            pytest.fail(f"{case.get('name')}:\n{problem.text}", pytrace=False)
        for skip in case.iter("skipped"):
            if skip.get("type") == "pytest.xfail":
                continue  # it fails as it is said to
            pytest.skip(skip.get("message", "skipped inside"))
