"""The thread that owns the database: takes changes and questions, commits in groups.

Everything that is waiting when the thread turns to it shares one transaction and one fsync.
Changes are stored in the order in which they were put. While the disk fails they wait in memory,
in order, and are tried again with a growing pause; questions are still answered from what is
stored, if it can be read.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from agent.errors import AgentError, StoreError
from agent.histogram import Histogram
from agent.store import files, retention
from agent.store.ageing import Ageing
from agent.store.database import explain_write
from agent.store.rollup import Roller
from agent.store.tables import meta

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Callable, Sequence

    from agent.clock import Clock
    from agent.store.database import Database

log = structlog.get_logger(__name__)

BATCH_MAX = 1_000
"""Changes in one transaction."""
_TAKE_MAX = 10 * BATCH_MAX
_BACKOFF_FIRST = 0.5
_BACKOFF_LAST = 5.0
_LOG_EVERY = 60.0
_SWEEP_FIRST = 1.0
_SWEEP_BUSY = 2.0
_SWEEP_IDLE = 60.0
_SWEEP_OVERDUE = 30.0
"""Seconds after which a sweep no longer waits for an idle moment."""
_AGED_EVERY_MS = 600_000
"""After so much time of ageing it is stored how far that is."""
_ROLL_PAGE = 1_000
_ROLL_SECONDS = 0.03
_MEASURE_EVERY = 5.0
COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: from a disk with a battery behind it to one that is about to die."""


class Job(NamedTuple):
    """One change (`writes`) or question, and the future on the loop that waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    writes: bool
    then: Callable[[Any], None] | None = None
    """Takes the result on the loop's thread: of all jobs in order, whoever still waits."""


class Settled(NamedTuple):
    """What came of a job: a result or an error."""

    job: Job
    result: Any
    error: Exception | None


class Status(NamedTuple):
    """The thread's view of the disk; replaced, never changed."""

    error: str = ""
    recovered_from: str = ""


class Space(NamedTuple):
    """Bytes on the disk."""

    used: int = 0
    free: int = 0


