"""What the fleet's subjects, streams and buckets are called. Pure.

Who may use which is in `config/nats.conf`: an agent touches what bears its own name alone.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "da.v1"
TRANSITIONS: Final = "DA_TRANSITIONS"
"""Stream of `t(host)`."""
ALL_TRANSITIONS: Final = f"{PREFIX}.t.*"
DONE: Final = "DA_DONE"
"""Stream of `DONE_SUBJECT`: what the active hub has delivered."""
DONE_SUBJECT: Final = f"{PREFIX}.done"
HOSTS: Final = "da_hosts"
"""Bucket of the agents' snapshots, by host."""
HUB: Final = "da_hub"
"""Bucket of the hubs' lease, key `LEADER`."""
LEADER: Final = "leader"
ALL_BEATS: Final = f"{PREFIX}.hb.*"
ALL_HUB_BEATS: Final = f"{PREFIX}.hub.hb.*"


def t(host: str) -> str:
    """Transitions of an agent."""
    return f"{PREFIX}.t.{host}"


def beat(host: str) -> str:
    """Heartbeats of an agent."""
    return f"{PREFIX}.hb.{host}"


def hub_beat(instance: str) -> str:
    """Heartbeats of a hub."""
    return f"{PREFIX}.hub.hb.{instance}"


def who(host: str) -> str:
    """Asked by an agent: is the name free?"""
    return f"{PREFIX}.h.{host}.who"


def ack(host: str) -> str:
    """Told by the active hub."""
    return f"{PREFIX}.h.{host}.ack"


def since(host: str) -> str:
    """Asked by a hub: the log behind an id."""
    return f"{PREFIX}.h.{host}.since"


def snapshot(host: str) -> str:
    """Asked by a hub: a snapshot now, whatever the bucket has."""
    return f"{PREFIX}.h.{host}.snapshot"


def command(host: str) -> str:
    """Asked by a hub, for an operator."""
    return f"{PREFIX}.h.{host}.command"


def cancel(host: str) -> str:
    """Told by a hub: whoever wanted that command went away."""
    return f"{PREFIX}.h.{host}.cancel"
