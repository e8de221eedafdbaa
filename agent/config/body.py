"""The body of `payload = "custom"`: any JSON value, with placeholders in its texts. Pure.

`{deviceName}` is what the callback is about; `{deviceName:80}` at most 80 characters of it, on one
line; `{{` and `}}` are braces. `{file:PATH}`, `{env:NAME}` and `{credential:NAME}` are secrets: in
the body stands where one is, and it is put in when that is sent.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from agent.config.secret import HoldsSecrets, Kind, Secret
from agent.config.values import MAX_ID, toml_type
from agent.text import meant_key, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config.places import KeyPath

PLACEHOLDERS: Final = (
    *("creationTime", "eventType", "eventActivity", "eventDescription"),
    *("deviceUdid", "deviceName", "orgId", "webhookId", "webhookName"),
    *("previousState", "reason", "holder", "platform", "deviceModel", "host", "portPath", "tags"),
    *("reasonCode", "causeId"),
)
"""Their names: the keys of `payload = "extended"`."""
MAX_SIZE: Final = 32 * 1024
"""Bytes of the body as JSON: more than any of the services in docs/notify.md takes."""
MAX_DEPTH: Final = 32
"""Tables and arrays in each other."""
MAX_HOLES: Final = 256
"""Placeholders: each puts in a text of some length."""
_MOST: Final = 9999
_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z0-9_. -]{0,40}")
_PLACES: Final = {
    Kind.FILE: "a path",
    Kind.ENV: "the name of an environment variable",
    Kind.CREDENTIAL: "the name of a systemd credential, which is no path",
}
_QUOTE: Final = 60
_NOT_FINITE: Final = "JSON has no inf or nan"
_NULL: Final = "TOML has no null: leave it out"


class Hole(NamedTuple):
    """A placeholder."""

    name: str
    most: int | None
    """Characters, on one line; None: all of it, and as the type that it is."""


Piece: TypeAlias = str | Hole | Secret
"""What a text is made of."""


@dataclass(frozen=True, slots=True)
class Body(HoldsSecrets):
    """A body as configured; equal ones send the same."""

    text: str
    """As JSON, its placeholders as they are written."""
    base: str | None = None
    """From where relative files of secrets are looked for."""
    held: tuple[Secret, ...] = ()

    @property
    def value(self) -> Any:
        """The JSON value."""
        return json.loads(self.text)

    def texts(self) -> Iterator[tuple[KeyPath, str]]:
        """All texts in it, with their places."""
        return _texts(self.value)

    @classmethod
    def parse(cls, value: object, base: Path | None = None) -> Body:
        """From the file. Raises pydantic's ValidationError, with every mistake at its place."""
        if isinstance(value, cls):
            return value
        found = [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{error}", {"error": message}),
                loc=path,
                input=None,
            )
            for path, message in mistakes(value)
        ]
        if found:
            raise ValidationError.from_exception_data("body", found)
        held: dict[Secret, None] = {}
        for _, text in _texts(value):
            held |= dict.fromkeys(each for each in pieces(text, base) if isinstance(each, Secret))
        return cls(_json(value), None if base is None else str(base), tuple(held))


def pieces(text: str, base: Path | None = None) -> tuple[Piece, ...]:
    """What a text is made of. Raises ValueError, for operators."""
    found: list[Piece] = []
    end = 0
    literal = ""
    for match in _HOLE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        mark = match[0]
        if mark in {"{{", "}}"}:
            literal += mark[0]
            continue
        if match[1] is None:
            raise ValueError(f"a single {mark}: a brace that is meant is written {mark}{mark}")
        if literal:
            found.append(literal)
            literal = ""
        found.append(_placeholder(match[1], base))
    literal += text[end:]
    return (*found, literal) if literal else tuple(found)


