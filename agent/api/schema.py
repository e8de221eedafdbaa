"""JSON Schema of typed rows: of the keys their types, and the docstrings as descriptions.

For the OpenAPI document only, which is made when somebody asks for it. Docstrings of keys are no
part of a class at run time: they are read from its source.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from enum import StrEnum
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

if TYPE_CHECKING:
    from agent.service.rows import Also

Schema = dict[str, Any]
_PLAIN: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


class Schemas:
    """The named parts of a document: each row that was asked for, and what those refer to."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:  # noqa: PLR0911 - a table of kinds
        """The schema of a type; a row's is a reference to where it is named."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            also: Also = kind.__metadata__[0]
            return self.of(arguments[0]) | also.keywords
        if origin is NotRequired:
            return self.of(arguments[0])
        if origin in {Union, types.UnionType}:
            return self._one_of(arguments)
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin is list:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if is_typeddict(kind):
            return self._row(kind)
        if kind is object:
            return {}
        if issubclass(kind, StrEnum):
            return {"type": "string", "enum": [str(each) for each in kind]}
        return {"type": _PLAIN[kind]}

    def put(self, name: str, schema: Schema) -> Schema:
        """Name a schema; the reference to it."""
        self.named[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def _one_of(self, kinds: tuple[Any, ...]) -> Schema:
        some = [self.of(each) for each in kinds if each is not types.NoneType]
        if len(some) == len(kinds):
            return {"oneOf": some}
        (one,) = some
        if "type" not in one:
            return {"oneOf": [one, {"type": "null"}]}
        null = {"type": [one["type"], "null"]}
        return one | null | ({"enum": [*one["enum"], None]} if "enum" in one else {})

    def _row(self, kind: Any) -> Schema:
        name = kind.__name__.removesuffix("Row")
        if name not in self.named:
            self.named[name] = {}  # one that refers to itself finds it
            said = _said(kind)
            hints = get_type_hints(kind, include_extras=True)
            self.named[name] = {
                "type": "object",
                **({"description": inspect.cleandoc(kind.__doc__)} if kind.__doc__ else {}),
                "properties": {
                    key: _described(self.of(hints[key]), said.get(key)) for key in hints
                },
                "required": [
                    key
                    for key in hints
                    if key in kind.__required_keys__ and get_origin(hints[key]) is not NotRequired
                ],
                "additionalProperties": False,
            }
        return {"$ref": f"#/components/schemas/{name}"}


def properties(kind: Any, schemas: Schemas) -> dict[str, Schema]:
    """The schemas of a row's keys, for what is no JSON object: a query."""
    name = kind.__name__.removesuffix("Row")
    schemas.of(kind)
    found: dict[str, Schema] = schemas.named.pop(name)["properties"]
    return found


def _described(schema: Schema, text: str | None) -> Schema:
    return schema | {"description": text} if text else schema


def _said(kind: Any) -> dict[str, str]:
    """What stands below each key of the row, those of the rows it is made from included."""
    module = sys.modules[kind.__module__]
    return _below(module, kind.__name__)


def _below(module: types.ModuleType, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    definition = _classes(module).get(name)
    if definition is None:
        return found
    for base in definition.bases:
        if isinstance(base, ast.Name) and (kind := getattr(module, base.id, None)) is not None:
            found |= _below(sys.modules[kind.__module__], base.id)
    for key, text in zip(definition.body, definition.body[1:], strict=False):
        match key, text:
            case (
                ast.AnnAssign(target=ast.Name(id=id_)),
                ast.Expr(value=ast.Constant(value=str(value))),
            ):
                found[id_] = " ".join(value.split())
    return found


@cache
def _classes(module: types.ModuleType) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(module))
    return {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
