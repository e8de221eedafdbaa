"""Write the table of reason codes into docs/reasons.md, between its markers.

python -m tests.docs.reasons          rewrites docs/reasons.md
"""

from __future__ import annotations

from agent.reasons import ReasonCode
from tests.docs.pages import ROOT

BEGIN, END = "<!-- reasons: made by tests/docs/reasons.py -->", "<!-- /reasons -->"
PAGE = ROOT / "docs" / "reasons.md"


def rewritten(page: str) -> str:
    """The page with its table made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = ["| code | it means, and what to do |", "|---|---|"]
    lines += [f"| `{code}` | {code.meaning} |" for code in ReasonCode]
    return f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
