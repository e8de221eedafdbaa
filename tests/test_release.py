"""What a release promises and no build is needed to see: one version, locks, licences."""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest

from agent import __version__
from tests.docs.pages import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(path for path in (ROOT / "requirements").glob("*.txt") if path.stem != "left-out")


@pytest.fixture(scope="module")
def carried() -> SimpleNamespace:
    """packaging/carried.py, a script's module and no package's."""
    names = runpy.run_path(str(ROOT / "packaging" / "carried.py"), run_name="carried")
    return SimpleNamespace(**names)


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    assert version("device-agent") == __version__, "make setup-dev takes the new one"
    top = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert top is not None
    assert top[1] == __version__


def test_what_builds_it_is_what_is_locked() -> None:
    assert PROJECT["build-system"]["requires"] == [
        each for each in PROJECT["dependency-groups"]["build"] if each.startswith("flit_core")
    ]
    assert re.search(
        r"^flit-core==", (ROOT / "requirements" / "build.txt").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_versions_and_hashes_and_no_place(lock: Any) -> None:
    text = lock.read_text()
    assert not re.search(r"https?:|file:|--index|--find-links|/(?:home|root|opt|work|tmp)/", text)
    for block in re.findall(r"(?m)^[A-Za-z].*(?:\n    --hash.*)*", text):
        assert re.match(r"[A-Za-z0-9._-]+==[^\s]+ ", block), block
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "Apache-2.0 AND MIT",
        "MIT OR GPL-2.0-only",
        "(MIT OR GPL-2.0-only) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ],
)
def test_what_goes_with_the_gpl_is_shipped(carried: SimpleNamespace, licence: str) -> None:
    carried.check("a package", licence)


@pytest.mark.parametrize(
    "licence",
    [
        "",
        "see its files",
        "BSD",
        "GPL-2.0-only",
        "MIT AND GPL-2.0-only",
        "(MIT AND GPL-2.0-only) OR OpenSSL",
        "Apache-2.0 WITH Classpath-exception-2.0",
        "OpenSSL",
        "LicenseRef-Proprietary",
    ],
)
def test_what_is_unknown_or_does_not_is_not(carried: SimpleNamespace, licence: str) -> None:
    with pytest.raises(carried.LicenceError, match="a package: "):
        carried.check("a package", licence)


def test_a_program_of_its_own_may_have_another_licence(carried: SimpleNamespace) -> None:
    carried.check("a package", "OpenSSL", beside=True)
    with pytest.raises(carried.LicenceError):
        carried.check("a package", "GPL-2.0-only AND OpenSSL-standalone", beside=True)


def test_every_licence_that_is_named_has_its_text() -> None:
    table = tomllib.loads((ROOT / "packaging" / "licences.toml").read_text())
    said = [*table["expressions"].values(), *(each["licence"] for each in table["within"])]
    names = {
        name for each in said for name in re.split(" AND | OR ", each.replace(" WITH ", "-with-"))
    }
    texts = {path.stem for path in (ROOT / "packaging" / "licences").glob("*.txt")}
    assert names <= texts
