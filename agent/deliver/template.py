"""The body of `payload = "custom"`, filled with what a callback is about. Pure.

A body is compiled once: to pieces of JSON as they stand, and to places between them. What is put in
is JSON by itself, or the inside of a JSON text: whatever a phone calls itself stays a text.

A secret is no part of a stored body. Where it belongs stands a mark: its place, between two control
characters as they never occur in JSON; `unsealed` puts it in when the body is sent.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.config.body import Hole, pieces
from agent.config.secret import Kind, Secret
from agent.errors import SecretError
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.config.body import Body

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
MARK: Final = b"\x01"
_SEALED: Final = re.compile(MARK + b"([a-z]+):([^\x01]*)" + MARK)


class _Place(NamedTuple):
    """Where something is put in."""

    hole: Hole
    inside: bool
    """Of a longer text; else it is the whole value, with its type."""


Template = tuple[str | _Place, ...]


@lru_cache(maxsize=256)
def compiled(body: Body) -> Template:
    """What it is made of."""
    base = None if body.base is None else Path(body.base)
    parts: list[str | _Place] = []
    _emit(body.value, base, parts)
    joined: list[str | _Place] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(last := joined[-1], str):
            joined[-1] = last + part
        else:
            joined.append(part)
    return tuple(joined)


def fill(body: Body, values: Mapping[str, object]) -> str:
    """The body as JSON, every placeholder replaced; `values` has them all."""
    parts = []
    for part in compiled(body):
        if isinstance(part, str):
            parts.append(part)
            continue
        hole, inside = part
        value = values[hole.name]
        if inside or hole.most is not None:
            text = _text(value)
            if hole.most is not None:
                text = printable(text, hole.most)
            encoded = _ENCODE(text)
            parts.append(encoded[1:-1] if inside else encoded)
        else:
            parts.append(_ENCODE(value))
    return "".join(parts)


def unsealed(body: bytes, values: Mapping[Secret, str], held: Collection[Secret]) -> bytes:
    """A stored body with its secrets. Raises SecretError: the webhook has one of them no more.

    A place that was corrected counts for what waits, too, as an edited URL does: where the body in
    force names one secret that the stored one does not, in place of one, it is that one.

    Args:
        body: as it was made, maybe by other settings.
        values: of all secrets of the webhook.
        held: those of its body in force.
    """
    sealed = {_secret_of(match) for match in _SEALED.finditer(body)}
    gone, new = sealed - set(held), set(held) - sealed
    instead = dict(zip(gone, new, strict=True)) if len(gone) == len(new) == 1 else {}

    def secret(match: re.Match[bytes]) -> bytes:
        meant = _secret_of(match)
        meant = instead.get(meant, meant)
        if meant not in held:
            raise SecretError(
                f"what waits was made with the {meant}, which the webhook's body names no more: "
                'name it until that is sent, or set backlog = "latest", which skips what is old'
            )
        return _ENCODE(values[meant])[1:-1].encode(errors="replace")

    return _SEALED.sub(secret, body)


def _secret_of(match: re.Match[bytes]) -> Secret:
    return Secret(Kind(match[1].decode()), json.loads(b'"' + match[2] + b'"'))


def shown(body: bytes) -> str:
    """A stored body for people: in a secret's place stands where that is."""
    return _SEALED.sub(rb"{\1:\2}", body).decode(errors="replace")


def _emit(value: object, base: Path | None, parts: list[str | _Place]) -> None:
    match value:
        case dict():
            parts.append("{")
            for number, (key, inner) in enumerate(value.items()):
                parts.append(("," if number else "") + _ENCODE(key) + ":")
                _emit(inner, base, parts)
            parts.append("}")
        case list():
            parts.append("[")
            for number, inner in enumerate(value):
                parts.append("," if number else "")
                _emit(inner, base, parts)
            parts.append("]")
        case str():
            _emit_text(value, base, parts)
        case _:
            parts.append(_ENCODE(value))


def _emit_text(text: str, base: Path | None, parts: list[str | _Place]) -> None:
    found = pieces(text, base)
    match found:
        case [Hole() as hole]:
            parts.append(_Place(hole, inside=False))
            return
    parts.append('"')
    for piece in found:
        match piece:
            case Hole():
                parts.append(_Place(piece, inside=True))
            case Secret():
                mark = MARK.decode()
                parts.append(f"{mark}{piece.kind}:{_ENCODE(piece.where)[1:-1]}{mark}")
            case _:
                parts.append(_ENCODE(piece)[1:-1])
    parts.append('"')


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
