"""What of a webhook must not be told, and texts without it.

Whatever an endpoint, a proxy or an error says goes through here before anybody sees it: an
endpoint may echo what it was sent, in whatever spelling.
"""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote

import aiohttp
from yarl import URL

from agent.deliver.policy import EXCERPT

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORTEST_REDACTED: Final = 4
"""Shorter secrets would turn an excerpt into stars, and guard nothing."""


def redact(text: str, private: Iterable[str]) -> str:
    """The text without these secrets, also as they are written in JSON, URLs, HTML or base64."""
    # No form is shorter than the secret, so most answers cost nothing here.
    fitting = {each for each in private if _SHORTEST_REDACTED <= len(each) <= len(text)}
    if not fitting:
        return text
    forms = {form for secret in fitting for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):  # one may be a part of another
        text = text.replace(form, "***")
    return text


def _forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1].replace("/", "\\/"),
        quote(secret, safe=""),
        quote(secret),
        quote(secret, safe="/:@!$&'()*+,;="),
        quote_plus(secret),
        html.escape(secret),
        html.escape(secret, quote=False),
        encoded.rstrip("="),
        encoded.rstrip("=").translate({43: "-", 47: "_"}),
    }


def _bare(url: URL) -> str:
    """A URL without userinfo, query and fragment: fit for messages."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def basic_auth(url: URL) -> str:
    """A URL's userinfo as the value of a header; "" if it has none."""
    user, password = url.user or "", url.password or ""
    return aiohttp.encode_basic_auth(user, password) if user or password else ""


def private_parts(url: URL) -> list[str]:
    """What is secret of a URL, as it is and as it is sent: userinfo, query, fragment."""
    return [
        *(url.raw_user or "", url.raw_password or "", url.user or "", url.password or ""),
        basic_auth(url).removeprefix("Basic "),
        *(url.raw_query_string, url.query_string, url.raw_fragment, url.fragment),
        *(value or name for name, value in url.query.items()),
    ]


def query_as_written(url: URL) -> list[str]:
    """What is secret of a URL that `as_written` made, in the spelling that an endpoint gets."""
    query = url.raw_path.partition("?")[2]
    pairs = [pair.partition("=") for pair in query.split("&")]
    return [query, *(value or name for name, _, value in pairs)]


def redirect_target(url: URL, location: str, private: Iterable[str]) -> str:
    """Where a redirect goes; of its path nothing if that repeats a secret, in whatever spelling."""
    if not location:
        return ""
    try:
        target = url.join(URL(location))
        path = unquote(target.path)
        return f"{target.origin()}/***" if redact(path, private) != path else _bare(target)
    except ValueError:
        return "an unreadable address"


def cut(text: str) -> str:
    """At most EXCERPT bytes of UTF-8, without control characters."""
    if not text.isprintable():
        text = "".join([c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text[:EXCERPT]])
    return text.encode("utf-8", "replace")[:EXCERPT].decode("utf-8", "ignore")
