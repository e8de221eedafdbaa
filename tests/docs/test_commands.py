"""Every command on the pages is run: on the desk, or by the test that its mark names."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.appium.server import DISCOVERY
from tests.docs.desk import Desk
from tests.docs.pages import PAGES, ROOT, Block, blocks, name_of
from tests.lab.test_by_hand import PAGE as LAB_PAGE

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS = {"ci": (".ci/run", ".ci/smoke")}
"""Blocks whose commands stand, each by itself, in a script or a test; by their mark."""
_PACKAGING = "".join(path.read_text() for path in (ROOT / "tests" / "packaging").glob("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
async def test_commands_do_what_the_page_says(page: Path, place: Path, tmp_path: Path) -> None:
    here = [block for block in blocks("sh", page) if "run" not in block.marks]
    if not here:
        return
    if shutil.which("curl") is None:
        assert not os.environ.get("CI"), "CI must run this: it needs Debian's package curl"
        pytest.skip("needs Debian's package curl")
    desk = Desk(place, tmp_path)
    async with desk.running():
        for block in here:
            await desk.run(block)


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("sh") if "run" in block.marks],
    ids=lambda block: block.name,
)
def test_what_cannot_be_run_on_a_desk_is_run_elsewhere(block: Block) -> None:
    mark = block.marks["run"]
    if mark == "appium":
        assert shlex.split(block.text) == ["appium", DISCOVERY]
        return
    if mark == "lab":
        assert block.page == LAB_PAGE
        return
    if mark not in SCRIPTS:
        assert f'commands("{mark}")' in _PACKAGING
        return
    scripts = "".join((ROOT / name).read_text() for name in SCRIPTS[mark])
    for command in filter(None, bare(block)):
        assert command in scripts, f"{SCRIPTS[mark]} do not run {command!r}"


@pytest.mark.parametrize(
    "mark", sorted({block.marks.get("run", "") for block in blocks("sh")} - {"", *SCRIPTS})
)
def test_one_mark_means_one_set_of_commands(mark: str) -> None:
    marked = [block for block in blocks("sh") if block.marks.get("run") == mark]
    assert all(bare(block) == bare(marked[0]) for block in marked), [b.name for b in marked]


def bare(block: Block) -> list[str]:
    """Its commands, without what is said about them."""
    return [line.partition("  #")[0].strip() for line in block.text.splitlines()]


def test_commands_stand_in_blocks_that_are_run() -> None:
    others = [block.name for language in ("bash", "shell", "console") for block in blocks(language)]
    assert others == []
    assert len(blocks("sh")) > 15
