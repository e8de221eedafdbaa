"""What must be so of every reason, wherever it is told."""

from __future__ import annotations

from agent.reasons import ReasonCode


def check(text: str, code: str) -> None:
    """A reason has a code of the list; where there is none, there is no code either."""
    assert bool(text) == bool(code), (text, code)
    assert not code or code in set(ReasonCode), (text, code)
