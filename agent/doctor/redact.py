"""Keeping secrets in the house: what of a configuration is private, and texts without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from yarl import URL

from agent.config.secret import PrivateUrl
from agent.deliver.redaction import private_parts, redact
from agent.deliver.signing import PREFIX
from agent.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config import Config

TOKEN_LENGTH = 16
"""Characters from which a part of a URL's path may be a token (chat services put theirs there)."""
_GENERIC = (
    (re.compile(r"(://)[^/\s@\"'<>]+@"), r"\1***@"),
    (re.compile(r"(https?://[^\s?#\"'<>]+)[?#][^\s\"'<>]+"), r"\1?***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"), r"\1 ***"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "whsec_***"),
)
"""What gives itself away, whoever wrote it."""


def private_texts(config: Config, environ: Mapping[str, str]) -> list[str]:
    """All secrets of a configuration as far as this process can read them. Blocking."""
    found: list[str] = []
    for _, each in config.secrets():
        if isinstance(each, PrivateUrl):
            url = URL(each)
            found += private_parts(url)
            found += (part for part in url.path.split("/") if len(part) >= TOKEN_LENGTH)
            continue
        try:
            text = each.read(environ)
        except SecretError:
            continue  # the agent's own to read: this process cannot tell it
        found += (text, text.removeprefix(PREFIX))
    return [text for text in found if text]


def without(text: str, private: Iterable[str]) -> str:
    """The text without these, and without what looks like a secret."""
    text = redact(text, private)
    for pattern, stars in _GENERIC:
        text = pattern.sub(stars, text)
    return text


def shown(config: Config) -> dict[str, Any]:
    """What the files set, without secrets: of those it says where they are. Comments are left out.

    Durations are seconds; `in` is where a webhook stands.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    for row, webhook in zip(tree.get("webhooks", ()), config.webhooks, strict=True):
        row["in"] = str(config.origin_of(webhook) or "")
    return tree
