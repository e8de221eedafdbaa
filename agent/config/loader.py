"""Files, a text or documents → `Config`, or all mistakes at once, with their places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.config.derived import Config
from agent.config.document import Document
from agent.config.documents import Documents, Texts, read_texts
from agent.config.installed import environ_of
from agent.config.mistakes import in_order, placed, translated, unplaced
from agent.config.model import Webhook
from agent.config.pair import check_pair
from agent.config.rules import cross_mistakes, webhook_mistakes
from agent.config.warn import warnings
from agent.errors import ConfigError, DraftRefusedError

if TYPE_CHECKING:
    from agent.config.places import KeyPath
    from agent.errors import Problem


def load(path: Path) -> Config:
    """Read and check a file, alone. Raises ConfigError, with every mistake in it."""
    return config_of(Documents(Document.read(path)))


def load_both(path: Path) -> tuple[Documents, Config]:
    """Read and check a file, and the agent's own beside it. Raises ConfigError, with all mistakes.

    For commands: what the agent keeps and this user may not read is left out.
    """
    return joined(read_both(path))


def read_both(path: Path) -> Texts:
    """What stands in them, for commands; as `load_both`."""
    return read_texts(path, environ_of(path, os.environ), mine=False)


def joined(texts: Texts) -> tuple[Documents, Config]:
    """Check both. Pure. Raises ConfigError: of one that is no TOML, and all of the other."""
    try:
        documents = texts.documents()
    except ConfigError as error:
        raise ConfigError([*_of_the_other(texts), *error.problems]) from None
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


def draft(fields: dict[str, Any]) -> Webhook:
    """A webhook that is in no file yet; its relative paths stay as they are.

    Pure. Raises DraftRefusedError, with all its mistakes.
    """
    at: KeyPath = ("webhooks", 0)
    data = {"webhooks": [fields]}
    mistakes = list(webhook_mistakes(at, fields))
    webhook = None
    try:
        webhook = Webhook.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [translated(data, {**each, "loc": (*at, *each["loc"])}) for each in found]
    if mistakes or webhook is None:
        raise DraftRefusedError(unplaced(mistakes, data, "the draft"))
    return webhook


def check(path: Path) -> tuple[Config | None, tuple[Problem, ...], tuple[Problem, ...]]:
    """The config (None where it cannot be used), its mistakes, and warnings where it has none.

    Never raises for what is in the files or missing. Looks at the permissions of the files named,
    and tries the API's certificate.
    """
    try:
        documents, config = load_both(path)
        check_pair(config, documents, as_agent=False)
    except ConfigError as error:
        return None, error.problems, ()
    return config, (), warnings(config, documents)


def _of_the_other(texts: Texts) -> tuple[Problem, ...]:
    """Mistakes of the operator's file, where that is TOML."""
    try:
        own = Document(texts.own, str(texts.path))
    except ConfigError:
        return ()  # its one mistake is told
    try:
        config_of(Documents(own))
    except ConfigError as error:
        return error.problems
    return ()
