"""What the hub's desks go by: which hosts there are, and what each last told of its leases.

Rows come from agents, and are read key by key; what makes no sense is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agent.fleet.hub.hosts import Presence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.fleet.hub.board import Phone
    from agent.fleet.hub.hosts import Host
    from agent.fleet.words import HostSnapshot

    Row = Mapping[str, Any]


class _Board(Protocol):
    phones: dict[str, Phone]


class _Core(Protocol):
    @property
    def board(self) -> _Board:
        """Which phone is whose."""

    hosts: dict[str, Host]
    latest: dict[str, HostSnapshot]


class Hosts(Protocol):
    """See `agent.fleet.hub.pipeline.FleetPipeline`."""

    @property
    def core(self) -> _Core:
        """What was told."""


class Directory:
    """Looks; changes nothing."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def names(self) -> list[str]:
        """Of all hosts that are known, sorted."""
        return sorted(self._hosts.core.hosts)

    def reachable(self) -> list[str]:
        """Of all but those that are gone: one that was renamed, or taken away, is so for good."""
        hosts = self._hosts.core.hosts
        return [name for name in self.names() if hosts[name].presence is not Presence.GONE]

    def lost(self, host: str) -> str:
        """Why it cannot be reached, as far as the hub has noticed; "": nothing is known against."""
        known = self._hosts.core.hosts.get(host)
        if known is None or known.presence not in {Presence.LOST, Presence.GONE}:
            return ""
        return (
            f"{host} is lost: nothing is heard of its agent. Does it run (systemctl status "
            "device-agent), and does it reach the broker?"
        )

    def place(self, udid: str) -> tuple[str, str] | None:
        """Whose phone it is, and what it is called there; None: no host has told of it."""
        phone = self._hosts.core.board.phones.get(udid)
        forgotten = phone is None or phone.owner not in self._hosts.core.hosts
        return None if phone is None or forgotten else (phone.owner, phone.serial)

    def name_of(self, host: str, serial: str) -> str:
        """What the fleet calls a phone of that host."""
        phones = self._hosts.core.board.phones
        twin = f"{serial}@{host}"
        return twin if twin in phones and phones[twin].owner == host else serial

    def leases(self) -> Iterator[tuple[str, Row]]:
        """Rows of all hosts but those that are gone: theirs may have ended long ago."""
        for host, snapshot in self._latest():
            for row in snapshot.leases:
                yield host, row

    def silences(self) -> Iterator[tuple[str, Row]]:
        """Likewise."""
        for host, snapshot in self._latest():
            for row in snapshot.silences:
                yield host, row

    def _latest(self) -> Iterator[tuple[str, HostSnapshot]]:
        core = self._hosts.core
        for name, snapshot in sorted(core.latest.items()):
            host = core.hosts.get(name)
            if host is not None and host.presence is not Presence.GONE:
                yield name, snapshot
