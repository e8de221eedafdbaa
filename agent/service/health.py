"""What works and what does not: for `/-/ready`, `/v1/status`, `STATUS=` and the people on call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent import __version__
from agent.clock import wall_ms
from agent.model import DeviceState, Platform, SourceName
from agent.service.rows import iso
from agent.store import SQLITE_VERSION

if TYPE_CHECKING:
    from agent.service.rows import Json
    from agent.store import Store
    from agent.tasks import Tasks
    from agent.track.pipeline import Pipeline
    from agent.usage.poller import Poller, SourceReport


ReloadBy = Literal["start", "request", "edit", "signal", "file"]
"""Who wanted it: the start itself; `device-agent reload` or the API; a webhook's edit by the API;
SIGHUP; or nobody, the file had changed."""


IN_FORCE = "the new configuration is in force"
"""So begins what is said of a reload that a part of the agent did not take."""


@dataclass(frozen=True, slots=True)
class LastReload:
    """What came of the last reload; a start counts as a good one."""

    ok: bool = True
    at_ms: int = 0
    error: str = ""
    by: ReloadBy = "start"
    failed: tuple[str, ...] = ()
    """The parts of the agent that did not take it, by a fault of theirs; all others did."""

    @property
    def in_force(self) -> bool:
        """Whether what was loaded counts, be it not everywhere."""
        return self.ok or bool(self.failed)

    def row(self) -> Json:
        """As JSON."""
        error = self.problem().removeprefix("reload: ") if self.failed else self.error
        return {"ok": self.ok, "at": iso(self.at_ms), "by": self.by, "error": error}

    def problem(self) -> str:
        """One line for operators; "" for a good one."""
        if self.ok:
            return ""
        if self.failed:
            return (
                f"reload: {IN_FORCE} since {iso(self.at_ms)}, but not in "
                f"{', '.join(self.failed)}: internal error, see the log and restart the agent"
            )
        first, *more = self.error.splitlines()
        others = f" (and {len(more)} more: device-agent check)" if more else ""
        return f"reload: refused at {iso(self.at_ms)}, the old configuration stays: {first}{others}"


class Health:
    """Reads all parts; `reloaded` is told of reloads."""

    def __init__(self, pipeline: Pipeline, store: Store, poller: Poller, tasks: Tasks) -> None:
        self._pipeline = pipeline
        self._poller = poller
        self._store = store
        self._tasks = tasks
        self.started_ms = self.loaded_ms = wall_ms()
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
    def ready(self) -> bool:
        """States are derived, and can be stored."""
        return self._pipeline.settled and self._store.health.ok

    def report(self) -> Json:
        """`{"ready": bool, "problems": [...], ...}`; problems are in the operator's words."""
        return {
            "ready": self.ready,
            "version": __version__,
            "since": iso(self.started_ms),
            "problems": self._problems(),
            "reload": self.reloaded.row(),
        }

    def usage(self) -> list[Json]:
        """Of each usage source that is polled what it knows, and why it does not."""
        return [_usage_row(source) for source in self._poller.report()]

    def store(self) -> Json:
        """Where the store is, and how it does; `error` says why it cannot be written."""
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
        for (_, state), count in self._pipeline.views.census().states.items():
            counts[state] = counts.get(state, 0) + count
        parts = [f"{count} {state}" for state, count in sorted(counts.items())] or ["no devices"]
        return "; ".join([", ".join(parts), *self._problems()])

    def _problems(self) -> list[str]:
        # usbmuxd comes and goes with the first and the last iPhone; so may its support.
        problems = [
            f"{name}: {reason}"
            for name, reason in sorted(self._pipeline.down.items())
            if name is not SourceName.USBMUX or self._has_iphones()
        ]
        store = self._store.health
        if not store.ok:
            problems.append(f"store: {store.error} ({store.unstored} changes wait in memory)")
        if store.dropped:
            problems.append(f"store: {store.dropped} changes were lost: memory was full")
        if store.recovered_from:
            problems.append(f"store: was corrupt and set aside as {store.recovered_from}")
        if not self.reloaded.ok:
            problems.append(self.reloaded.problem())
        problems += self._tasks.problems
        return problems

    def _has_iphones(self) -> bool:
        return any(
            view.platform is Platform.IOS and view.state is not DeviceState.UNPLUGGED
            for view in self._pipeline.views.all()
        )


def _usage_row(source: SourceReport) -> Json:
    """One source as JSON."""
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
