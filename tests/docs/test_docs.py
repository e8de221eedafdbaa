"""The pages say what is so: their TOML loads, and their links lead somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.reasons import ReasonCode
from tests.docs.pages import FENCE, PAGES, ROOT, Block, blocks, name_of
from tests.docs.reasons import PAGE, rewritten
from tests.usage.sample import MODULE, SAMPLE

if TYPE_CHECKING:
    from pathlib import Path

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    result: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        number = 0
        while (found := f"{slug}-{number}" if number else slug) in result:
            number += 1
        result.add(found)
    return result


def test_the_pages_are_found() -> None:
    names = {name_of(page) for page in PAGES}
    assert {"README.md", "docs/install.md", "docs/usage/README.md", "docs/usage/wda.md"} <= names
    assert len(blocks("toml")) > 6


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.name)
def test_every_toml_block_is_a_configuration(block: Block) -> None:
    """As it stands: no key is needed, so a part of a file is one."""
    config = parse(block.text, block.name)
    assert config.model_fields_set, "it says something"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.resolve().is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_usage_page_is_linked_and_says_the_four_things() -> None:
    overview = (ROOT / "docs" / "usage" / "README.md").read_text()
    for page in (ROOT / "docs" / "usage").glob("*.md"):
        if page.name != "README.md":
            assert f"({page.name})" in overview
            said = anchors(page)
            assert {"what-to-configure", "what-it-costs", "what-it-cannot-see"} <= said, page.name
            assert "see-it-work" in said, page.name


def test_the_page_on_reasons_has_all_codes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rewritten(page), "run: python -m tests.docs.reasons"
    assert len(re.findall(r"^\| `\w+` \| \w.*[.?] \|$", page, re.MULTILINE)) == len(ReasonCode)


def test_the_page_on_plugins_shows_the_package_that_is_tested() -> None:
    page = ROOT / "docs" / "usage" / "plugins.md"
    (block,) = blocks("python", page)
    assert block.text == MODULE.read_text()
    project = re.search(r"```text\n# pyproject.toml[^\n]*\n(.*?)```", page.read_text(), re.DOTALL)
    assert project is not None
    assert project[1] in (SAMPLE / "pyproject.toml").read_text()
