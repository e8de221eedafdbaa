"""The API's page names every code of an error, with its status."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from agent.api import errors
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROW = re.compile(r"\| (\d{3}) \| ((?:`[a-z_]+`(?:, )?)+) \|")


def answered() -> Iterator[tuple[int, str]]:
    """What the handlers answer by themselves, and what the agent's errors become."""
    yield from ((status, kind.code) for kind, status in errors._STATUSES)
    for path in (ROOT / "agent" / "api").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="error_answer"),
                    args=[ast.Constant(value=int(status)), ast.Constant(value=str(code)), *_],
                ):
                    yield status, code
                case ast.Call(
                    func=ast.Name(id="_unauthorised"), args=[ast.Constant(value=str(code)), *_]
                ):
                    yield 401, code


def test_every_code_of_an_error_is_on_the_page() -> None:
    told: defaultdict[int, set[str]] = defaultdict(set)
    for status, codes in _ROW.findall((ROOT / "docs" / "api.md").read_text()):
        told[int(status)] |= set(re.findall(r"[a-z_]+", codes))
    found = set(answered())
    assert len(found) > 30, "the search has lost its way"
    assert [each for each in sorted(found) if each[1] not in told[each[0]]] == []
