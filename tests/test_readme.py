"""The README says what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_states_are_drawn_from_the_tables() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme_states.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    readme = (ROOT / "README.md").read_text()
    assert readme == tool.rewritten(readme), "run: python tools/readme_states.py"
