"""A file or a text → `Config`, or all its mistakes at once, with their places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent.config.document import parse_toml, read
from agent.config.mistakes import placed, translated
from agent.config.model import Config
from agent.config.places import scan
from agent.config.rules import cross_mistakes
from agent.config.warn import warnings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.errors import Problem


def load(path: Path) -> Config:
    """Read and check a file. Raises ConfigError, with every mistake in it."""
    return parse(read(path), str(path))


def parse(text: str, file: str) -> Config:
    """Check a document; `file` stands in messages, and relative paths start from its directory.

    Pure. Raises ConfigError: a mistake of syntax alone, else every other one, in the file's order.
    """
    document = parse_toml(text, file)
    places = scan(text)
    config = None
    mistakes = list(cross_mistakes(document))
    try:
        config = Config.model_validate(document, context={"base": Path(file).parent})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [translated(document, each) for each in found]
    if mistakes or config is None:
        raise ConfigError(placed(mistakes, document, places, file))
    return config


def check(path: Path) -> tuple[Config | None, tuple[Problem, ...], tuple[Problem, ...]]:
    """The config (None where it cannot be used), its mistakes, and warnings where it has none.

    Never raises for what is in the file or missing. Looks at the permissions of the files named.
    """
    try:
        text = read(path)
        config = parse(text, str(path))
    except ConfigError as error:
        return None, error.problems, ()
    return config, (), warnings(config, text, str(path))
