"""The pages, and what stands on them: fenced blocks, with the marks above them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(
    r"((?:^ *<!-- \w+:[^\n]* -->\n)*)^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r"<!-- (\w+): (.*?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    number: int
    """Among those of its language on its page."""
    text: str
    marks: dict[str, str]
    """Of `<!-- KEY: VALUE -->` lines right above it."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{name_of(self.page)}, block {self.number}"


def name_of(page: Path) -> str:
    """Its path in the tree."""
    return str(page.relative_to(ROOT))


def blocks(language: str, page: Path | None = None) -> list[Block]:
    """All fenced blocks in that language: of all pages, or of one."""
    found = []
    for each in PAGES if page is None else [page]:
        matching = [match for match in FENCE.finditer(each.read_text()) if match[3] == language]
        found += [
            Block(each, number, textwrap.dedent(match[4]), dict(_MARK.findall(match[1])))
            for number, match in enumerate(matching)
        ]
    return found