class Writer:
    """Runs the thread.

    `put` and `stop` are called on the loop's thread; `report` is called on the writer's thread with
    what was settled (maybe nothing) whenever there is news.
    """

    def __init__(
        self,
        database: Database,
        report: Callable[[Sequence[Settled]], None],
        retention_ms: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._retention_ms = retention_ms
        self._ageing: Ageing | None = None
        self._roller = Roller(_ROLL_PAGE, _ROLL_SECONDS)
        self._database = database
        self._report = report
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._changes: deque[Job] = deque()
        self._questions: list[Job] = []
        self._stopping = False
        self._backoff = 0.0
        self._retry_at = 0.0
        self._log_at = 0.0
        self._sweep_at = time.monotonic() + _SWEEP_FIRST
        self._measure_at = 0.0
        self.status = Status(recovered_from=database.recovered_from)
        self.commits = Histogram(COMMIT_BOUNDS)
        self.failures = 0
        self.untold = 0
        self._untold_log_at = 0.0
        self.space = Space()
        # A daemon: a disk that hangs for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a job; never blocks. Not to be called after `stop`."""
        self._queue.put(job)

    def stop(self) -> None:
        """Commit what was put, once, and end. To be called once."""
        self._queue.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the end, which comes after the last report; False if it did not come in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._measure()
            self._take()
            self._write()
            self._answer()
            self._sweep()
        self._retry_at = 0.0
        while self._changes and self._write():
            pass
        self._database.close()
        if self._changes:
            log.error("store.closed_with_loss", changes=len(self._changes), error=self.status.error)
            lost = StoreError(f"the agent stopped before it could be stored: {self.status.error}")
            self._report([Settled(job, None, lost) for job in self._changes])

    @property
    def _faulty(self) -> bool:
        return bool(self.status.error)

    def _patience(self) -> float:
        if self._faulty:
            return self._retry_at - time.monotonic()
        return 0.0 if self._changes else self._sweep_at - time.monotonic()

    def _take(self) -> None:
        patience = self._patience()
        try:
            if patience > 0:
                self._sort(self._queue.get(timeout=patience))
            for _ in range(_TAKE_MAX):
                self._sort(self._queue.get_nowait())
        except Empty:
            pass

    def _sort(self, job: Job | None) -> None:
        if job is None:
            self._stopping = True
        elif job.writes:
            self._changes.append(job)
        else:
            self._questions.append(job)

    def _write(self) -> bool:
        """Commit one batch; an empty one is the test whether a failing disk is well again."""
        if time.monotonic() < self._retry_at or not (self._changes or self._faulty):
            return True
        batch = list(islice(self._changes, BATCH_MAX))
        began = time.monotonic()
        try:
            outcomes = self._database.commit([job.work for job in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the changes are kept and tried again
            self._fault(error)
            return False
        if batch:
            self.commits.observe(time.monotonic() - began)
        settled = []
        for outcome in outcomes:
            job = self._changes.popleft()
            settled.append(Settled(job, outcome.result, _refusal(outcome.refusal)))
        if self._faulty:
            log.info("store.well_again", file=str(self._database.path), still=len(self._changes))
        self._backoff = self._retry_at = self._log_at = 0.0
        self.status = Status(recovered_from=self._database.recovered_from)
        self._report(settled)
        return True

    def _fault(self, error: Exception) -> None:
        now = time.monotonic()
        self.failures += 1
        self._backoff = min(_BACKOFF_LAST, self._backoff * 2 or _BACKOFF_FIRST)
        self._retry_at = now + self._backoff
        text = explain_write(self._database.path, error)
        if text != self.status.error or now >= self._log_at:
            log.error("store.cannot_write", error=text, kept_in_memory=len(self._changes))
            self._log_at = now + _LOG_EVERY
        self.status = Status(text, self._database.recovered_from)
        self._report(())

    def _answer(self) -> None:
        questions, self._questions = self._questions, []
        settled = []
        for job in questions:
            try:
                settled.append(Settled(job, self._database.read(job.work), None))
            except Exception as error:  # noqa: BLE001 - the asker gets it
                settled.append(Settled(job, None, _unreadable(error)))
        if self._database.recovered_from != self.status.recovered_from:
            self.status = self.status._replace(recovered_from=self._database.recovered_from)
        if settled:
            self._report(settled)

    def _measure(self) -> None:
        """Here, because a disk that hangs may hold up this thread and no other."""
        now = time.monotonic()
        if now < self._measure_at:
            return
        self._measure_at = now + _MEASURE_EVERY
        path = self._database.path
        used = 0
        for each in (path, files.beside(path, "-wal")):
            with suppress(OSError):
                used += each.stat().st_size
        with suppress(OSError):
            disk = os.statvfs(path.parent)
            self.space = Space(used, disk.f_bavail * disk.f_frsize)

    def _sweep(self) -> None:
        late = time.monotonic() - self._sweep_at
        if late < 0 or self._faulty or self._stopping:
            return
        if late < _SWEEP_OVERDUE and (self._changes or not self._queue.empty()):
            return
        try:
            now = self._database.read(self._aged)
            rolling = self._database.read(lambda conn: self._roller.step(conn, now))
            before = now - self._retention_ms()
            swept = self._database.read(lambda conn: retention.sweep(conn, before))
            more = swept.more or rolling
        except Exception as error:  # noqa: BLE001 - seen early, before a change meets the same fault
            more = False
            self._fault(error)
        else:
            self._note_untold(swept.untold)
            if swept.unrolled:
                log.error(
                    "store.unrolled_deleted",
                    transitions=swept.unrolled,
                    hint="there are more than can be kept until their days are reckoned up: what "
                    "reports say of those days is incomplete",
                )
        self._sweep_at = time.monotonic() + (_SWEEP_BUSY if more else _SWEEP_IDLE)

    def _aged(self, conn: sqlite3.Connection) -> int:
        """The time by which things are old."""
        wall, steady = self._clock.wall_ms(), self._clock.monotonic()
        last = meta.find(conn, meta.AGED)
        if self._ageing is None:
            self._ageing = Ageing(last, wall, steady)
        doubted = self._ageing.doubts
        now = self._ageing.now(wall, steady)
        if abs(now - last) >= _AGED_EVERY_MS:
            meta.enter(conn, meta.AGED, now)
        if self._ageing.doubts and not doubted:
            log.info(
                "store.clock_leapt",
                seconds=(wall - now) // 1000,
                hint="nothing is deleted for its age until the clock has run on for an hour: "
                "if it is wrong, set it right by then",
            )
        return now

    def _note_untold(self, count: int) -> None:
        self.untold += count
        now = time.monotonic()
        if count and now >= self._untold_log_at:
            self._untold_log_at = now + _LOG_EVERY
            log.error(
                "store.untold_deleted",
                transitions=self.untold,
                hint="the fleet's hub has not acknowledged anything for too long: is one running?",
            )


def _refusal(error: Exception | None) -> Exception | None:
    if error is None or isinstance(error, AgentError):
        return error
    refused = StoreError(f"the store refused the change: {error}")
    refused.__cause__ = error
    return refused


def _unreadable(error: Exception) -> Exception:
    if isinstance(error, AgentError):
        return error
    unreadable = StoreError(f"the store cannot be read now: {error}")
    unreadable.__cause__ = error
    return unreadable
