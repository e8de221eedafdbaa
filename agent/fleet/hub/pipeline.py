"""The hub's tracker: phones whose states come from their agents, in place of `track.pipeline`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import BlindError, HostAliveError, StoreError, UnknownHostError
from agent.fleet.hub.board import Board, Policy
from agent.fleet.hub.commits import FleetCommits
from agent.fleet.hub.core import Core
from agent.fleet.hub.hosts import Host, Presence
from agent.fleet.hub.roster import FleetRoster
from agent.fleet.hub.seen_time import BLIND, SeenTime
from agent.fleet.hub.status import HostStatus
from agent.fleet.hub.views import FleetViews
from agent.history.watch import Sight
from agent.model import SourceName
from agent.text import elapsed, printable
from agent.track.telling import say
from agent.track.waits import count as count_waits
from agent.track.waits import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.clock import Clock
    from agent.config import Config
    from agent.deliver.outbox import Outbox
    from agent.fleet.hub.commits import Taker
    from agent.fleet.hub.entry import Entry
    from agent.fleet.hub.stored import Kept, Mark
    from agent.fleet.words import HostSnapshot
    from agent.model import Callback, DeviceRecord
    from agent.track.waits import Waiting

log = structlog.get_logger(__name__)

STORED: Final = 10.0
"""Seconds that the disk may take for what an operator waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Who is told what; each is to publish that, or to note it, and to do nothing else."""

    notify: Callable[[Sequence[Callback]], None]
    """Of callbacks once they are durable, in order."""
    stored: Callable[[], None]
    """Whenever transitions became durable."""
    changed: Callable[[str], None]
    """Of each device whose view may have changed."""
    silenced: Callable[[], None]
    """Whenever the agents' silences are others."""


