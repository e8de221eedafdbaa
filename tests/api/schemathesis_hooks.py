"""Keeps schemathesis from what would take a day, or never end: all of it is tested elsewhere."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:]{8}([.][0-9]{1,6})?(Z|[+-][0-9:]{5}))?$")
_AGO = r"[1-9][0-9]{0,3}(d([0-9]{1,2}h)?|h([0-9]{1,2}m)?|m([0-9]{1,2}s)?|s)$"
_MOMENT = re.compile(f"{_AGO}|{_DATE.pattern}")


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
    query = case.query
    if isinstance(query, dict):
        # A range that is none, or is to come, is refused, and no schema can say so.
        if _DATE.match(str(query.get("since", ""))):
            query["since"] = "1d"
        if _MOMENT.match(str(query.get("until", ""))):
            del query["until"]
