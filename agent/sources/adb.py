"""Android phones through an adb server: who is listed, in which state, and whether it answers.

What the server does (AOSP packages/modules/adb, docs/dev/services.md): `host:track-devices` keeps
its connection and sends the *full* list at every change, which is diffed here. It is not enough:

- adb 29 does not push every change (a phone that turns `unauthorized` stays `offline` in the
  stream): `host:devices`, which is right, is compared with it every `compare_interval` seconds,
  and sooner (`FOLLOW_UPS`) after a phone shows a state in which it is not ready.
- A list holds serial and state only. USB path and transport id come from `host:devices-l`, asked
  once per change, never tracked: past about 800 phones its length wraps in a stream. A server may
  leave out any of them: what it does not give is asked for again and waited for no longer than
  `DETAILS_RETRY`; the phone is shown by what is known, and a log line says what is missing.
- A frozen phone stays `device` for ever: only asking it something finds that out.

Per connection everything is known anew (transport ids begin again with a new server).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from agent.model import Down, SourceName
from agent.sources import adb_server
from agent.sources.adb_probe import Asker
from agent.sources.adb_session import AdbSession
from agent.sources.base import backoff
from agent.sources.oddities import Oddities
from agent.wire.adb import AdbClient
from agent.wire.adb_lists import AdbError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Android
    from agent.model import Emit

log = structlog.get_logger(__name__)

ANSWER_LIMIT = 5.0
"""Seconds for the server's own answers. Longer than the 3.0 s for which adb 36 accepts and says
nothing when it starts on a host without USB."""
RECHECK_LIMIT = 1.5
"""Seconds; who asks waits for 2."""


class AdbSource:
    """The `DeviceSource` of Android phones; see `sources.base`.

    A phone's appearance is emitted at once; its USB port, name and model follow as `Changed` when
    they are known (within a round trip, and when the phone has answered). Where phones are probed,
    one that adb calls ready is UNKNOWN until that first answer, which brings its name, or until
    the limit for it: then it is unresponsive. Three sightings wait instead, because they would
    name the wrong device: twins of one serial and junk serials, until their transport ids and
    ports are known (or the server did not give them when it was asked twice), and ready network
    phones, until their `ro.serialno` is, or for a second: then they are UNKNOWN under their
    address. The snapshot waits for these, so that it leaves nobody out. A phone without a transport
    id cannot be asked anything: adb's word is taken for it.
    """

    name = SourceName.ADB

    def __init__(
        self,
        settings: Android,
        home: Path | None,
        *,
        compare_interval: float = 5.0,
        answer_limit: float = ANSWER_LIMIT,
    ) -> None:
        """Times in seconds; AgentError for an address that is none.

        By `settings`, [android], a server is started only where its address is 127.0.0.1 or
        localhost and refuses; `home` is its HOME where the caller's cannot be written.
        """
        self._settings = settings
        self._client = AdbClient(settings.adb_server)
        self._start_server = settings.start_server and adb_server.can_start(self._client.host)
        self._home = home
        self._compare_interval = compare_interval
        self._answer_limit = answer_limit
        self._session: AdbSession | None = None
        self._oddities = Oddities()

    async def recheck(self) -> None:
        """Read the server's list anew, now, and emit what differs from what was said.

        Returns when that is emitted, at once while the server is down, after `RECHECK_LIMIT`
        seconds at the latest; raises nothing (what fails is found by the watching itself).
        """
        session = self._session
        if session is not None and session.live:
            with suppress(OSError, AdbError):
                async with asyncio.timeout(RECHECK_LIMIT):
                    await session.recheck()

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled."""
        delays, starts = backoff(), backoff(first=1.0, cap=60.0)
        next_start = 0.0
        down = ""  # the reason last said; "" while up
        while True:
            session = AdbSession(
                self._client,
                Asker(self._client, self._settings),
                emit,
                self._settings,
                compare_interval=self._compare_interval,
                answer_limit=self._answer_limit,
                oddities=self._oddities,
            )
            failure = await self._failure(session)
            reason = self._reason(failure)
            if session.live:
                delays, starts = backoff(), backoff(first=1.0, cap=60.0)
                down = self._down(emit, "", reason)
            refused = isinstance(failure, ConnectionRefusedError)
            now = asyncio.get_running_loop().time()
            if refused and self._start_server and now >= next_start:
                next_start = now + next(starts)
                try:
                    await adb_server.start(self._client.port, self._settings.adb_path, self._home)
                except adb_server.AdbStartError as error:
                    reason = f"no adb server at {self._client.server}, and none started: {error}"
                    log.warning("adb.server_not_started", reason=str(error))
                else:
                    continue
            elif down and refused and self._start_server:
                reason = down  # it is between two attempts to start, whose outcome was said
            down = self._down(emit, down, reason)
            await asyncio.sleep(next(delays))

    def _down(self, emit: Emit, said: str, reason: str) -> str:
        """Emit `Down`, once per outage; log it whenever the reason is another one."""
        if not said:
            emit(Down(self.name, reason))
        if reason != said:
            log.warning("adb.down", server=self._client.server, reason=reason)
        return reason

    async def _failure(self, session: AdbSession) -> Exception:
        """Run a session to its end; what ended it."""
        # In a task of its own: a task group that fails leaves its task half cancelled (3.11), and
        # one that is cancelled in the instant in which it fails raises its failure.
        task = asyncio.create_task(session.run())
        self._session = session
        try:
            await asyncio.wait({task})
        finally:
            self._session = None
            task.cancel()
            await asyncio.wait({task})
        failure = _first(None if task.cancelled() else task.exception())
        if not isinstance(failure, (OSError, AdbError)):  # TimeoutError is an OSError
            # A mistake in here must cost a reconnect, not the source.
            log.error("adb.failed", server=self._client.server, exc_info=failure)
        return failure

    def _reason(self, failure: Exception) -> str:
        where = f"adb server at {self._client.server}"
        match failure:
            case ConnectionRefusedError() | FileNotFoundError():
                remedy = "" if self._start_server else "; start it (`adb start-server`)"
                return f"no {where}: {os.strerror(failure.errno or 0)}{remedy}"
            case TimeoutError():
                return (
                    f"{where} accepts connections and does not answer within "
                    f"{self._answer_limit:g} s; restart it when nobody uses its phones"
                )
            case OSError():
                return f"lost the {where}: {failure}"
        return f"{where}: {failure}"


def _first(failure: BaseException | None) -> Exception:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure if isinstance(failure, Exception) else RuntimeError("a session ended by itself")
