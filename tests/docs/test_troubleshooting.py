"""What the page on troubleshooting quotes is what is really said."""

from __future__ import annotations

import re
from dataclasses import replace

from agent.doctor.judge import judge
from agent.doctor.judges.phones import REMEDIES
from agent.doctor.report import page
from tests.docs.pages import ROOT
from tests.doctor.samples import FLEET, STATUS, facts, status
from tests.doctor.test_judges import battery, row

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
# Texts in the sources go on over line ends.
SOURCES = re.sub(
    r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in (ROOT / "agent").rglob("*.py"))
)


def table(heading: str) -> list[str]:
    """The first column below a heading, without the table's own head."""
    (part,) = re.findall(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| ([^|]*?) \|", part, re.MULTILINE)[1:]


def test_every_log_line_is_one() -> None:
    names = [name for cell in table("What the log says") for name in re.findall(r"`(.*?)`", cell)]
    assert len(names) > 10
    for name in names:
        source = f'"{name}"' in SOURCES or f'"{name.partition(".")[2]}"' in SOURCES
        assert source, name


def test_every_reason_is_one_and_has_a_remedy() -> None:
    reasons = [cell.strip("*") for cell in table("A phone is offline")]
    assert len(reasons) > 6
    for reason in reasons:
        assert reason in SOURCES
        assert any(word in reason for word, _ in REMEDIES), reason


def test_what_a_webhook_or_a_start_says_is_said() -> None:
    quoted = [cell for name in ("No callbacks", "The agent does not start") for cell in table(name)]
    words = [each for cell in quoted for each in re.findall(r"\*([^*]+)\*", cell)]
    assert len(words) > 8
    for word in words:
        assert word in SOURCES or word == "signature invalid", word


def test_what_the_api_says_is_said() -> None:
    codes = [code for cell in table("The API refuses") for code in re.findall(r"\*(\w+)\*", cell)]
    assert len(codes) > 6
    for code in codes:
        assert f'"{code}"' in SOURCES, code


def test_the_parts_of_the_doctor_are_its_headings() -> None:
    usage = [{"source": "wda", "reason": "", "targets": []}]
    told = status(**{**STATUS, "usage": usage})
    agent = replace(told, devices=[row(battery=battery(80, 30.0))])
    shown = page("", judge(facts(agent=agent, fleet=FLEET)))
    headings = re.findall(r"^(\S.*)\n  ", shown, re.MULTILINE)
    assert table("First: the doctor") == headings
