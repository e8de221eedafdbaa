"""Sections of a configuration, with some keys set."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from agent.config import Section

S = TypeVar("S", bound="Section")


def section(kind: type[S], **keys: object) -> S:
    """One as it would be from a file with these keys; times in seconds. A wrong name raises."""
    assert keys.keys() <= kind.model_fields.keys(), keys
    return kind().model_copy(update=keys)
