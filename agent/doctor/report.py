"""The doctor's page, for people and as JSON. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.doctor.finding import Verdict, worst
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.doctor.facts import Facts
    from agent.doctor.finding import Finding

WIDEST = 16
"""Columns of a check's name at most; a longer one has a line of its own."""
LONGEST = 4000
"""Characters of what was found, and of what to do."""
NARROWEST = 40
"""Columns that the text keeps, however narrow the terminal is."""


def header(facts: Facts) -> str:
    """Which version looked at what, where and when: the page will be pasted elsewhere."""
    moment = datetime.fromtimestamp(facts.host.now, UTC)
    return (
        f"device-agent {__version__} on {facts.host.name}, {moment:%Y-%m-%d %H:%M} UTC, "
        f"{facts.config.path}"
    )


def _plain(_: Verdict | None, text: str) -> str:
    return text


def page(
    header: str,
    findings: Sequence[Finding],
    width: int = 100,
    paint: Callable[[Verdict | None, str], str] = _plain,
) -> str:
    """A line per finding under its heading, what to do below it, and the verdict at the end.

    Args:
        header: the first line.
        findings: in order; those of one section stand together.
        width: of the terminal.
        paint: colours a verdict's text; a heading's with None.
    """
    fitting = [len(each.check) for each in findings if len(each.check) <= WIDEST]
    names = max(fitting, default=0)
    indent = " " * (2 + 4 + 2 + names + 2)
    room = max(NARROWEST, width - len(indent))
    lines = [_clean(header)]
    for section, members in groupby(findings, key=lambda each: each.section):
        lines += ["", paint(None, section)]
        for each in members:
            mark = paint(each.verdict, f"{each.verdict:<4}")
            first, *rest = _wrapped(each.found, room) or [""]
            name = _clean(each.check)
            if len(name) > names:
                lines.append(f"  {mark}  {name}")
                rest = [first, *rest]
            else:
                lines.append(f"  {mark}  {name:<{names}}  {first}")
            lines += [indent + line for line in rest]
            for number, line in enumerate(_wrapped(each.remedy, room - 3)):
                lines.append(indent + ("-> " if number == 0 else "   ") + line)
    return "\n".join([*lines, "", verdict(findings, paint)])


def _wrapped(text: str, room: int) -> list[str]:
    # A path or a URL that is broken cannot be copied.
    return textwrap.wrap(_clean(text), room, break_long_words=False, break_on_hyphens=False)


def _clean(text: str) -> str:
    """Printable: phones name themselves, and this goes to a terminal."""
    return printable(text, LONGEST)


def verdict(
    findings: Sequence[Finding], paint: Callable[[Verdict | None, str], str] = _plain
) -> str:
    """All of it in one line."""
    counts = Counter(each.verdict for each in findings)
    bad = worst(findings)
    if bad is Verdict.OK:
        return paint(bad, f"All {len(findings)} checks are well.")
    parts = [
        f"{counts[each]} {word if counts[each] == 1 else words}"
        for each, word, words in (
            (Verdict.FAIL, "failure", "failures"),
            (Verdict.WARN, "warning", "warnings"),
        )
        if counts[each]
    ]
    return paint(bad, f"{' and '.join(parts)} among {len(findings)} checks.")


def as_json(findings: Sequence[Finding], *, agent_runs: bool) -> dict[str, Any]:
    """The same for programs."""
    return {
        "verdict": str(worst(findings)),
        "agent_runs": agent_runs,
        "findings": [asdict(each) for each in findings],
    }
