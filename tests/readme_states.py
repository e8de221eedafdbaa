"""Draw the state table and diagram of agent/track/derive.py into README.md, between its markers.

python -m tests.readme_states          rewrites README.md
"""

from __future__ import annotations

from itertools import groupby, product
from pathlib import Path

from agent.model import Bridge, DeviceState, Presence, Usage
from agent.track.derive import CALLS_BACK, TABLE, Outcome

BEGIN, END = "<!-- states: made by tests/readme_states.py -->", "<!-- /states -->"


def block() -> str:
    """The generated part of the README, markers included."""
    return f"{BEGIN}\n\n{_diagram()}\n\n{_table()}\n\n{END}"


def _diagram() -> str:
    """Every transition that there is; dashed ones call nobody back."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> unplugged: listed, never seen"]
    for previous, state in product(DeviceState, DeviceState):
        if previous is state:
            continue
        label = "callback" if (previous, state) in CALLS_BACK else "no callback"
        lines.append(f"    {previous} --> {state}: {label}")
    lines.append("```")
    return "\n".join(lines)


def _table() -> str:
    """The rows of TABLE, readings that make no difference folded into "any"."""
    lines = ["| on USB (udev) | adb / usbmux | usage | state |", "|---|---|---|---|"]
    for presence in Presence:
        for bridges, usages, outcome in _folded(presence):
            lines.append(f"| {presence} | {bridges} | {usages} | {outcome} |")
    return "\n".join(lines)


def _folded(presence: Presence) -> list[tuple[str, str, Outcome]]:
    rows = []
    for bridge in Bridge:
        by_usage = [(usage, TABLE[presence, bridge, usage]) for usage in Usage]
        for outcome, group in groupby(by_usage, key=lambda pair: pair[1]):
            usages = [str(usage) for usage, _ in group]
            text = "any" if len(usages) == len(Usage) else " or ".join(usages)
            rows.append((bridge, text, outcome))
    folded: list[tuple[list[Bridge], str, Outcome]] = []
    for bridge, text, outcome in rows:
        if folded and folded[-1][1:] == (text, outcome):
            folded[-1][0].append(bridge)
        else:
            folded.append(([bridge], text, outcome))
    return [
        ("any" if len(bridges) == len(Bridge) else " or ".join(map(str, bridges)), text, outcome)
        for bridges, text, outcome in folded
    ]


def rewritten(readme: str) -> str:
    """The README with its generated part made anew."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + block() + tail


if __name__ == "__main__":
    path = Path(__file__).parent.parent / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
