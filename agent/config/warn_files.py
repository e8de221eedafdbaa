"""Warnings about files: secrets that others can read, certificates that are not there."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.config.mistakes import Mistake
from agent.config.model import BasicAuth, BearerAuth, Config
from agent.config.secret import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.places import KeyPath
    from agent.config.secret import Secret

_SECRET_NAME = re.compile("auth|cookie|key|pass|secret|sign|token", re.IGNORECASE)
"""Headers and parameters of a URL that bear such a word hold a secret; others (X-Rack) may not."""


def exposed_files(config: Config, file: Path) -> Iterator[Mistake]:
    """Of the configuration's `file` itself and of those that it names; looks at their modes."""
    for path, secret in _secrets(config):
        if secret.kind is Kind.FILE:
            yield from _file_warnings(path, Path(secret.where), secret=True)
    for index, webhook in enumerate(config.webhooks):
        for key in ("ca", "cert", "key"):
            if (named := getattr(webhook.tls, key)) is not None:
                path = ("webhooks", index, "tls", key)
                yield from _file_warnings(path, Path(named), secret=key == "key")
    mode, allowed = _modes(file)
    if mode & stat.S_IWOTH:
        yield Mistake((), f"others can change it (mode {mode:04o}): chmod {allowed:04o} {file}")
    elif mode & ~allowed & _READ and _holds_secrets(config):
        yield Mistake(
            (),
            f"holds secrets and others can read it (mode {mode:04o}): chmod {allowed:04o} {file}, "
            f"or move the secrets into files of their own",
        )


_READ = stat.S_IRGRP | stat.S_IROTH


def _modes(file: Path) -> tuple[int, int]:
    """The permissions of a file (0: they cannot be seen), and those that a secret may have.

    What root gave to a group is for that group: the unit's user reads it so (docs/install.md).
    """
    try:
        found = file.stat()
    except OSError:
        return 0, 0o600
    return stat.S_IMODE(found.st_mode), 0o640 if not found.st_uid and found.st_gid else 0o600


def _file_warnings(path: KeyPath, file: Path, *, secret: bool) -> Iterator[Mistake]:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield Mistake(path, f"{file} does not exist: create it or correct the path")
        return
    except OSError:
        return  # the agent's user may see what this one may not
    mode, allowed = _modes(file)
    if secret and mode & ~allowed & _READ:
        yield Mistake(path, f"others can read {file} (mode {mode:04o}): chmod {allowed:04o} {file}")


def _holds_secrets(config: Config) -> bool:
    """Whether any stands in the file itself; of headers, those whose name says so."""
    servers = (*config.usage.appium, *config.usage.grid)
    urls = [server.url for server in servers]
    for webhook in config.webhooks:
        urls += (webhook.url, webhook.proxy or "")
    return any(map(_url_holds_one, urls)) or any(
        secret.kind is Kind.INLINE
        and (path[2:3] != ("headers",) or _SECRET_NAME.search(str(path[-1])) is not None)
        for path, secret in _secrets(config)
    )


def _url_holds_one(url: str) -> bool:
    parts = urlsplit(url)
    return "@" in parts.netloc or _SECRET_NAME.search(parts.query) is not None


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
        for name, secret in webhook.headers:
            yield (*path, "headers", name), secret


def _auth_secrets(
    path: KeyPath, auth: BasicAuth | BearerAuth | None
) -> Iterator[tuple[KeyPath, Secret]]:
    if isinstance(auth, BasicAuth):
        yield (*path, "password"), auth.password
    if isinstance(auth, BearerAuth):
        yield (*path, "token"), auth.token
