"""The page: aligned, wrapped, and with the verdict at its end."""

from __future__ import annotations

import json

import pytest

from agent.doctor.finding import Finding, Section, Verdict
from agent.doctor.report import as_json, header, page, verdict
from tests.doctor.samples import facts

A, B = Section("First"), Section("Second")
FINDINGS = [
    A.ok("one", "is well"),
    A.warn("another", "is not quite well, which takes a few more words to say", "do this and that"),
    B.fail(
        "a name that is much too long", "fails at /a/path/that/cannot/be/broken/anywhere", "run"
    ),
]


def test_a_page() -> None:
    assert page("head", FINDINGS, 60) == (
        "head\n"
        "\n"
        "First\n"
        "  ok    one      is well\n"
        "  warn  another  is not quite well, which takes a few more\n"
        "                 words to say\n"
        "                 -> do this and that\n"
        "\n"
        "Second\n"
        "  fail  a name that is much too long\n"
        "                 fails at\n"
        "                 /a/path/that/cannot/be/broken/anywhere\n"
        "                 -> run\n"
        "\n"
        "1 failure and 1 warning among 3 checks."
    )


def test_colours_take_no_room() -> None:
    def paint(mark: Verdict | None, text: str) -> str:
        return f"<{mark or 'bold'}>{text}</>"

    shown = page("head", FINDINGS, 60, paint)
    assert "<bold>First</>\n  <ok>ok  </>  one      is well\n" in shown
    assert shown.endswith("<fail>1 failure and 1 warning among 3 checks.</>")


def test_what_a_phone_calls_itself_cannot_steer_the_terminal() -> None:
    shown = page("head", [A.warn("a\x1b[2Jb", "c\nd\x07\u202ee", "f\rg")])
    assert shown.splitlines()[3:5] == ["  warn  a?[2Jb  c?d??e", "                -> f?g"]


def test_a_narrow_terminal_still_gets_words() -> None:
    assert "is not quite well" in page("head", FINDINGS, 10)


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        (FINDINGS[:1], "All 1 checks are well."),
        (FINDINGS[:2], "1 warning among 2 checks."),
        (FINDINGS[1:2] * 2, "2 warnings among 2 checks."),
        (FINDINGS[2:] * 2, "2 failures among 2 checks."),
    ],
)
def test_the_verdict(findings: list[Finding], said: str) -> None:
    assert verdict(findings) == said


def test_json() -> None:
    answered = json.loads(json.dumps(as_json(FINDINGS, agent_runs=True)))
    assert (answered["verdict"], answered["agent_runs"]) == ("fail", True)
    assert answered["findings"][0] == {
        "section": "First",
        "check": "one",
        "verdict": "ok",
        "found": "is well",
        "remedy": "",
    }


def test_the_first_line_says_what_was_looked_at() -> None:
    line = header(facts())
    assert line.endswith(" on rack1, 2027-01-15 08:00 UTC, /etc/device-agent/agent.toml")
    assert line.startswith("device-agent ")
