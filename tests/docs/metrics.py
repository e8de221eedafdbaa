"""Write the table of metrics into docs/monitoring.md, between its markers.

python -m tests.docs.metrics          rewrites docs/monitoring.md
"""

from __future__ import annotations

from pathlib import Path

from agent.service.metrics import METRICS

BEGIN, END = "<!-- metrics: made by tests/docs/metrics.py -->", "<!-- /metrics -->"
PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"


def rewritten(page: str) -> str:
    """The page with its table made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        name = metric.name + ("_total" if metric.kind == "counter" else "")
        labels = f"{', '.join(metric.labels)} " if metric.labels else ""
        lines.append(f"| `{name}` | {metric.kind} | {labels}| {metric.text} |")
    return f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
