"""Types of the API's rows for the page's scripts, made from the OpenAPI document.

`python -m tests.page.api_types FILE` writes them, as TypeScript declarations of a namespace `Api`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agent.api.openapi import document
from agent.api.routes import MATTERS

Schema = dict[str, Any]
_PLAIN = {
    "string": "string",
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "null": "null",
}


def declarations(schemas: dict[str, Schema]) -> str:
    """All of them, by name."""
    parts = [f"  type {name} = {_type(schema)};\n" for name, schema in sorted(schemas.items())]
    return f"declare namespace Api {{\n{''.join(parts)}}}\n"


def _type(schema: Schema) -> str:  # noqa: PLR0911 - a table of kinds
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    for some in ("oneOf", "anyOf"):
        if some in schema:
            return f"({' | '.join(_type(each) for each in schema[some])})"
    kind = schema.get("type")
    if isinstance(kind, list):
        return f"({' | '.join(_type({**schema, 'type': each}) for each in kind)})"
    if kind == "array":
        return f"({_type(schema['items']) if 'items' in schema else 'unknown'})[]"
    if kind == "object":
        return _object(schema)
    return _PLAIN.get(str(kind), "unknown")


def _object(schema: Schema) -> str:
    needed = schema.get("required", ())
    keys = [
        f"{json.dumps(key)}{'' if key in needed else '?'}: {_type(each)}"
        for key, each in schema.get("properties", {}).items()
    ]
    if not keys:
        more = schema.get("additionalProperties")
        return f"Record<string, {_type(more) if isinstance(more, dict) else 'unknown'}>"
    return f"{{ {'; '.join(keys)} }}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(declarations(document(MATTERS)["components"]["schemas"]))
