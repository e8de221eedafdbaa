"""What a reload of this file would do to the webhooks that are in force, said beforehand."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from agent.cli.common import ask, socket_for
from agent.config.carried import InForce, carried, unsure
from agent.config.documents import read_texts
from agent.config.installed import CONFIG, SOCKET, environ_of
from agent.config.mistakes import QUOTE, Mistake, placed
from agent.errors import ApiError, ConfigError
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config
    from agent.config.places import KeyPath
    from agent.errors import Problem
    from agent.service.webhooks import WebhookRow


def foreseen(config: Config, path: Path) -> tuple[Problem, ...]:
    """Nothing where no agent runs with that file, or where it cannot be asked."""
    socket = socket_for(config, path)
    ours = config.api.socket is not None or socket != SOCKET
    if not (ours or path.absolute() == CONFIG) or not os.access(socket, os.W_OK):
        return ()
    try:
        rows = ask(path, "GET", "/v1/webhooks")["webhooks"]
        documents = read_texts(path, environ_of(path, os.environ), mine=False).documents()
    except (ApiError, ConfigError):
        return ()
    # The agent's own file is the agent's business, and may not have been read.
    own = [row for row in rows if not row["managed"]]
    return placed(changes(config, own), documents)


def changes(config: Config, rows: list[WebhookRow]) -> Iterator[Mistake]:
    """Webhooks that get another organisation, and those that end. Pure.

    Args:
        config: the new one.
        rows: those in force, as the API shows them.
    """
    in_force = [InForce(row["id"], row["org_id"], row["name"]) for row in rows]
    wanted = [(config.org_of(each), each.name, each.id) for each in config.webhooks]
    kept = {explicit for _, _, explicit in wanted} | {
        each.id for each in in_force if (each.org_id, each.name) in {(o, n) for o, n, _ in wanted}
    }
    together: Counter[tuple[int, int]] = Counter()
    for one in carried(in_force, wanted):
        kept |= {each.id for each in one.old}
        index, webhook = next(
            (index, each)
            for index, each in enumerate(config.webhooks)
            if (config.org_of(each), each.name) == (one.org_id, one.name)
        )
        if not one.sure:
            yield Mistake(("webhooks", index), f"a reload is refused: {unsure(one)}")
        elif webhook.org_id is None:
            together[one.old[0].org_id, one.org_id] += 1
        else:
            yield Mistake(
                ("webhooks", index, "org_id"), _moves("this webhook", one.old[0].org_id, one.org_id)
            )
    for (before, now), count in together.items():
        what = "one webhook" if count == 1 else f"{count} webhooks"
        yield Mistake(("agent", "org_id"), _moves(what, before, now))
    for row in rows:
        if row["id"] not in kept:
            yield Mistake(_end_of(config), _ends(row), ("webhooks",))


def _end_of(config: Config) -> KeyPath:
    return ("webhooks", len(config.webhooks) - 1) if config.webhooks else ()


def _moves(what: str, before: int, now: int) -> str:
    return (
        f"a reload moves {what} from organisation {before} to {now}: ids stay, and what waits is "
        f"sent as it was made, for {before}"
    )


def _ends(row: WebhookRow) -> str:
    waiting = row.get("waiting_devices", 0)
    what = {0: "", 1: ", and cancels what waits for it, of one device"}.get(
        waiting, f", and cancels what waits for it, of {waiting} devices"
    )
    name = printable(row["name"], QUOTE)
    return (
        f"a reload deletes webhook '{name}', which is in force and not in this "
        f"file{what}; should it only have a new name, say id = {row['id']}"
    )
