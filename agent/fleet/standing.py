"""How an agent stands in its fleet: noted as it happens, shown wherever operators look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.fleet.complaints import Complaints
from agent.text import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.store.tables.log import LogState

PATIENCE: Final = 30.0
"""Seconds for which a missing connection is no news: a broker that is begun anew."""
SILENT: Final = 120.0
"""Seconds without any progress of what waits to be acknowledged: no hub does its work."""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """At one moment."""

    host: str
    """What this agent is called."""
    connected: bool
    """Its name is its own, and the broker reached."""
    since_ms: int
    """Since when it is connected or is not."""
    refused: str
    """Why its name is not given to it; "": it is."""
    error: str
    """What failed last, be it connected again or not."""
    unacked: int
    """Transitions that the hub is not known to have stored."""
    acked_ms: int
    """When the hub last acknowledged any; 0: not since the start."""
    waiting: float
    """Seconds for which what waits has made no progress; 0: nothing waits."""
    snapshot_bytes: int
    """Of the last snapshot, as it went out."""
    reconnects: int
    """Connections since the start, but for the first."""
    bad_messages: int
    """Of the hub or of strangers: none of ours."""
    problem: str
    """What to tell operators; "": nothing."""


class Standing:
    """Of one uplink, over all its connections.

    Args:
        host: what this agent is called.
        clock: of the process.
        changed: called when `problem` may say something else.
    """

    def __init__(self, host: str, clock: Clock, changed: Callable[[], None]) -> None:
        self.host = host
        self._clock = clock
        self._changed = changed
        self._connected = False
        self._since_ms = clock.wall_ms()
        self._since = clock.monotonic()
        self._connections = 0
        self._refused = ""
        self._error = ""
        self._stream_error = ""
        self._log: LogState | None = None
        self._acked_ms = 0
        self._moved = 0.0
        """When what waits last made progress, or began to wait."""
        self._snapshot_bytes = 0
        self._bad = Complaints(clock)
        self._told = ""

    @property
    def log(self) -> LogState | None:
        """Where the log stood when it was last looked at."""
        return self._log

    def connected(self) -> None:
        """The name is ours."""
        self._turn(connected=True)
        self._connections += 1
        self._refused = self._stream_error = ""
        self.look()

    def lost(self, why: str, *, refused: bool = False) -> None:
        """It is not, or no longer."""
        if self._connected:
            self._turn(connected=False)
        self._error = why
        self._refused = why if refused else ""
        self.look()

    def stream(self, error: str) -> None:
        """Whether the broker takes what we append; "": it does."""
        self._stream_error = error
        if error:
            self._error = error

    def saw(self, state: LogState) -> None:
        """The log stands so."""
        before = self._log
        if before is None or not before.unsent or (state.acked or 0) > (before.acked or 0):
            self._moved = self._clock.monotonic()
        self._log = state

    def acked(self) -> None:
        """The hub has acknowledged something."""
        self._acked_ms = self._clock.wall_ms()

    def snapshot(self, size: int) -> None:
        """A snapshot of so many bytes is out."""
        self._snapshot_bytes = size

    def bad(self, error: str) -> None:
        """A message is none of ours: counted, and said once a minute."""
        self._bad.add(error)

    def look(self) -> None:
        """Tell of it where there is another problem than before, or none any more."""
        kind = self._problem()[0]
        if kind != self._told:
            self._told = kind
            self._changed()

    @property
    def status(self) -> FleetStatus:
        """Now."""
        return FleetStatus(
            host=self.host,
            connected=self._connected,
            since_ms=self._since_ms,
            refused=self._refused,
            error=self._error,
            unacked=self._log.unsent if self._log is not None else 0,
            acked_ms=self._acked_ms,
            waiting=self._waiting,
            snapshot_bytes=self._snapshot_bytes,
            reconnects=max(0, self._connections - 1),
            bad_messages=self._bad.count,
            problem=self._problem()[1],
        )

    @property
    def _waiting(self) -> float:
        if self._log is None or not self._log.unsent:
            return 0.0
        return self._clock.monotonic() - self._moved

    def _turn(self, *, connected: bool) -> None:
        self._connected = connected
        self._since_ms = self._clock.wall_ms()
        self._since = self._clock.monotonic()

    def _problem(self) -> tuple[str, str]:
        """Its kind, and its words."""
        since = self._clock.monotonic() - self._since
        waits = ""
        if self._log is not None and self._log.unsent:
            waits = f"; {self._log.unsent} transitions wait here for the hub"
        if self._refused:
            return "refused", self._refused + waits
        if not self._connected and since >= PATIENCE:
            return "lost", f"not connected for {elapsed(since)}: {self._error}{waits}"
        if self._connected and self._waiting >= SILENT:
            hint = self._stream_error or "is one running, with this broker?"
            return "silent", (
                f"no hub has acknowledged anything for {elapsed(self._waiting)}{waits}: {hint}"
            )
        return "", ""
