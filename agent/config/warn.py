"""Warnings: what a valid file may come to regret."""

from __future__ import annotations

import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent import toml_places
from agent.config.document import parse_toml
from agent.config.mistakes import Mistake, placed, printable
from agent.config.model import BasicAuth, BearerAuth, Config, DeviceEntry, Tls, Webhook
from agent.model import Visibility
from agent.secrets import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.errors import Problem
    from agent.secrets import Secret
    from agent.toml_places import KeyPath


def warnings(config: Config, text: str, file: str) -> tuple[Problem, ...]:
    """What a valid file may come to regret, in its order. `text` is what `config` came from."""
    found = [
        *_exposed_urls(config),
        *_exposed_files(config, Path(file)),
        *_idle_webhooks(config),
        *_repeated_urls(config),
    ]
    return placed(found, parse_toml(text, file), toml_places.scan(text), file)


def _exposed_urls(config: Config) -> Iterator[Mistake]:
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        if not webhook.tls.verify:
            yield Mistake(
                (*path, "tls", "verify"),
                "certificates are not checked, so anyone in between can read and alter callbacks: "
                "name the server's authority with ca instead",
            )
        parts = urlsplit(webhook.url)
        if parts.scheme == "http" and not _is_near(parts.hostname or ""):
            yield Mistake(
                (*path, "url"),
                f"callbacks travel unencrypted to {parts.hostname}: use https",
            )
        if parts.scheme == "http" and webhook.tls != Tls():
            yield Mistake((*path, "tls"), "has no effect, for the URL is plain http")


def _is_near(host: str) -> bool:
    """Loopback, a private address, or a name that only a local network can resolve."""
    from ipaddress import ip_address  # noqa: PLC0415 -- few configurations need it

    try:
        return not ip_address(host).is_global
    except ValueError:
        name = host.rstrip(".")
        return "." not in name or name.endswith(_LOCAL_NAMES)


_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".test")
"""Never in the public DNS: RFC 6761, RFC 6762, RFC 8375, ICANN's choice of 2024, and custom."""


def _secrets(config: Config) -> Iterator[tuple[KeyPath, Secret]]:
    if config.api.token is not None:
        yield ("api", "token"), config.api.token
    for key, servers in (("appium", config.usage.appium), ("grid", config.usage.grid)):
        for index, server in enumerate(servers):
            yield from _auth_secrets(("usage", key, index, "auth"), server.auth)
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        for number, secret in enumerate(webhook.secret):
            yield (*path, "secret", number), secret
        yield from _auth_secrets((*path, "auth"), webhook.auth)
        yield from _auth_secrets((*path, "proxy_auth"), webhook.proxy_auth)


def _auth_secrets(
    path: KeyPath, auth: BasicAuth | BearerAuth | None
) -> Iterator[tuple[KeyPath, Secret]]:
    if isinstance(auth, BasicAuth):
        yield (*path, "password"), auth.password
    if isinstance(auth, BearerAuth):
        yield (*path, "token"), auth.token


def _exposed_files(config: Config, file: Path) -> Iterator[Mistake]:
    inline = False
    for path, secret in _secrets(config):
        inline |= secret.kind is Kind.INLINE
        if secret.kind is Kind.FILE:
            yield from _file_warnings(path, Path(secret.where), secret=True)
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        inline |= any("@" in urlsplit(url).netloc for url in (webhook.url, webhook.proxy or ""))
        for name, secret in webhook.headers:
            if secret.kind is Kind.FILE:
                yield from _file_warnings((*path, "headers", name), Path(secret.where), secret=True)
        for key in ("ca", "cert", "key"):
            if (named := getattr(webhook.tls, key)) is not None:
                yield from _file_warnings((*path, "tls", key), Path(named), secret=key == "key")
    inline |= any(
        "@" in urlsplit(server.url).netloc for server in (*config.usage.appium, *config.usage.grid)
    )
    if inline and (mode := _open_mode(file)):
        yield Mistake(
            (),
            f"holds secrets and others can read it (mode {mode:04o}): chmod 0600 {file}, "
            f"or move the secrets into files of their own",
        )


def _file_warnings(path: KeyPath, file: Path, *, secret: bool) -> Iterator[Mistake]:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield Mistake(path, f"{file} does not exist: create it or correct the path")
    except OSError:
        return  # the agent's user may see what this one may not
    else:
        if secret and (mode := _open_mode(file)):
            yield Mistake(path, f"others can read {file} (mode {mode:04o}): chmod 0600 {file}")


def _open_mode(file: Path) -> int:
    """The permissions of a file that group or others can read; else 0."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return 0
    return mode if mode & (stat.S_IRGRP | stat.S_IROTH) else 0


def _idle_webhooks(config: Config) -> Iterator[Mistake]:
    """Webhooks that certainly no phone can match, whatever is plugged in."""
    calling = {Visibility.PRIVATE, Visibility.LOCAL}
    default = config.discovery.visibility
    listed = [each for each in config.devices if (each.visibility or default) in calling]
    for index, webhook in enumerate(config.webhooks):
        if default in calling and not webhook.tags:
            continue  # a phone that is not listed may match; tags come from the list alone
        if not any(_may_match(webhook, device) for device in listed):
            yield Mistake(
                ("webhooks", index),
                "no device that is listed and calls back is in its scope, so it is never called: "
                "see its devices and tags, and visibility under [[devices]] and [discovery]",
            )


def _may_match(webhook: Webhook, device: DeviceEntry) -> bool:
    """Generous: a UDID's spelling and the `@PORT` of twins are only known when it is plugged in."""
    tagged = not webhook.tags or not set(webhook.tags).isdisjoint(device.tags)
    patterns = [pattern.replace("-", "").lower() for pattern in webhook.devices]
    udid = device.udid.replace("-", "").lower()
    fits = not patterns or any("@" in each or fnmatchcase(udid, each) for each in patterns)
    return tagged and fits


def _repeated_urls(config: Config) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for index, webhook in enumerate(config.webhooks):
        if webhook.url in first:
            yield Mistake(
                ("webhooks", index, "url"),
                f"webhook '{printable(first[webhook.url])}' has the same URL: it is called twice",
            )
        first.setdefault(webhook.url, webhook.name)
