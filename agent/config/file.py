"""The configuration's files on disk, and which texts of them were read."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config.documents import Texts, read_texts
from agent.config.loader import joined
from agent.config.pair import check_pair
from agent.config.warn import warnings
from agent.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config.derived import Config

_WRITTEN_IN = 0.2
"""Seconds that a file may be empty while somebody writes it in place."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the files were at one moment."""

    texts: Texts | None
    """None: one cannot be read, see `error`."""
    error: ConfigError | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same texts, and for the same error."""
        text = str(self.error) if self.texts is None else f"{self.texts.own}\0{self.texts.kept}"
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class ConfigFile:
    """The operator's file with the agent's own beside it, and which texts were loaded last.

    Args:
        path: of the operator's, absolute: relative paths in it start from its directory.
        environ: tells where the state directory is, unless the file does.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.managed: Path | None = None
        """The agent's own, which may not be there; known, and for good, from the first good load:
        another state directory counts at the next start."""
        self.loaded = ""
        """Fingerprint of what `load` read last, usable or not."""
        self._environ = environ
        self._is_blank = False
        self._keeps_some = False

    def load(self) -> tuple[Config, tuple[Problem, ...]]:
        """The configuration, and what `check` warns of. Blocks, for a moment if it is empty.

        Raises ConfigError, with every mistake.
        """
        look = self.look()
        if self.emptied(look) is not None:
            time.sleep(_WRITTEN_IN)
            look = self.look()
        self.loaded = look.fingerprint
        if look.texts is None:
            assert look.error is not None
            raise look.error
        documents, config = joined(look.texts)
        check_pair(config, documents, as_agent=True)
        assert look.texts.managed is not None, "it is TOML"
        self.managed = look.texts.managed.absolute()
        self._is_blank = not look.texts.own.strip()
        self._keeps_some = documents.keeps_some
        return config, warnings(config, documents)

    def look(self) -> Look:
        """Their texts as they are now."""
        try:
            return Look(read_texts(self.path, self._environ, self.managed))
        except ConfigError as error:
            return Look(None, error)

    def emptied(self, look: Look) -> ConfigError | None:
        """One of them holds nothing any more, as a full disk leaves it, or the agent's own is gone.

        The agent itself leaves a comment in its own. To be taken only by who asks for it: all
        webhooks of the file would be gone, and what waits for them.
        """
        texts = look.texts
        if texts is None:
            return None
        if not (texts.own.strip() or self._is_blank):
            return _emptied(self.path, "empty now")
        if self._keeps_some and not (texts.kept or "").strip():
            assert texts.managed is not None
            return _emptied(texts.managed, "gone" if texts.kept is None else "empty now")
        return None


def is_usable(look: Look) -> bool:
    """Whether that could be loaded."""
    if look.texts is None:
        return False
    try:
        joined(look.texts)
    except Exception:  # noqa: BLE001 - whatever it is, the load that is insisted on says it
        return False
    return True


def _emptied(path: Path, what: str) -> ConfigError:
    message = (
        f"the file is {what}, which is not taken by itself: put it back, or say "
        "'device-agent reload' if it is meant"
    )
    return ConfigError([Problem(str(path), 1, 1, message)])
