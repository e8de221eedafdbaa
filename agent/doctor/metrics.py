"""Single values of what `/metrics` says (Prometheus's text format). Pure."""

from __future__ import annotations

import re


def number(text: str, name: str, **labels: str) -> float | None:
    """The value of the first sample with that name and (at least) these labels; None: none."""
    for line in text.split("\n"):
        match = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? ([^ ]+)(?: \d+)?", line)
        if match is None:
            continue
        found = dict(re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', match[1] or ""))
        if all(found.get(key) == _escaped(value) for key, value in labels.items()):
            return float(match[2])
    return None


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
