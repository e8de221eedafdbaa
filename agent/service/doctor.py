"""The doctor's findings, by the agent itself: for those who look and have no terminal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal, TypedDict

import structlog

from agent.clock import timestamp
from agent.errors import BusyError, InternalError, NoDoctorError
from agent.service.rows import Time
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.config import Config
    from agent.service.live import Live

    Examine = Callable[[Config], list["FindingRow"]]
    """Looks at everything, given the configuration in force; without secrets. Blocks for some 10 s,
    60 at most: not to be called on the loop."""

log = structlog.get_logger(__name__)

LIMIT: Final = 15.0
"""Seconds that somebody waits for it."""
KEPT: Final = 5.0
"""Seconds in which nobody looks again: it connects to each webhook's endpoint, and whoever may read
could ask for it in a loop."""
Verdict = Literal["ok", "warn", "fail"]


class FindingRow(TypedDict):
    """What one check found."""

    section: str
    """What it is about; findings of one section stand together."""
    check: str
    verdict: Verdict
    found: str
    remedy: str
    """What to do; empty: nothing."""


class DoctorRow(TypedDict):
    """What is well and what is not, around the agent."""

    at: Time
    """When it was looked at."""
    verdict: Verdict
    """The worst of all."""
    findings: list[FindingRow]


class Doctor:
    """Looks once for all who ask at once, in a thread of its own.

    Args:
        examine: None: there is nobody.
        live: the configuration in force.
        clock: of the process.
        limit: see LIMIT.
    """

    def __init__(
        self, examine: Examine | None, live: Live, clock: Clock, limit: float = LIMIT
    ) -> None:
        self._limit = limit
        self._examine = examine
        self._live = live
        self._clock = clock
        self._running: asyncio.Future[list[FindingRow]] | None = None
        self._last: DoctorRow | None = None
        self._last_at = 0.0

    async def row(self) -> DoctorRow:
        """What there is to say, at most `KEPT` seconds old.

        Raises:
            NoDoctorError: there is nobody to look.
            BusyError: it takes longer than the limit; who asks again is told when it has ended.
        """
        if self._examine is None:
            raise NoDoctorError(
                "this agent runs without a configuration file, and has nobody to examine it"
            )
        if self._last is not None and self._clock.monotonic() - self._last_at < KEPT:
            return self._last
        if self._running is None:
            config, examine = self._live.config, self._examine
            self._running = asyncio.ensure_future(in_thread(lambda: examine(config), "doctor"))
            self._running.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._limit):
                await asyncio.shield(self._running)
        except TimeoutError:
            raise BusyError(
                f"the doctor has not ended within {self._limit:g} s: something that it looks at "
                "hangs, a USB device or a file system; see dmesg, and ask again later"
            ) from None
        except Exception as error:
            raise InternalError("the doctor failed at it; the agent's log says why") from error
        assert self._last is not None
        return self._last

    def _ended(self, running: asyncio.Future[list[FindingRow]]) -> None:
        self._running = None
        if running.cancelled():
            return
        if (error := running.exception()) is not None:
            log.error("doctor.failed", exc_info=error)
            return
        findings = running.result()
        verdicts = {each["verdict"] for each in findings}
        worst: Verdict = "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "ok"
        self._last = {
            "at": timestamp(self._clock.wall_ms()),
            "verdict": worst,
            "findings": findings,
        }
        self._last_at = self._clock.monotonic()
