"""Files, a text or documents → `Config`, or all mistakes at once, with their places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent.config.derived import Config
from agent.config.document import Document
from agent.config.documents import Documents, read_texts
from agent.config.installed import environ_of
from agent.config.mistakes import in_order, placed, translated
from agent.config.rules import cross_mistakes
from agent.config.warn import warnings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.errors import Problem


def load(path: Path) -> tuple[Documents, Config]:
    """Read and check a file, and the agent's own beside it. Raises ConfigError, with all mistakes.

    For commands: what the agent keeps and this user may not read is left out.
    """
    documents = read_texts(path, environ_of(path, os.environ), mine=False).documents()
    return documents, config_of(documents)


def parse(text: str, file: str) -> Config:
    """Check a text; `file` stands in messages, and relative paths start from its directory.

    Pure. Raises ConfigError: a mistake of syntax alone, else every other one, in the file's order.
    """
    return config_of(Documents(Document(text, file)))


def config_of(documents: Documents) -> Config:
    """Check them. Pure. Raises ConfigError, with every mistake in them, in the files' order."""
    config = None
    mistakes = list(cross_mistakes(documents))
    try:
        base = Path(documents.file).parent
        config = Config.model_validate(documents.data, context={"base": base})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [translated(documents.data, each) for each in found]
    problems = [*documents.misplaced(), *placed(mistakes, documents)]
    if problems or config is None:
        raise ConfigError(in_order(problems, documents))
    return config.found_in(documents.origin)


def check(path: Path) -> tuple[Config | None, tuple[Problem, ...], tuple[Problem, ...]]:
    """The config (None where it cannot be used), its mistakes, and warnings where it has none.

    Never raises for what is in the files or missing. Looks at the permissions of the files named.
    """
    try:
        documents, config = load(path)
    except ConfigError as error:
        return None, error.problems, ()
    return config, (), warnings(config, documents)
