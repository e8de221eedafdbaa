"""The tables of the file by their types: which there are, and where a secret may stand."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from agent.config.model import Section, Tables
from agent.config.secret import HoldsSecrets, PrivateUrl, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIVATE = (Secret, PrivateUrl, Any)
"""What may hold anything may hold a secret."""


@cache
def all_sections(of: type[Section] = Tables) -> dict[tuple[str, ...], type[Section]]:
    """Every table of the file: its path as pydantic gives it, without array indexes."""

    def walk(
        at: tuple[str, ...], section: type[Section]
    ) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
        yield at, section
        for name, field in section.model_fields.items():
            inside = [part for part in _parts(field.annotation) if issubclass(part, Section)]
            for part in inside:
                tag = get_args(part.model_fields["type"].annotation) if len(inside) > 1 else ()
                yield from walk((*at, name, *tag), part)

    return dict(walk((), of))


def is_open(names: tuple[str, ...], of: type[Section] = Tables) -> bool:
    """Whether the key at that path, without array indexes, may be shown with its value.

    No part of it is unknown (a misspelt `secret` is), nor may hold a secret. The tables at the top
    are judged key by key; one further down is private as a whole if anything in it is.
    """
    sections = all_sections(of)
    return all(
        names[:depth] in sections
        and (field := sections[names[:depth]].model_fields.get(name)) is not None
        and not _may_be_secret(field.annotation, below=depth > 0)
        for depth, name in enumerate(names)
    )


def _may_be_secret(annotation: object, *, below: bool) -> bool:
    return any(
        part in _PRIVATE
        or issubclass(part, HoldsSecrets)
        or (
            below
            and issubclass(part, Section)
            and any(
                _may_be_secret(field.annotation, below=True) for field in part.model_fields.values()
            )
        )
        for part in _parts(annotation)
    )


def _parts(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)
