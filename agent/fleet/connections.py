"""An agent's connections to its fleet's broker, one after the other.

Loaded where [fleet] names servers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import StoreError
from agent.fleet.backoff import WELL, Backoff, sleep
from agent.fleet.claim import NameTakenError
from agent.fleet.link import LinkError
from agent.fleet.session import Session
from agent.tasks import kind_of

if TYPE_CHECKING:
    from agent.config.model import Fleet
    from agent.fleet.link import Dial
    from agent.fleet.own import Own
    from agent.fleet.standing import Standing

log = structlog.get_logger(__name__)

LAST_WORDS: Final = 0.8
"""Seconds in which what is under way may go out when the agent stops."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the log while nothing is connected."""
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Connections:
    """To one fleet, under one name. All methods run on the event loop's thread.

    Args:
        fleet: the section in force.
        own: what to tell, and whom commands go to.
        standing: is told how it goes.
        instance: of this process.
        dial: connects.
    """

    def __init__(
        self, fleet: Fleet, own: Own, standing: Standing, instance: str, dial: Dial
    ) -> None:
        self._fleet = fleet
        self._own = own
        self._standing = standing
        self._instance = instance
        self._dial = dial
        self._last = ""
        """`where` of the last link."""
        self._boot = ""
        self._stored = asyncio.Event()
        """Transitions are stored that were not, since the log was last looked at."""
        self._session: Session | None = None

    def log_grew(self) -> None:
        """Transitions are stored."""
        self._stored.set()
        if self._session is not None:
            self._session.log_grew()
            # The news of its devices came when that was not stored yet, and may be told already.
            self._session.devices_changed()

    def devices_changed(self) -> None:
        """Devices, leases or silences may be others than the last snapshot says."""
        if self._session is not None:
            self._session.devices_changed()

    def batteries_changed(self) -> None:
        """Likewise, by nothing but their batteries."""
        if self._session is not None:
            self._session.batteries_changed()

    async def run(self) -> None:
        """One after the other, until it is cancelled; a session that is broken by us is raised."""
        clock, standing = self._own.clock, self._standing
        await self._join()
        watch = asyncio.ensure_future(self._watch())
        backoff, said = Backoff(clock), ""
        try:
            while True:
                began = clock.monotonic()
                error = await self._connect()
                standing.lost(str(error), refused=isinstance(error, NameTakenError))
                if clock.monotonic() - began >= WELL:
                    backoff.reset()
                    said = ""
                pause = backoff.pause()
                if str(error) != said:  # it is shown wherever operators look
                    said = str(error)
                    log.warning("fleet.not_connected", reason=said, retry_in_s=round(pause, 1))
                await sleep(clock, pause)
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _connect(self) -> LinkError:
        """Once; why it has ended."""
        standing = self._standing
        try:
            if not self._boot:
                self._boot = await asyncio.to_thread(_boot)
            link = await self._dial(self._fleet, self._last)
        except LinkError as error:
            return error
        self._last = link.where
        session = Session(link, self._own, standing, self._instance, self._boot)
        self._session = session
        try:
            await session.run()
        except LinkError as error:
            return error
        except Exception as error:  # of ours: told, and begun again by `Tasks`
            standing.lost(f"internal error ({kind_of(error)}): see the log")
            raise
        finally:
            self._session = None
            await session.close(LAST_WORDS)
            await link.close()
        return LinkError("it ended by itself")

    async def _join(self) -> None:
        """Have the store keep what the hub does not have; a failing disk is waited for."""
        backoff = Backoff(self._own.clock)
        while True:
            try:
                self._standing.saw(await self._own.log.join())
            except StoreError as error:
                self._standing.lost(str(error))
                await sleep(self._own.clock, backoff.pause())
            else:
                return

    async def _watch(self) -> None:
        """Look where the log stands, connected or not."""
        while True:
            await sleep(self._own.clock, LOOK_EVERY)
            with suppress(StoreError):
                if self._stored.is_set():
                    self._stored.clear()
                    state = await self._own.log.state()
                    # Of a store that was made anew, and knows of no fleet.
                    self._standing.saw(await self._own.log.join() if state.acked is None else state)
            self._standing.look()


def _boot() -> str:
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return ""
