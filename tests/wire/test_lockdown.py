"""Loading the library that talks with iPhones: with as little of it as can be."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.wire.lockdown import NOT_USED

if TYPE_CHECKING:
    from pathlib import Path

LOAD = """
import sys
from agent.wire import lockdown
lockdown.load()
"""


def run(script: str, *, paths: str = "") -> str:
    """What a process of its own prints; it has what no test before it has loaded."""
    begin = f"import sys; sys.path.insert(0, {paths!r})\n" if paths else ""
    done = subprocess.run(
        [sys.executable, "-c", begin + script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_loaded_without_what_it_has_for_other_things() -> None:
    found = run(
        LOAD
        + """
print(*[name for name in ("questionary", "prompt_toolkit", "requests", "urllib3",
                          "charset_normalizer") if name in sys.modules])
"""
    )
    assert found == ""


@pytest.mark.parametrize("name", NOT_USED)
def test_whoever_wants_those_has_them_before_and_after(name: str) -> None:
    assert run(LOAD + f"import {name}; print({name}.__spec__.name)") == name
    before = f"import {name}; had = {name}\n"
    assert run(before + LOAD + f"import {name}; print({name} is had)") == "True"


def test_a_library_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    library = tmp_path / "pymobiledevice3"
    library.mkdir()
    (library / "__init__.py").write_text("raise ImportError('its wheel is of another machine')\n")
    script = """
from agent.wire import lockdown
try:
    lockdown.load()
except ImportError as error:
    print(error)
"""
    assert run(script, paths=str(tmp_path)) == "its wheel is of another machine"
