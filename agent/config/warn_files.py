"""Warnings about files: secrets that others can read, certificates that are not there."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.config.mistakes import Mistake
from agent.config.secret import Kind, PrivateUrl, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.derived import Config
    from agent.config.document import Document
    from agent.config.documents import Documents
    from agent.config.model import FleetTls, Tls
    from agent.config.places import KeyPath

_SECRET_NAME = re.compile("auth|cookie|key|pass|secret|sign|token", re.IGNORECASE)
"""Headers, options, parameters of a URL that bear such a word hold a secret; X-Rack may not."""


def exposed_files(config: Config, documents: Documents) -> Iterator[Mistake]:
    """Of the configuration's files themselves and those that they name; looks at their modes."""
    for path, secret in config.secrets():
        if isinstance(secret, Secret) and secret.kind is Kind.FILE:
            yield from _file_warnings(path, Path(secret.where), secret=True)
    sections: list[tuple[KeyPath, Tls | FleetTls]] = [
        (("webhooks", index, "tls"), webhook.tls) for index, webhook in enumerate(config.webhooks)
    ]
    for section, tls in [*sections, (("fleet", "tls"), config.fleet.tls)]:
        for key in ("ca", "cert", "key"):
            if (named := getattr(tls, key)) is not None:
                yield from _file_warnings((*section, key), Path(named), secret=key == "key")
    if config.api.cert is not None:
        # That they are there, and a pair, is no warning: `pair`.
        key = "cert" if config.api.key is None else "key"
        yield from _file_warnings(("api", key), Path(getattr(config.api, key)), secret=True)
    yield from _own_warnings(config, documents, documents.own, ())
    if documents.managed is not None:
        first = ("webhooks", documents.of_operator)
        yield from _own_warnings(config, documents, documents.managed, first)


def _own_warnings(
    config: Config, documents: Documents, document: Document, path: KeyPath
) -> Iterator[Mistake]:
    """Of one of the two, said at that path of both."""
    file = document.file
    mode, allowed = _modes(Path(file))
    if mode & stat.S_IWOTH:
        message = f"others can change it (mode {mode:04o}): chmod {allowed:04o} {file}"
        yield Mistake(path, message, ())
    elif mode & ~allowed & _READ and _holds_secrets(config, documents, document):
        yield Mistake(
            path,
            f"holds secrets and others can read it (mode {mode:04o}): chmod {allowed:04o} {file}, "
            f"or move the secrets into files of their own",
            (),
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


def _holds_secrets(config: Config, documents: Documents, document: Document) -> bool:
    """Whether any stands in that file itself."""
    return any(
        bool(each.key) or _url_holds_one(each)
        if isinstance(each, PrivateUrl)
        else each.kind is Kind.INLINE and (not _is_named_freely(path) or _sounds_secret(path[-1]))
        for path, each in config.secrets()
        if documents.home(path)[0] is document
    )


def _url_holds_one(url: str) -> bool:
    parts = urlsplit(url)
    return "@" in parts.netloc or _sounds_secret(parts.query)


def _is_named_freely(path: KeyPath) -> bool:
    """Headers, and options of plug-ins: most are no secrets."""
    return path[2:3] == ("headers",) or path[:2] == ("usage", "plugins")


def _sounds_secret(name: str | int) -> bool:
    return _SECRET_NAME.search(str(name)) is not None
