"""Keeps schemathesis from what would take a day, or never end: all of it is tested elsewhere."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(
    _: schemathesis.HookContext, case: schemathesis.Case[Any], __: dict[str, Any]
) -> None:
    """No waiting in a queue, no connection that stays open."""
    body = case.body
    if isinstance(body, dict):
        if body.get("tie") is True:
            body["tie"] = False
        wait = body.get("wait")
        if isinstance(wait, int | float):
            body["wait"] = min(wait, 0)
