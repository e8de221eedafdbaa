"""A file, a text or a document → `Config`, or all its mistakes at once, with their places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent.config.derived import Config
from agent.config.document import Document
from agent.config.mistakes import placed, translated
from agent.config.rules import cross_mistakes
from agent.config.warn import warnings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.errors import Problem


def load(path: Path) -> Config:
    """Read and check a file. Raises ConfigError, with every mistake in it."""
    return config_of(Document.read(path))


def parse(text: str, file: str) -> Config:
    """Check a text; `file` stands in messages, and relative paths start from its directory.

    Pure. Raises ConfigError: a mistake of syntax alone, else every other one, in the file's order.
    """
    return config_of(Document(text, file))


def config_of(document: Document) -> Config:
    """Check a document. Pure. Raises ConfigError, with every mistake in it, in the file's order."""
    config = None
    mistakes = list(cross_mistakes(document))
    try:
        base = Path(document.file).parent
        config = Config.model_validate(document.data, context={"base": base})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [translated(document.data, each) for each in found]
    if mistakes or config is None:
        raise ConfigError(placed(mistakes, document))
    return config


def check(path: Path) -> tuple[Config | None, tuple[Problem, ...], tuple[Problem, ...]]:
    """The config (None where it cannot be used), its mistakes, and warnings where it has none.

    Never raises for what is in the file or missing. Looks at the permissions of the files named.
    """
    try:
        document = Document.read(path)
        config = config_of(document)
    except ConfigError as error:
        return None, error.problems, ()
    return config, (), warnings(config, document)
