"""Schemas say of a row what its types and docstrings say."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, NotRequired, TypedDict

from agent.api.schema import Schemas, properties
from agent.service.rows import Also, Time


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class BaseRow(TypedDict):
    """What both have."""

    name: str
    """Told of
    in two lines."""
    at: Time | None
    count: NotRequired[Annotated[int, Also(minimum=1)]]


class Loose(TypedDict, total=False):
    note: str


class PartRow(BaseRow, Loose):
    colour: Colour | None
    """Of the paint."""
    kind: Literal["a", "b"]
    others: list[BaseRow]
    words: dict[str, float]
    first: BaseRow | None
    whole: bool


def test_a_row_is_an_object_of_all_its_keys() -> None:
    schemas = Schemas()
    assert schemas.of(PartRow) == {"$ref": "#/components/schemas/Part"}
    base = {"$ref": "#/components/schemas/Base"}
    part = schemas.named["Part"]
    assert part["properties"] == {
        "name": {"type": "string", "description": "Told of in two lines."},
        "at": {"type": ["string", "null"], "format": "date-time"},
        "count": {"type": "integer", "minimum": 1},
        "note": {"type": "string"},
        "colour": {
            "type": ["string", "null"],
            "enum": ["red", "blue", None],
            "description": "Of the paint.",
        },
        "kind": {"type": "string", "enum": ["a", "b"]},
        "others": {"type": "array", "items": base},
        "words": {"type": "object", "additionalProperties": {"type": "number"}},
        "first": {"oneOf": [base, {"type": "null"}]},
        "whole": {"type": "boolean"},
    }
    assert set(part["required"]) == set(part["properties"]) - {"count", "note"}
    assert part["additionalProperties"] is False
    assert "description" not in part
    assert schemas.named["Base"]["description"] == "What both have."


def test_one_of_two_rows() -> None:
    schemas = Schemas()
    assert schemas.of(BaseRow | Loose) == {
        "oneOf": [{"$ref": "#/components/schemas/Base"}, {"$ref": "#/components/schemas/Loose"}]
    }


def test_a_query_has_keys_and_no_name() -> None:
    schemas = Schemas()
    assert properties(Loose, schemas) == {"note": {"type": "string"}}
    assert schemas.named == {}
