"""The JSON Schema of the file, for editors."""

from __future__ import annotations

from typing import Any

from agent.config.derived import Config
from agent.config.values import format_duration


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors; the rules that it cannot express are left out."""
    schema = _for_toml(Config.model_json_schema())
    return {**schema, "title": "device-agent configuration"}


def _for_toml(node: Any) -> Any:
    """No null, which TOML has not, and defaults as they are written."""
    if isinstance(node, list):
        return [_for_toml(each) for each in node]
    if not isinstance(node, dict):
        return node
    result = {key: _for_toml(value) for key, value in node.items() if key != "default"}
    choices = result.get("anyOf", [])
    if {"type": "null"} in choices:
        several = [choice for choice in choices if choice != {"type": "null"}]
        result["anyOf"] = several
        if len(several) == 1:
            del result["anyOf"]
            result |= {key: value for key, value in several[0].items() if key not in result}
    if (default := node.get("default")) is not None:
        # `default` as a property's own name does not occur among the keys.
        written = isinstance(default, float) and result.get("type") == "string"
        result["default"] = format_duration(default) if written else default
    return result
