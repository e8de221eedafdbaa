"""What befalls the fleet, and when: made of a seed, so that a failure can be had again. Pure."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Final


class Fault(enum.StrEnum):
    """What can befall it; who of several it is, `Befalls.pick` says."""

    KILL_SERVER = "a server is killed"
    WIPE_SERVER = "a server is killed, and its store removed"
    PAUSE_LEADER = "the server that leads the stream is stopped, and continued"
    DELETE_STREAM = "the stream is deleted"
    NO_SERVERS = "all servers are killed: the hubs are blind"
    KILL_HOST = "an agent is killed"
    CUT_HOST = "a host is cut off the network"
    KILL_ACTIVE = "the active hub is killed"
    KILL_STANDBY = "the standby is killed"
    PAUSE_ACTIVE = "the active hub is stopped, and continued"
    KILL_RECEIVER = "the receiver is killed"


HOST_GRACE: Final = 20.0
SOURCE_GRACE: Final = 2.0
MOVE_HOLD: Final = 12.0
"""Seconds. A beat comes every 5 s. An agent whose server is stopped finds that out within 9 s, and
has another one 2 s later: such a host is not lost, and a phone that comes there meanwhile has not
been unplugged. Whoever is cut off for `LASTS` is lost."""
LASTS: Final[dict[Fault, tuple[float, float]]] = {
    Fault.KILL_SERVER: (0.5, 6.0),
    Fault.WIPE_SERVER: (0.5, 3.0),
    Fault.PAUSE_LEADER: (30.0, 30.0),
    Fault.DELETE_STREAM: (0.0, 0.0),
    Fault.NO_SERVERS: (HOST_GRACE + SOURCE_GRACE + 6, HOST_GRACE + SOURCE_GRACE + 6),
    Fault.KILL_HOST: (0.2, 3.0),
    Fault.CUT_HOST: (HOST_GRACE + SOURCE_GRACE + 8, HOST_GRACE + SOURCE_GRACE + 8),
    Fault.KILL_ACTIVE: (0.2, 20.0),
    Fault.KILL_STANDBY: (0.2, 3.0),
    Fault.PAUSE_ACTIVE: (40.0, 40.0),
    Fault.KILL_RECEIVER: (0.5, 5.0),
}
"""Seconds from its beginning to its end: at least, at most."""


@dataclass(frozen=True, slots=True)
class Befalls:
    """One fault."""

    fault: Fault
    pause: float
    """Seconds since the one before was over."""
    lasts: float
    pick: int
    """Whom it befalls: that one, counted round."""


def schedule(seed: int, rounds: int) -> list[Befalls]:
    """All faults, each round in another order."""
    at = random.Random(seed)
    made: list[Befalls] = []
    for _ in range(rounds):
        faults = list(Fault)
        at.shuffle(faults)
        made += [
            Befalls(each, at.uniform(0.5, 4.0), at.uniform(*LASTS[each]), at.randrange(1000))
            for each in faults
        ]
    return made
