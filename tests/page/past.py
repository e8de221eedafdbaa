"""A past for a lab's agent: what its phones went through before it was started."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.page.kit import Lab

MINUTE, HOUR, DAY = 60, 3_600, 86_400
FOREVER = 366 * DAY


class Move(NamedTuple):
    """A phone came to be so, that many seconds ago."""

    ago: float
    udid: str
    state: str
    reason: str = ""
    code: str = ""
    holder: str = ""
    port: str = ""


async def give(lab: Lab, moves: Iterable[Move], unseen: Iterable[tuple[float, float]] = ()) -> int:
    """Restart the lab's agent with that past instead of its own.

    Args:
        lab: at work; its phones stay plugged in.
        moves: in any order; what changes no state is left out.
        unseen: from and to, in seconds ago, in which no agent looked.

    Returns:
        The time that the seconds are counted back from, in milliseconds.
    """
    await lab.agent.stop()
    now = int(time.time() * 1000)
    past = sorted(moves, reverse=True)
    looked = [FOREVER, *(each for gap in sorted(unseen, reverse=True) for each in gap), -HOUR]
    before: dict[str, str] = {}
    with closing(sqlite3.connect(lab.place / "state" / "state.db")) as store, store:
        store.execute("DELETE FROM transitions")
        store.execute("DELETE FROM watching")
        for ago, udid, state, reason, code, holder, port in past:
            if before.get(udid) == state:
                continue
            why = {key: text for key, text in (("code", code), ("port", port)) if text}
            row = (udid, before.get(udid), state, reason, now - int(ago * 1000), holder, "")
            store.execute(
                "INSERT INTO transitions (udid, previous, state, reason, at_ms, holder, host, why)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, json.dumps(why) if why else ""),
            )
            before[udid] = state
        for start, end in zip(looked[::2], looked[1::2], strict=True):
            store.execute(
                "INSERT INTO watching VALUES ('', ?, ?, ?)",
                (now - int(start * 1000), now - int(end * 1000), '{"adb": true}'),
            )
    await lab.start()
    return now
