"""Two agents of one name: who has it. Pure.

Who wants a name asks whether somebody has it, listens, and asks again: of two who ask at the same
time both hear it, and the one whose instance is the smaller keeps the name. What that misses (a
host that was stopped, a broker that was split) shows in the heartbeats, by the same rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.fleet.link import LinkError

if TYPE_CHECKING:
    from agent.fleet.words import Heartbeat, Holder


class NameTakenError(LinkError):
    """Another agent is called so."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"another agent in this fleet is called {host}: give one of the two another host in "
            "[fleet] (a cloned disk needs a state directory of its own, too)"
        )


def loses_to(mine: str, holder: Holder) -> bool:
    """Whether who answered keeps the name from us, who only ask for it."""
    return holder.instance != mine and (holder.holding or holder.instance < mine)


def yields_to(mine: str, heard: Heartbeat, *, holding: bool) -> bool:
    """Whether a heartbeat under our name is of one who keeps it."""
    return heard.instance != mine and (not holding or heard.instance < mine)
