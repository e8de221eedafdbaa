"""One line of the doctor's page: what was looked at, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


_ORDER = tuple(Verdict)
EXIT_CODES = {Verdict.OK: 0, Verdict.WARN: 1, Verdict.FAIL: 2}
"""Of the command, by the worst finding: as monitoring plugins have them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `remedy` is there unless all is well."""

    section: str
    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Makes the findings of one heading."""

    name: str

    def ok(self, check: str, found: str) -> Finding:
        """All is well."""
        return Finding(self.name, check, Verdict.OK, found)

    def warn(self, check: str, found: str, remedy: str) -> Finding:
        """It works, and may come to fail."""
        return Finding(self.name, check, Verdict.WARN, found, remedy)

    def fail(self, check: str, found: str, remedy: str) -> Finding:
        """It does not work."""
        return Finding(self.name, check, Verdict.FAIL, found, remedy)


def worst(findings: Iterable[Finding]) -> Verdict:
    """Of all of them; ok of none."""
    return max((each.verdict for each in findings), key=_ORDER.index, default=Verdict.OK)
