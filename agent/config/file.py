"""The configuration's files on disk, and which texts of them were read."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config.documents import Texts, read_texts
from agent.config.loader import config_of
from agent.config.warn import warnings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config.derived import Config
    from agent.errors import Problem

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

    @property
    def is_blank(self) -> bool:
        """The operator's has nothing in it."""
        return self.texts is not None and not self.texts.own.strip()


class ConfigFile:
    """The operator's file with the agent's own beside it, and which texts were loaded last.

    Args:
        path: of the operator's, absolute: relative paths in it start from its directory.
        environ: tells where the state directory is, unless the file does.
    """

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self.managed: Path | None = None
        """The agent's own, which may not be there; known, and for good, from the first good load:
        another state directory counts at the next start."""
        self.loaded = ""
        """Fingerprint of what `load` read last, usable or not."""
        self._environ = environ
        self._keeps_some = False

    def load(self) -> tuple[Config, tuple[Problem, ...]]:
        """The configuration, and what `check` warns of. Blocks, for a moment if it is empty.

        Raises ConfigError, with every mistake.
        """
        look = self.look()
        if look.is_blank:
            time.sleep(_WRITTEN_IN)
            look = self.look()
        self.loaded = look.fingerprint
        if look.texts is None:
            assert look.error is not None
            raise look.error
        documents = look.texts.documents()
        config = config_of(documents)
        self.managed = look.texts.managed
        self._keeps_some = documents.keeps_some
        return config, warnings(config, documents)

    def look(self) -> Look:
        """Their texts as they are now."""
        try:
            return Look(read_texts(self.path, self._environ, self.managed))
        except ConfigError as error:
            return Look(None, error)

    def emptied(self, look: Look) -> Path | None:
        """Which of them holds nothing any more, as a full disk leaves it, or is gone."""
        if look.is_blank:
            return self.path
        # The agent itself leaves a comment in its own.
        gone = look.texts is not None and not (look.texts.kept or "").strip()
        return self.managed if gone and self._keeps_some else None


def is_usable(look: Look) -> bool:
    """Whether that could be loaded, and has something in it."""
    if look.texts is None or look.is_blank:
        return False
    try:
        config_of(look.texts.documents())
    except Exception:  # noqa: BLE001 - whatever it is, the load that is insisted on says it
        return False
    return True
