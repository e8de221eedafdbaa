"""The store as the rest of the agent sees it: asyncio in front, one writer thread behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.store.calls import Calls, StoreHealth
from agent.store.database import Database
from agent.store.record import Record
from agent.store.tables.attempts import Attempts
from agent.store.tables.backlog import Backlog
from agent.store.tables.callbacks import Callbacks
from agent.store.tables.days import Days
from agent.store.tables.deliveries import Deliveries
from agent.store.tables.devices import Devices
from agent.store.tables.elsewhere import Elsewhere
from agent.store.tables.fleet import Fleet
from agent.store.tables.leases import Leases
from agent.store.tables.log import Log
from agent.store.tables.silences import Silences
from agent.store.tables.transitions import Transitions
from agent.store.tables.watching import Watching
from agent.store.tables.webhooks import Webhooks
from agent.store.take import Take

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.clock import Clock
    from agent.config import Delivery
    from agent.histogram import Tally
    from agent.model import Callback, DeviceRecord, Transition
    from agent.store.tables.fleet import FleetRow


class StoreFigures(NamedTuple):
    """What the store has counted since it was opened; to have them touches no disk."""

    queued: int
    """Changes that are not durable yet."""
    cancelled: int
    """Callbacks cancelled because their webhooks were gone."""
    commits: Tally
    """Seconds that each commit took, its fsync included."""
    failures: int
    """Commits and sweeps that failed."""
    size: int
    """Bytes of the store's files, measured within the last minute."""
    free: int
    """Bytes that are free on their file system for the agent's user, measured likewise."""
    untold: int
    """Transitions deleted by age that the fleet's hub never acknowledged."""


class Store:
    """All that the agent must not forget, in one file.

    Its life; each table's questions and changes are methods of the attribute of that name.

    Used from one event loop. A change is queued by the call itself, in the order of the calls, and
    durable (fsync) when its future is done. While the disk fails, changes wait in memory and so do
    their callers; questions are answered from what is stored. A caller that is cancelled does not
    take its change back. All of them raise StoreError: once the store is closed, when too many
    changes wait, when the store refuses the change (a broken rule of the schema), or, for
    questions, when the file cannot be read.
    """

    def __init__(
        self,
        database: Database,
        *,
        settings: Delivery,
        clock: Clock,
        max_unstored: int,
        on_health: Callable[[StoreHealth], None],
    ) -> None:
        """For `open`, which opens the database."""
        self.directory = database.path.parent
        self._settings = settings
        self._clock = clock
        self._on_health = on_health
        self.made_anew = 0
        """How often the file was made anew since the opening: salvage may have missed some of what
        this store was told."""
        self._recovered_from = database.recovered_from
        calls = self._calls = Calls(
            database,
            lambda: self._retention_ms,
            max_unstored,
            self._health_changed,
            clock,
        )
        self.backlog = Backlog(calls)
        self.devices = Devices(calls)
        self.transitions = Transitions(calls)
        self.days = Days(calls)
        self.watching = Watching(calls)
        self.log = Log(calls)
        self.callbacks = Callbacks(calls, self.backlog, clock)
        self.attempts = Attempts(calls)
        self.deliveries = Deliveries(calls, self.backlog)
        self.webhooks = Webhooks(calls, self.backlog, clock)
        self.leases = Leases(calls)
        self.silences = Silences(calls)
        self.fleet = Fleet(calls)
        self.elsewhere = Elsewhere(calls, self.backlog, clock)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        settings: Delivery,
        clock: Clock,
        max_unstored: int = 100_000,
        on_health: Callable[[StoreHealth], None],
    ) -> Store:
        """Open the store in that directory, which is made (0700) if missing.

        Blocks for milliseconds; longer only to salvage a corrupt file, which
        `health.recovered_from` then names.

        Args:
            directory: the agent's state directory; one agent at a time.
            settings: [delivery], which says how long what is finished is kept.
            clock: of the process; read on the writer's thread too.
            max_unstored: changes kept in memory at most while they cannot be written.
            on_health: called on the loop's thread at every later change of `health`.

        Raises:
            StoreLockedError: another agent uses the directory.
            StoreVersionError: a newer agent wrote the store.
            StoreError: not writable, disk full, disk failing.
        """
        database = Database(directory)
        database.open()
        return cls(
            database,
            settings=settings,
            clock=clock,
            max_unstored=max_unstored,
            on_health=on_health,
        )

    def reconfigure(self, settings: Delivery) -> None:
        """These are in force now."""
        self._settings = settings

    async def close(self) -> None:
        """Commit what is queued, within 3 s, then close and release the lock; idempotent.

        What cannot be stored any more fails for its callers with StoreError.
        """
        await self._calls.close()

    @property
    def health(self) -> StoreHealth:
        """How the store is doing right now."""
        return self._calls.health

    @property
    def kept_since_ms(self) -> int:
        """What finished earlier may be deleted."""
        return self._clock.wall_ms() - self._retention_ms

    @property
    def _retention_ms(self) -> int:
        return round(self._settings.retention * 1000)

    @property
    def figures(self) -> StoreFigures:
        """What was counted since the opening."""
        writer = self._calls.writer
        return StoreFigures(
            queued=self._calls.unstored,
            cancelled=self.webhooks.cancelled,
            commits=writer.commits.tally(),
            failures=writer.failures,
            size=writer.space.used,
            free=writer.space.free,
            untold=writer.untold,
        )

    def record(
        self, record: DeviceRecord, transition: Transition | None, callbacks: Sequence[Callback]
    ) -> asyncio.Future[tuple[Callback, ...]]:
        """Store the device's row, its transition and the callbacks, all or nothing.

        Returns the callbacks with their rowids.
        """
        made = tuple(callbacks)
        return self._calls.change(
            Record(record, transition, made), self.backlog.add if made else None
        )

    def take(
        self, rows: Sequence[FleetRow], records: Sequence[Record]
    ) -> asyncio.Future[tuple[Callback, ...]]:
        """Store the fleet's rows and every record, in order, all or nothing.

        Returns the callbacks with their rowids, but for those whose message ids are there already.
        """
        return self._calls.change(Take(tuple(rows), tuple(records)), self.backlog.add)

    def _health_changed(self, health: StoreHealth) -> None:
        if health.recovered_from != self._recovered_from:
            self._recovered_from = health.recovered_from
            self.made_anew += 1
            self.backlog.forget()
        self._on_health(health)