def _placeholder(inside: str, base: Path | None) -> Piece:
    name, colon, more = inside.partition(":")
    if colon and name in _PLACES:
        try:
            return Secret.parse({name: more}, base)
        except ValueError:
            raise ValueError(f"behind {{{name}: stands {_PLACES[Kind(name)]}") from None
    if name not in PLACEHOLDERS:
        close = meant_key(name.strip(), PLACEHOLDERS)
        hint = f" (did you mean {{{close}}}?)" if close else "; a { that is meant is written {{"
        # What does not look like a name may be anything, a secret too.
        shown = f"{name}{':…' if colon else ''}" if _NAME.fullmatch(name) else "…"
        raise ValueError(f"unknown placeholder {{{shown}}}{hint}")
    if not colon:
        return Hole(name, None)
    if not (more.isascii() and more.isdigit() and 1 <= len(more) <= len(str(_MOST)) and int(more)):
        raise ValueError(
            f"behind {{{name}: stands how many characters of it are sent at most, 1 to {_MOST}: "
            f"{{{name}:80}}"
        )
    return Hole(name, int(more))


def mistakes(value: object) -> Iterator[tuple[KeyPath, str]]:
    """All that is wrong with a body, each at its place in it; the message names that place."""
    if deep := too_deep(value):
        yield deep, f"nested too deeply: at most {MAX_DEPTH} tables and arrays in each other"
        return
    found = list(_wrong(value, ()))
    for path, message in found:
        yield path, _at(path, message)
    if found:
        return
    size = len(_json(value).encode(errors="replace"))
    if size > MAX_SIZE:
        yield (), f"is {size} bytes long as JSON: at most {MAX_SIZE}"
    holes = sum(not isinstance(each, str) for _, text in _texts(value) for each in pieces(text))
    if holes > MAX_HOLES:
        yield (), f"has {holes} placeholders: at most {MAX_HOLES}"


def unwritable(value: object) -> Iterator[str]:
    """What of a body that came as JSON no TOML file can hold; or not as it was meant."""
    if too_deep(value):
        yield f"nested too deeply: at most {MAX_DEPTH} tables and arrays in each other"
        return
    for path, inner in _leaves(value, ()):
        if inner is None:
            yield _at(path, _NULL)
        elif isinstance(inner, float) and not math.isfinite(inner):
            yield _at(path, _NOT_FINITE)


def _wrong(  # noqa: C901 - a table of kinds
    value: object, path: KeyPath
) -> Iterator[tuple[KeyPath, str]]:
    for at, inner in _leaves(value, path, keys=True):
        match inner:
            case str():
                try:
                    pieces(inner)
                except ValueError as error:
                    yield at, str(error)
            case None:
                yield at, _NULL
            case bool():
                pass
            case int():
                if abs(inner) > MAX_ID:
                    yield at, f"an integer of a body is at most {MAX_ID}: write it as a text"
            case float():
                if not math.isfinite(inner):
                    yield at, _NOT_FINITE
            case _Key():
                yield at, "a key holds no { or }: placeholders stand in values"
            case _:
                yield at, f"JSON has no {toml_type(inner)[2:]}: write it as a text, in quotes"


class _Key(NamedTuple):
    """A key that cannot be."""

    name: str


def _leaves(value: object, path: KeyPath, *, keys: bool = False) -> Iterator[tuple[KeyPath, Any]]:
    """Whatever is no table or array, with its place; of `keys` those with braces."""
    match value:
        case dict():
            for key, inner in value.items():
                if keys and ("{" in key or "}" in key):
                    yield (*path, key), _Key(key)
                yield from _leaves(inner, (*path, key), keys=keys)
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _leaves(inner, (*path, index), keys=keys)
        case _:
            yield path, value


def _texts(value: object) -> Iterator[tuple[KeyPath, str]]:
    return ((path, leaf) for path, leaf in _leaves(value, ()) if isinstance(leaf, str))


def too_deep(value: object) -> KeyPath:
    """Where it is nested too deeply; (): nowhere. Without recursion."""
    waiting: list[tuple[KeyPath, object]] = [((), value)]
    while waiting:
        path, each = waiting.pop()
        if not isinstance(each, dict | list):
            continue
        if len(path) >= MAX_DEPTH:
            return path
        pairs = each.items() if isinstance(each, dict) else enumerate(each)
        waiting += [((*path, key), inner) for key, inner in pairs]
    return ()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _at(path: KeyPath, message: str) -> str:
    """`blocks[0].text: …`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    shown = printable("".join(parts).removeprefix("."), 2 * _QUOTE)
    return f"{shown}: {message}" if path else message
