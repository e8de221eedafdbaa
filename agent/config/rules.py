"""Rules over several keys, which no single value can break."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from agent.config.mistakes import QUOTE, Mistake
from agent.config.model import PayloadFormat
from agent.text import printable
from agent.udid import listed_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.documents import Documents
    from agent.config.places import KeyPath


def cross_mistakes(document: Documents) -> Iterator[Mistake]:
    """Rules over several keys. On the raw document, so that they too tell all mistakes at once."""
    data = document.data
    udids: dict[str, KeyPath] = {}
    for path, device in _tables(data, "devices"):
        udid = device.get("udid")
        if isinstance(udid, str) and udids.setdefault(listed_key(udid), path) != path:
            yield Mistake((*path, "udid"), "this device is listed twice: join the two entries")
    if {"key"} == document.table("api").keys() & {"cert", "key"}:
        yield Mistake(("api", "key"), "a key needs its certificate: set cert too")
    default_org = document.table("agent").get("org_id", 1)
    names: dict[tuple[str, str], KeyPath] = {}
    ids: dict[int, tuple[str, KeyPath]] = {}
    for path, webhook in _tables(data, "webhooks"):
        name, number = webhook.get("name"), webhook.get("id")
        org = webhook.get("org_id", default_org)
        if isinstance(name, str):
            first = names.setdefault((repr(org), name), path)
            if first != path:
                yield Mistake(
                    (*path, "name"),
                    f"another webhook of organisation {org}{_elsewhere(document, first, path)} has "
                    "this name: names are unique in one",
                )
        if type(number) is int:
            other, first = ids.setdefault(number, (str(name), path))
            if first != path:
                where = _elsewhere(document, first, path)
                what = f"webhook '{printable(other, QUOTE)}'{where} has the id {number} already"
                yield Mistake((*path, "id"), what)
        yield from webhook_mistakes(path, webhook)


def _elsewhere(document: Documents, first: KeyPath, path: KeyPath) -> str:
    """Where that is, if it is not in the file in which the mistake is."""
    file, line, _ = document.place(first)
    return "" if file == document.place(path)[0] else f" ({file}:{line})"


def webhook_mistakes(path: KeyPath, webhook: dict[str, Any]) -> Iterator[Mistake]:
    """Rules over several keys of one webhook, which is at that path."""
    tls, url, headers = webhook.get("tls"), webhook.get("url"), webhook.get("headers")
    if isinstance(tls, dict) and "key" in tls and "cert" not in tls:
        yield Mistake((*path, "tls", "key"), "a key needs its certificate: set cert too")
    yield from _proxy_mistakes(path, webhook)
    yield from _body_mistakes(path, webhook)
    authorities = []
    if "auth" in webhook:
        authorities.append((*path, "auth"))
    if isinstance(headers, dict):
        authorities += [
            (*path, "headers", key) for key in headers if key.lower() == "authorization"
        ]
    if _has_userinfo(url):
        authorities.insert(0, (*path, "url"))
    for extra in authorities[1:]:
        yield Mistake(
            extra,
            f"the request is authorised already, by {'.'.join(map(str, authorities[0][2:]))}: "
            f"keep one of them",
        )


def _proxy_mistakes(path: KeyPath, webhook: dict[str, Any]) -> Iterator[Mistake]:
    if "proxy_auth" not in webhook:
        return
    if not webhook.get("proxy"):
        yield Mistake((*path, "proxy_auth"), "there is no proxy to show it to: set proxy too")
    elif _has_userinfo(webhook["proxy"]):
        yield Mistake((*path, "proxy_auth"), "the proxy's URL has a user already: keep one of them")


def _body_mistakes(path: KeyPath, webhook: dict[str, Any]) -> Iterator[Mistake]:
    payload, has_body = webhook.get("payload", "standard"), "body" in webhook
    if payload == "custom" and not has_body:
        yield Mistake((*path, "body"), 'this key is missing: payload = "custom" sends it')
    elif has_body and payload in get_args(PayloadFormat) and payload != "custom":
        remedy = 'set payload = "custom", or take the body out'
        yield Mistake((*path, "body"), f"payload {payload} has a body of its own: {remedy}")


def _has_userinfo(url: object) -> bool:
    return isinstance(url, str) and "@" in re.split("[/?#]", url.partition("://")[2])[0]


def _tables(data: dict[str, Any], name: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The elements of an array of tables, those that are tables at all."""
    entries = data.get(name)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield (name, index), entry
