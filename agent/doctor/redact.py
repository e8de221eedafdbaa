"""Keeping secrets in the house: what of a configuration is private, and texts without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from yarl import URL

from agent.config import BasicAuth, BearerAuth
from agent.deliver.client import bare_url, private_parts, redact
from agent.deliver.signing import PREFIX
from agent.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.config import Config
    from agent.config.secret import Secret

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
    for secret in _secrets(config):
        try:
            text = secret.read(environ)
        except SecretError:
            continue  # the agent's own to read: this process cannot tell it
        found += (text, text.removeprefix(PREFIX))
    for url in _urls(config):
        found += private_parts(url)
        found += (part for part in url.path.split("/") if len(part) >= TOKEN_LENGTH)
    for _, options in config.usage.plugins:
        found += _strings(options)
    return [text for text in found if text]


def without(text: str, private: Iterable[str]) -> str:
    """The text without these, and without what looks like a secret."""
    text = redact(text, private)
    for pattern, stars in _GENERIC:
        text = pattern.sub(stars, text)
    return text


def shown(config: Config) -> dict[str, Any]:
    """What the file sets, without secrets: of those it says where they are. Comments are left out.

    Durations are seconds.
    """
    tree = config.model_dump(
        mode="json",
        exclude_unset=True,
        exclude={"usage": {"plugins"}, "webhooks": {"__all__": {"headers"}}},
    )
    if config.usage.plugins:
        tree.setdefault("usage", {})["plugins"] = {
            name: dict.fromkeys(options, "***") for name, options in config.usage.plugins
        }
    for row, webhook in zip(tree.get("webhooks", ()), config.webhooks, strict=True):
        if webhook.headers:
            row["headers"] = {name: str(secret) for name, secret in webhook.headers}
        for key in ("url", "proxy"):
            if row.get(key):
                row[key] = _bare(row[key])
    for key in ("appium", "grid"):
        for server in tree.get("usage", {}).get(key, ()):
            server["url"] = _bare(server["url"])
    return dict(tree)


def _bare(url: str) -> str:
    return bare_url(URL(url))


def _urls(config: Config) -> Iterator[URL]:
    for server in (*config.usage.appium, *config.usage.grid):
        yield URL(server.url)
    for webhook in config.webhooks:
        yield URL(webhook.url)
        if webhook.proxy:
            yield URL(webhook.proxy)


def _secrets(config: Config) -> Iterator[Secret]:
    if config.api.token is not None:
        yield config.api.token
    for server in (*config.usage.appium, *config.usage.grid):
        yield from _of_auth(server.auth)
    for webhook in config.webhooks:
        yield from webhook.secret
        yield from (secret for _, secret in webhook.headers)
        yield from _of_auth(webhook.auth)
        yield from _of_auth(webhook.proxy_auth)


def _of_auth(auth: BasicAuth | BearerAuth | None) -> Iterator[Secret]:
    if isinstance(auth, BasicAuth):
        yield auth.password
    if isinstance(auth, BearerAuth):
        yield auth.token


def _strings(value: object) -> Iterator[str]:
    """All texts inside it."""
    if isinstance(value, str):
        yield value
    elif hasattr(value, "values"):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
