"""What a reload of this file would do to the webhooks that are in force, said beforehand."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.common import ask, socket_for
from agent.config.carried import InForce, carried, unsure
from agent.config.installed import CONFIG, SOCKET
from agent.config.loader import read_both
from agent.config.mistakes import QUOTE, Mistake, placed
from agent.errors import ApiError, ConfigError, Problem
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Config
    from agent.config.places import KeyPath
    from agent.service.webhooks import WebhookRow


def foreseen(config: Config, path: Path) -> tuple[Problem, ...]:
    """Nothing where no agent runs with that file, or where it cannot be asked."""
    socket = socket_for(config, path)
    ours = config.api.socket is not None or socket != SOCKET
    if not (ours or path.absolute() == CONFIG) or not os.access(socket, os.W_OK):
        return ()
    try:
        rows = ask(path, "GET", "/v1/webhooks")["webhooks"]
        texts = read_both(path)
        documents = replace(texts, kept=texts.kept or "").documents()  # none is an empty one
    except (ApiError, ConfigError):
        return ()
    kept = [row for row in rows if row["managed"]]
    unseen = (_unseen(kept),) if texts.hidden and kept else ()
    if texts.hidden or any(not _is_same(row["file"], texts.managed) for row in kept):
        # The agent's own file was not read: it is another one till the next start, or not ours.
        rows = [row for row in rows if not row["managed"]]
    return *placed(changes(config, rows, documents.of_operator), documents), *unseen


def _is_same(file: str, managed: Path | None) -> bool:
    return managed is not None and Path(file) == managed.absolute()


def _unseen(kept: list[WebhookRow]) -> Problem:
    what = "one webhook" if len(kept) == 1 else f"{len(kept)} webhooks"
    message = f"not checked: this user may not read it, and the agent keeps {what} in it: use sudo"
    return Problem(kept[0]["file"], 1, 1, message)


def changes(config: Config, rows: list[WebhookRow], of_operator: int) -> Iterator[Mistake]:
    """Webhooks that get another organisation, and those that end. Pure.

    Args:
        config: the new one.
        rows: those in force, as the API shows them.
        of_operator: how many of its webhooks are the operator's file's; the agent's follow.
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
            own: KeyPath = ("webhooks", of_operator - 1) if of_operator else ()
            last = ("webhooks", max(of_operator, len(config.webhooks) - 1))
            yield Mistake(last if row["managed"] else own, _ends(row), ("webhooks",))


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
