"""Mistakes in an operator's words, at their places; pydantic's errors as such."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.config.shape import all_sections
from agent.config.values import TOKEN, toml_type
from agent.errors import Problem
from agent.text import meant_key, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from agent.config.documents import Documents
    from agent.config.places import KeyPath


QUOTE: Final = 60
"""Characters of what a file says, in a message."""


class Mistake(NamedTuple):
    """What is wrong with the value at `path`, which may be missing."""

    path: KeyPath
    message: str
    about: KeyPath | None = None
    """What the message names, where that is not the path."""


def placed(mistakes: Iterable[Mistake], document: Documents) -> tuple[Problem, ...]:
    """As problems, each naming what it is about, in the files' order and none twice."""
    problems = {
        Problem(
            *document.place(path),
            _subject(*_home(document, path if about is None else about)) + message,
            _key(path if about is None else about),
        )
        for path, message, about in mistakes
    }
    return in_order(problems, document)


def unplaced(mistakes: Iterable[Mistake], data: dict[str, Any], file: str) -> tuple[Problem, ...]:
    """As problems of what is in no file; `file` is what that is."""
    return tuple(
        Problem(
            *(file, 1, 1),
            _subject(data, path if about is None else about) + message,
            _key(path if about is None else about),
        )
        for path, message, about in mistakes
    )


def _home(document: Documents, path: KeyPath) -> tuple[dict[str, Any], KeyPath]:
    home, inside = document.home(path)
    return home.data, inside


def in_order(problems: Iterable[Problem], document: Documents) -> tuple[Problem, ...]:
    """The operator's file first, each from top to bottom."""

    def key(each: Problem) -> tuple[bool, int, int, str]:
        return each.file != document.file, each.line, each.column, each.message

    return tuple(sorted(problems, key=key))


def _subject(data: dict[str, Any], path: KeyPath) -> str:
    """`hold.offline: `, `webhook 'Board' url: `, `device 'ce09…' tags: `."""
    shown = _key(path)
    if len(path) > 1 and isinstance(path[1], int):
        kind, key = {"webhooks": ("webhook", "name"), "devices": ("device", "udid")}[str(path[0])]
        entry = _value(data, path[:2])
        name = entry.get(key) if isinstance(entry, dict) else None
        who = f"'{printable(name, QUOTE)}'" if isinstance(name, str) and name else path[1] + 1
        shown = f"{kind} {who} {shown}".rstrip()
    return f"{shown}: " if shown else ""


def _key(path: KeyPath) -> str:
    """`hold.offline`; of one of several tables, inside of it: `url`."""
    parts = [part for part in path if isinstance(part, str)]
    in_entry = len(path) > 1 and isinstance(path[1], int)
    return ".".join(parts[1:] if in_entry else parts)


def _value(document: object, path: KeyPath) -> object:
    """What stands at the path, or at the deepest part of it that there is."""
    for part in path:
        try:
            document = document[part]  # type: ignore[index]  # that it may not be one is the point
        except (KeyError, IndexError, TypeError):
            break
    return document


_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean (true or false)",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BROKEN_RULES = {
    "value_error": "{error}",
    "missing": "this key is missing",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "greater_than": "must be more than {gt:g}",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def translated(document: dict[str, Any], error: ErrorDetails) -> Mistake:
    """One of pydantic's errors in an operator's words; never with a value that may be secret."""
    kind, context = error["type"], error.get("ctx", {})
    path, about = _paths(error["loc"])
    if kind == "extra_forbidden":
        return Mistake(path, _unknown_key(error["loc"]), path[:-1])
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return Mistake((*path, "type"), 'must be "basic" or "bearer"')
    value = _value(document, path)
    if kind in {"enum", "literal_error"}:
        message = _not_one_of(value, re.findall("'([^']*)'", context["expected"]))
    elif kind == "float_type" and type(value) is int:
        message = _BROKEN_RULES["finite_number"]  # an integer that no float can hold
    elif kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, got {toml_type(value)}"
        if path in {("webhooks",), ("devices",)}:
            message = f"expected an array of tables, got {toml_type(value)}: write [[{path[0]}]]"
    else:
        message = _BROKEN_RULES[kind].format(**context)
    return Mistake(path, message, about)


def _paths(loc: tuple[int | str, ...]) -> tuple[KeyPath, KeyPath]:
    """The document's path of what pydantic calls it, and as much of it as a message may name."""
    path = tuple(part for part in loc if part != "[key]")
    if path[2:3] == ("auth",):
        path = (*path[:3], *path[4:])  # the type that was chosen stands between
    if path[2:3] == ("headers",) and not all(TOKEN.fullmatch(str(name)) for name in path[3:]):
        return path, path[:3]  # a header that was pasted whole
    if path[2:3] == ("body",):
        return path, path[:3]  # the message says where in it
    return path, path


def _not_one_of(value: object, options: list[str]) -> str:
    names = ", ".join(f'"{option}"' for option in options)
    if not isinstance(value, str):
        return f"expected one of {names}, got {toml_type(value)}"
    return f"'{printable(value, QUOTE)}' is not one of {names}" + _did_you_mean(value, options)


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    shape = tuple(part for part in loc[:-1] if isinstance(part, str))
    key = str(loc[-1])
    sections = all_sections()
    message = f"unknown key '{printable(key, QUOTE)}'"
    if meant := _did_you_mean(key, sections[shape].model_fields):
        return message + meant
    inside = {
        at[1]
        for at, section in sections.items()
        if at[:1] == shape and at[1:] and key in section.model_fields
    }
    if inside:
        return f"{message} (it belongs in {' or '.join(sorted(inside))})"
    homes = [at for at, section in sections.items() if len(at) == 1 and key in section.model_fields]
    if homes and len(shape) <= 1:
        names = [f"[[{at}]]" if at in {"webhooks", "devices"} else f"[{at}]" for (at,) in homes]
        return f"{message} (it belongs in {' or '.join(names)})"
    return message


def _did_you_mean(text: str, options: Iterable[str]) -> str:
    meant = meant_key(text, options)
    return f" (did you mean '{meant}'?)" if meant else ""
