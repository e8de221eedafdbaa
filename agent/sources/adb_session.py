"""One connection's worth of watching an adb server: its stream, and what is asked beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from agent.model import Snapshot, SourceName
from agent.sources.adb_phones import AdbPhones
from agent.wire.adb import AdbFailError
from agent.wire.adb_lists import AdbError, parse_long_rows, parse_rows

if TYPE_CHECKING:
    from agent.config import Android
    from agent.model import Emit
    from agent.sources.adb_probe import Asker
    from agent.sources.oddities import Oddities
    from agent.wire.adb import AdbClient, AdbConnection
    from agent.wire.adb_lists import Rows

log = structlog.get_logger(__name__)

FOLLOW_UPS = (1.0, 2.0)
"""Seconds to the first comparisons after a phone showed a state in which it is not ready: before
the shortest usual hold of `offline` has passed the reason is the true one."""
DETAILS_RETRY = 1.0
"""Seconds until details that do not fit the list are asked for once more; then they are missing."""
RECHECKS = 3
"""How often `recheck` asks anew because the stream spoke meanwhile."""


class AdbSession:
    """Watches until the server fails; a new session knows nothing of an older one.

    Times in seconds; see `adb.AdbSource`.
    """

    def __init__(
        self,
        client: AdbClient,
        asker: Asker,
        emit: Emit,
        settings: Android,
        *,
        compare_interval: float,
        answer_limit: float,
        oddities: Oddities,
    ) -> None:
        self._client = client
        self._asker = asker
        self._emit = emit
        self._compare_interval = compare_interval
        self._answer_limit = answer_limit
        self._oddities = oddities
        self._phones = AdbPhones(client.server, asker, emit, settings, oddities)
        self._frames = 0
        self._refreshing = asyncio.Lock()
        self._follow_ups: list[float] = []

    @property
    def live(self) -> bool:
        """From the snapshot on."""
        return self._phones.live

    async def run(self) -> None:
        """Watch until cancelled or until the server fails, which raises OSError or AdbError."""
        async with self._client.connect(self._answer_limit) as stream:
            async with asyncio.timeout(self._answer_limit):
                await stream.request("host:track-devices")
                self._phones.take(self._parsed(await stream.frame()))
                try:
                    await self._refresh()
                except AdbFailError as error:
                    self._phones.without_details(error)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._asker.run())
                if self._phones.unnamed:
                    await (
                        self._phones.named.wait()
                    )  # no longer than the asker awaits each: `OVERDUE`
                shown = self._phones.sightings()
                self._phones.live = True
                self._emit(Snapshot(SourceName.ADB, shown))
                log.info("adb.up", server=self._client.server, phones=len(shown))
                group.create_task(self._follow(stream))
                group.create_task(self._compare())
                group.create_task(self._keep_fresh())

    async def _follow(self, stream: AdbConnection) -> None:
        """Read the stream. No limit: it is silent as long as nothing changes."""
        while True:
            rows = self._parsed(await stream.frame())
            self._frames += 1
            self._phones.take(rows)

    def _parsed(self, text: str) -> Rows:
        return parse_rows(text, self._odd)

    def _odd(self, line: str) -> None:
        self._oddities.warn(
            "adb.row_left_out",
            line,
            server=self._client.server,
            row=line[:120],
            reason="it is no serial and state; the other phones are watched as ever",
        )

    async def recheck(self) -> None:
        """Compare with `host:devices` now, and with `host:devices-l` if that brought news."""
        for _ in range(RECHECKS):
            frames = self._frames
            rows = self._parsed(await self._client.listing("host:devices"))
            if frames == self._frames:
                self._phones.take(rows)
                break
        if self._phones.outdated.is_set():
            await self._refresh()

    async def _compare(self) -> None:
        """Take what `host:devices` says where the stream does not say it (adb 29).

        An answer is dropped when the stream spoke since it was asked for: the stream is newer, or
        as new. Raises when the server failed twice, the stream saying nothing meanwhile.
        """
        failures = 0
        while True:
            await self._until_comparison()
            frames = self._frames
            try:
                async with asyncio.timeout(self._answer_limit):
                    rows = self._parsed(await self._client.listing("host:devices"))
            except (OSError, AdbError):
                failures = failures + 1 if frames == self._frames else 0
                if failures == 2:  # noqa: PLR2004 - once may be chance
                    raise
                continue
            failures = 0
            if frames == self._frames:
                self._phones.take(rows)

    async def _until_comparison(self) -> None:
        """Wait for the next one: the interval at most, the follow-ups where there is doubt."""
        loop = asyncio.get_running_loop()
        delay = self._follow_ups.pop(0) if self._follow_ups else self._compare_interval
        due = loop.time() + min(delay, self._compare_interval)
        while (left := due - loop.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._phones.doubt.wait()
            if self._phones.doubt.is_set():
                self._phones.doubt.clear()
                first, *self._follow_ups = FOLLOW_UPS
                due = min(due, loop.time() + first)  # never put off by phones that flicker

    async def _keep_fresh(self) -> None:
        """Ask for ids and ports once per change of the list, and again while some do not fit."""
        while True:
            delay = DETAILS_RETRY if self._phones.waiting else self._compare_interval
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    min(delay, self._compare_interval) if self._phones.unsure else None
                ):
                    await self._phones.outdated.wait()
            try:
                async with asyncio.timeout(self._answer_limit):
                    await self._refresh()
            except (OSError, AdbError) as error:
                self._phones.without_details(error)
                await asyncio.sleep(self._compare_interval)

    async def _refresh(self) -> None:
        async with self._refreshing:
            self._phones.outdated.clear()
            asked = self._phones.rows
            long = await self._client.listing("host:devices-l")
            self._phones.detail(asked, parse_long_rows(long, self._phones.rows))