class FleetPipeline:
    """See `agent.track.tracker.Tracker`. What it takes comes through `core`.

    Args:
        config: the one in force.
        records: the devices as stored.
        kept: what the store has of the fleet.
        store: where all of it is committed.
        outbox: which callbacks a transition makes.
        clock: of the process.
        ears: who is told.
    """

    def __init__(
        self,
        config: Config,
        records: Iterable[DeviceRecord],
        kept: Kept,
        store: Taker,
        outbox: Outbox,
        clock: Clock,
        ears: Ears,
    ) -> None:
        records = list(records)
        self._clock = clock
        self._ears = ears
        self._stopped = False
        self.durable: dict[str, Mark] = {mark.host: mark for mark in kept.marks}
        """How far each host's log is on this disk."""
        self.acks: dict[str, None] = {}
        """Hosts to which that is to be said."""
        self.on_durable: Callable[[], None] = _nobody
        """Called when there are acks to be told."""
        self.reason = "not connected yet"
        """Why nothing is heard; "": the broker is."""
        self.seen = SeenTime()
        board = Board(_policy(config))
        for mark in kept.marks:
            board.hosts[mark.host] = Host(
                mark.host, mark.epoch, mark.cursor, check=mark.check, last=mark.cursor
            )
        board.restore(records, kept.told)
        entries: dict[str, Entry] = {}
        self.roster = FleetRoster(config, board, entries)
        self.commits = FleetCommits(
            board,
            entries,
            self.roster.device,
            store,
            outbox,
            clock,
            ears.notify,
            ears.stored,
            self._changed,
            self._durable,
            self._refused,
        )
        self.commits.restore(records)
        self.core = Core(board, self.commits, self.seen, clock, self._changed, ears.silenced)
        self.views = FleetViews(board, self.commits, self.roster)

    # --- as a tracker -----------------------------------------------------------------------

    @property
    def derives(self) -> bool:
        """Whether the hub hears itself, and so can decide."""
        return not self.blind

    @property
    def blind(self) -> bool:
        """Whether it does not."""
        return self.seen.blind(self._clock.monotonic())

    down: Mapping[SourceName, str] = MappingProxyType({})
    """It has no sources."""
    enabled: frozenset[SourceName] = frozenset()
    remote: frozenset[SourceName] = frozenset()
    waiting: frozenset[SourceName] = frozenset()

    def waits(self, udid: str) -> list[Waiting]:
        """Which webhooks wait for the state of a device that is known to last."""
        entry = self.commits.entries.get(udid)
        if entry is None:
            return []
        return waiting(entry.owed, entry.record.state, self.commits.outbox)

    @property
    def wait_count(self) -> int:
        """How many wait, for one device each; but for those that a silence keeps back."""
        return count_waits(entry.owed for entry in self.commits.entries.values())

    def sights(self) -> dict[str, Sight]:
        """What the agents see that are there, as they told it last; nothing, while it is blind."""
        now = self._clock.monotonic()
        if self.seen.blind(now):
            return {}
        passed = self.seen.seconds + self.seen.since(now)
        return {
            host.name: Sight(
                {each: each not in host.down for each in SourceName}, passed - host.heard
            )
            for host in self.core.hosts.values()
            if host.caught_up
        }

    @property
    def problems(self) -> list[str]:
        """What does not work, for people."""
        if self.blind:
            silent = f"no own heartbeat in {BLIND:g} s"
            return [f"fleet: the hub is blind, and decides nothing: {self.reason or silent}"]
        told = (_problem(host, self.seen.seconds) for _, host in sorted(self.core.hosts.items()))
        return [f"fleet: {each}" for each in told if each]

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration."""
        self.core.board.policy = _policy(config)
        self.commits.reconfigure()
        if self.roster.reconfigure(config):
            for udid in self.roster.udids():
                self._changed(udid)

    def silences_changed(self) -> None:
        """None of the hub's own: silences are the agents'."""

    def overdue(self) -> float:
        """Nothing here is timed but by the hub's heartbeat, without which nothing is due."""
        return 0.0

    def store_again(self) -> None:
        """Store all that is known anew: the store was made anew, and may not know it."""
        self.commits.again(self.core.marks())

    async def first_derived(self) -> None:
        """Return at once: what is stored counts until the hub hears of something else."""

    def told(self, host: str) -> HostSnapshot | None:
        """All that a host said last: its leases and silences, too; None: nothing yet."""
        return self.core.latest.get(host)

    def stop(self) -> None:
        """Decide nothing more, whatever is said from now on: the hub stops."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether it does."""
        return self._stopped

    async def close(self) -> None:
        """`stop`, and wait until everything decided is durable (or the store has refused it)."""
        self.stop()
        self.commits.commit()
        await self.commits.drain()

    # --- for operators ----------------------------------------------------------------------

    def check_forgettable(self, name: str) -> HostStatus:
        """How a host stands that may be forgotten.

        Raises:
            BlindError: the hub hears nothing, so nobody knows.
            UnknownHostError: it is none of the fleet's.
            HostAliveError: it is there, or may be.
        """
        if self.blind or self._stopped:
            raise BlindError(
                f"the hub is blind, and does not know whether {printable(name)!r} is alive: "
                f"{self.reason or 'it does not hear itself'}"
            )
        host = self.core.hosts.get(name)
        if host is None:
            known = sorted(self.core.hosts)
            shown = ", ".join(known[:5]) + (" …" if len(known) > 5 else "")  # noqa: PLR2004 - as sliced
            raise UnknownHostError(
                f"the fleet has no host {printable(name)!r}; it has: {shown or 'none'}"
            )
        if why := host.why_keep(self.seen.seconds, self.core.board.policy.host_grace):
            raise HostAliveError(why)
        return self._status(
            host, sum(n for (at, _), n in self.views.by_host().items() if at == name)
        )

    async def forget(self, name: str) -> None:
        """A host is known no more, nor what it told: all of it in one transaction.

        Raises:
            StoreError: the store does not have it so, and will with the next change that it takes.
        """
        self.commits.commit()
        self.core.drop(name)
        self.durable.pop(name, None)
        self.acks.pop(name, None)
        self.commits.commit()
        say(log.info, "fleet.host_forgotten", host=name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STORED):
                await self.commits.drain()
                if not self.commits.is_marked(name):
                    return
        raise StoreError(
            f"{name} is forgotten, and the store has not taken that: after a restart the hub may "
            "know it again; see `device-agent doctor`"
        )

    def hosts(self) -> list[HostStatus]:
        """How each stands, by name."""
        devices: dict[str, int] = {}
        for (host, _), count in self.views.by_host().items():
            devices[host] = devices.get(host, 0) + count
        return [
            self._status(host, devices.get(name, 0))
            for name, host in sorted(self.core.hosts.items())
        ]

    def _status(self, host: Host, devices: int) -> HostStatus:
        seen = self.seen.seconds
        return HostStatus(
            host.name,
            host.presence,
            host.caught_up,
            host.epoch,
            host.cursor,
            host.lag,
            seen - host.heard if host.beats else None,
            host.version,
            devices,
            _problem(host, seen),
        )

    def _durable(self, marks: Sequence[Mark]) -> None:
        for mark in marks:
            self.durable[mark.host] = mark
            self.acks[mark.host] = None
        self.on_durable()

    def _changed(self, udid: str) -> None:
        self.views.changed(udid)
        self._ears.changed(udid)

    def _refused(self, hosts: Iterable[str]) -> None:
        self.core.forget(hosts)


def _nobody() -> None:
    """Nobody hears."""


def _problem(host: Host, seen: float) -> str:
    if host.presence not in {Presence.LOST, Presence.GONE}:
        return ""
    return (
        f"host {host.name} is lost: no heartbeat for {elapsed(seen - host.heard)}; does its agent "
        "run, and reach the broker?"
    )


def _policy(config: Config) -> Policy:
    return Policy(config.fleet.host_grace, config.hold.source_grace, config.fleet.move_hold)
