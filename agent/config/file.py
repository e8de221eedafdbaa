"""The configuration file on disk, and which text of it was read."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from agent.config.document import Document, read
from agent.config.loader import config_of
from agent.config.warn import warnings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.derived import Config
    from agent.errors import Problem

_WRITTEN_IN = 0.2
"""Seconds that a file may be empty while somebody writes it in place."""


class ConfigFile:
    """The file, and which text of it was loaded last.

    Args:
        path: absolute: relative paths in it start from its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded = ""
        """Fingerprint of what `load` read last, usable or not."""

    def load(self) -> tuple[Config, tuple[Problem, ...]]:
        """The configuration, and what `check` warns of. Blocks, for a moment if it is empty.

        Raises ConfigError, with every mistake.
        """
        try:
            text = read(self.path)
            if not text.strip():
                time.sleep(_WRITTEN_IN)
                text = read(self.path)
        except ConfigError as error:
            self.loaded = _fingerprint(str(error))
            raise
        self.loaded = _fingerprint(text)
        document = Document(text, str(self.path))
        config = config_of(document)
        return config, warnings(config, document)

    def look(self) -> tuple[str, str]:
        """Its text as it is now, and the fingerprint of that; unreadable: no text, and its own."""
        try:
            text = read(self.path)
        except ConfigError as error:
            return "", _fingerprint(str(error))
        return text, _fingerprint(text)


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


EMPTY = _fingerprint("")
"""Of a file that is there, and has nothing in it."""
