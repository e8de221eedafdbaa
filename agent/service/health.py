"""What works and what does not: for `/-/ready`, `/v1/status`, `STATUS=` and the people on call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from agent import __version__
from agent.clock import timestamp
from agent.model import DeviceState, SourceName
from agent.service.reload import LastReload, ReloadRow
from agent.service.rows import Time, iso
from agent.sources.registry import row_of
from agent.store import SQLITE_VERSION
from agent.usage.polled_target import TargetState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.clock import Clock
    from agent.fleet.standing import FleetStatus
    from agent.store import Store
    from agent.tasks import Tasks
    from agent.track.silences import Silences
    from agent.track.tracker import Tracker
    from agent.track.views import Census
    from agent.usage.polled_source import SourceReport
    from agent.usage.poller import Poller


class HealthRow(TypedDict):
    """Whether the agent does its work."""

    ready: bool
    """States are derived, and can be stored."""
    version: str
    since: Time
    problems: list[str]
    """What does not work, for people."""
    reload: ReloadRow


class SourceRow(TypedDict):
    """One device source."""

    source: SourceName
    state: Literal["up", "starting", "down", "resting", "off"]
    """`starting`: it has not spoken since the start. `resting`: what it asks is not there, and no
    phone needs it. `off`: the configuration turns it off."""
    reason: str
    """Why it is not up."""
    remote: bool
    """What it asks runs on another host."""


class TargetRow(TypedDict):
    """One thing that a usage source asks."""

    target: str
    state: TargetState
    reason: str
    sessions: int
    """Devices it has in use."""
    read: Time | None


class UsageRow(TypedDict):
    """One usage source that is polled."""

    source: str
    reason: str
    """Why it cannot say what there is to ask; empty: it can."""
    targets: list[TargetRow]


class StoreRow(TypedDict):
    """Where the store is, and how it does."""

    directory: str
    sqlite: str
    """Its version."""
    ok: bool
    """It can be written."""
    error: str
    """Why not."""
    waiting: int
    """Changes kept in memory."""
    lost: int
    """Changes refused: memory was full."""
    recovered_from: str
    """The corrupt file that was set aside."""
    size: int
    """Bytes."""
    free: int
    """Bytes on its file system."""


class FleetRow(TypedDict):
    """How this agent stands in its fleet."""

    host: str
    """What it is called there."""
    state: Literal["connected", "refused", "lost"]
    """`refused`: another agent has its name. `lost`: the broker cannot be reached, or not yet."""
    since: Time
    """Since when it is connected, or is not."""
    error: str
    """What failed last, also where it works again."""
    unacked: int
    """Transitions that no hub is known to have stored: they wait here."""
    acked: Time | None
    """When the hub last acknowledged any; null: not since the start."""
    snapshot_bytes: int
    """Of the last snapshot, as it was sent."""
    reconnects: int
    bad_messages: int
    """From the broker, and none of ours."""


class StatusRow(HealthRow):
    """What works and what does not."""

    silences: int
    """Silences in force."""
    sources: list[SourceRow]
    """Each device source."""
    usage: list[UsageRow]
    """Each usage source that is polled."""
    store: StoreRow
    fleet: FleetRow | None
    """Null: this agent is in no fleet."""
    host: str


class Health:
    """Reads all parts; `reloaded` is told of reloads."""

    def __init__(
        self,
        pipeline: Tracker,
        store: Store,
        poller: Poller,
        silences: Silences,
        fleet: Callable[[], FleetStatus | None],
        tasks: Tasks,
        clock: Clock,
        host: str,
    ) -> None:
        self._pipeline = pipeline
        self._host = host
        self._poller = poller
        self._silences = silences
        self._store = store
        self._fleet = fleet
        self._tasks = tasks
        self.started_ms = self.loaded_ms = clock.wall_ms()
        """Of the agent, and of the configuration in force."""
        self._reloaded = LastReload()

    @property
    def reloaded(self) -> LastReload:
        """The last reload."""
        return self._reloaded

    @reloaded.setter
    def reloaded(self, reloaded: LastReload) -> None:
        self._reloaded = reloaded
        if reloaded.in_force:
            self.loaded_ms = reloaded.at_ms

    @property
    def fleet(self) -> FleetStatus | None:
        """How this agent stands in its fleet; None: it is in none."""
        return self._fleet()

    @property
    def ready(self) -> bool:
        """States are derived, and can be stored."""
        return self._pipeline.derives and self._store.health.ok

    def row(self) -> HealthRow:
        """Whether it does its work, and what does not work, in the operator's words."""
        return self._row(self._missed(self._pipeline.views.census()))

    def _row(self, missed: Mapping[SourceName, str]) -> HealthRow:
        return {
            "ready": self.ready,
            "version": __version__,
            "since": timestamp(self.started_ms),
            "problems": self._problems(missed),
            "reload": self.reloaded.row(),
        }

    def status(self) -> StatusRow:
        """That, and how the usage sources and the store stand."""
        usage = [_usage_row(source) for source in self._poller.report()]
        missed = self._missed(self._pipeline.views.census())
        return {
            **self._row(missed),
            "silences": self._silences.count,
            "sources": [self._source_row(name, missed) for name in SourceName],
            "usage": usage,
            "store": self._store_row(),
            "fleet": _fleet_row(self.fleet),
            "host": self._host,
        }

    def _source_row(self, name: SourceName, missed: Mapping[SourceName, str]) -> SourceRow:
        pipeline = self._pipeline
        reason = pipeline.down.get(name, "")
        state: Literal["up", "starting", "down", "resting", "off"] = "up"
        if name not in pipeline.enabled:
            state, reason = "off", "turned off in the configuration"
        elif name in pipeline.waiting:
            state = "starting"
        elif reason:
            state = "down" if name in missed else "resting"
        return {
            "source": name,
            "state": state,
            "reason": reason,
            "remote": name in pipeline.remote,
        }

    def _store_row(self) -> StoreRow:
        health, figures = self._store.health, self._store.figures
        return {
            "directory": str(self._store.directory),
            "sqlite": SQLITE_VERSION,
            "ok": health.ok,
            "error": health.error,
            "waiting": health.unstored,
            "lost": health.dropped,
            "recovered_from": health.recovered_from,
            "size": figures.size,
            "free": figures.free,
        }

    def status_line(self) -> str:
        """One line: how many devices in which state, then what does not work."""
        counts: dict[str, int] = {}
        census = self._pipeline.views.census()
        for (_, state), count in census.states.items():
            counts[state] = counts.get(state, 0) + count
        parts = [f"{count} {state}" for state, count in sorted(counts.items())] or ["no devices"]
        if census.silenced:
            parts.append(f"{census.silenced} silenced")
        return "; ".join([", ".join(parts), *self._problems(self._missed(census))])

    def _problems(self, missed: Mapping[SourceName, str]) -> list[str]:
        problems = [f"{name}: {reason}" for name, reason in sorted(missed.items())]
        store = self._store.health
        if not store.ok:
            problems.append(f"store: {store.error} ({store.unstored} changes wait in memory)")
        if store.dropped:
            problems.append(f"store: {store.dropped} changes were lost: memory was full")
        if store.recovered_from:
            problems.append(f"store: was corrupt and set aside as {store.recovered_from}")
        if (fleet := self.fleet) is not None and fleet.problem:
            problems.append(f"fleet: {fleet.problem}")
        if not self.reloaded.ok:
            problems.append(self.reloaded.problem())
        problems += self._pipeline.problems
        problems += self._tasks.problems
        return problems

    def _missed(self, census: Census) -> dict[SourceName, str]:
        """The sources that cannot see and are wanted, each with its reason.

        Usbmuxd comes and goes with the first and the last iPhone; so may its support.
        """
        here = {platform for platform, state in census.states if state is not DeviceState.UNPLUGGED}
        return {
            name: reason
            for name, reason in self._pipeline.down.items()
            if not row_of(name).rests or row_of(name).platform in here
        }


def _fleet_row(fleet: FleetStatus | None) -> FleetRow | None:
    if fleet is None:
        return None
    state: Literal["connected", "refused", "lost"] = "connected" if fleet.connected else "lost"
    return {
        "host": fleet.host,
        "state": "refused" if fleet.refused else state,
        "since": timestamp(fleet.since_ms),
        "error": fleet.error,
        "unacked": fleet.unacked,
        "acked": iso(fleet.acked_ms),
        "snapshot_bytes": fleet.snapshot_bytes,
        "reconnects": fleet.reconnects,
        "bad_messages": fleet.bad_messages,
    }


def _usage_row(source: SourceReport) -> UsageRow:
    return {
        "source": source.source,
        "reason": source.reason,
        "targets": [
            {
                "target": target.target,
                "state": target.state,
                "reason": target.reason,
                "sessions": target.sessions,
                "read": iso(target.read_ms),
            }
            for target in source.targets
        ],
    }
