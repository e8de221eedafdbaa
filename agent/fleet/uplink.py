"""The agent's way to its fleet: one connection after the other.

The fleet never holds up the agent: whatever the broker does, states are derived and webhooks are
called here. What the hub does not have waits in the store, and only its acknowledgement ends that.
While [fleet] names no servers, or this is the hub, nothing of it is loaded.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import StoreError
from agent.fleet.backoff import Backoff, sleep
from agent.fleet.claim import NameTakenError
from agent.fleet.host import host_of
from agent.fleet.link import LinkError
from agent.fleet.standing import Standing
from agent.tasks import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.model import Fleet
    from agent.fleet.link import Dial, Link
    from agent.fleet.own import Own
    from agent.fleet.session import Session
    from agent.fleet.standing import FleetStatus

log = structlog.get_logger(__name__)

WELL: Final = 15.0
"""Seconds of a connection after which the next one is tried without a long pause."""
LAST_WORDS: Final = 0.8
"""Seconds in which what is under way may go out when the agent stops."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the log while nothing is connected."""
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def is_on(fleet: Fleet) -> bool:
    """Whether this is an agent of a fleet."""
    return bool(fleet.servers) and fleet.role == "agent"


async def dial(fleet: Fleet) -> Link:
    """Over NATS; what that needs is loaded with the first call."""
    nats = await asyncio.to_thread(import_module, "agent.fleet.nats_link")
    link: Link = await nats.dial(fleet)
    return link


class Uplink:
    """Keeps an agent connected to its fleet. All methods run on the event loop's thread.

    Args:
        fleet: the section in force.
        own: what to tell, and whom commands go to.
        changed: called when `status` says of another problem than before.
        dial: connects.
    """

    def __init__(
        self, fleet: Fleet, own: Own, changed: Callable[[], None], dial: Dial = dial
    ) -> None:
        self._fleet = fleet
        self._own = own
        self._changed = changed
        self._dial = dial
        self._instance = secrets.token_hex(8)
        self._boot = ""
        self._reconfigured = asyncio.Event()
        self._stored = asyncio.Event()
        """Transitions are stored that were not, since the log was last looked at."""
        self._session: Session | None = None
        self._standing = self._begin()

    @property
    def status(self) -> FleetStatus | None:
        """How it stands; None: this agent is in no fleet."""
        return None if self._standing is None else self._standing.status

    def reconfigure(self, fleet: Fleet) -> None:
        """These are in force now; where they mean another connection, that is begun."""
        keys = ("servers", "host", "credentials", "tls", "role")
        before, self._fleet = self._fleet, fleet
        if any(getattr(before, key) != getattr(fleet, key) for key in keys):
            self._standing = self._begin()
            self._reconfigured.set()
            self._changed()
        self.devices_changed()  # their names and tags stand in the same file

    def transition_stored(self) -> None:
        """The log has grown."""
        self._stored.set()
        if self._session is not None:
            self._session.log_grew()
            # The news of its devices came when that was not stored yet, and may be told already.
            self._session.devices_changed()

    def devices_changed(self) -> None:
        """Devices, leases or silences may be others than the last snapshot says."""
        if self._session is not None:
            self._session.devices_changed()

    async def run(self) -> None:
        """Stay connected; for `Tasks.keep`. Cancelled, it sends what is under way, within a second.

        Whatever comes of it, what the hub does not have is in the store.
        """
        while True:
            self._reconfigured.clear()
            standing = self._standing
            if standing is None:
                await self._leave()
                await self._reconfigured.wait()
                continue
            follow = asyncio.ensure_future(self._follow(self._fleet, standing))
            again = asyncio.ensure_future(self._reconfigured.wait())
            try:
                await asyncio.wait({follow, again}, return_when=asyncio.FIRST_COMPLETED)
                if follow.done():
                    follow.result()
            finally:
                again.cancel()
                follow.cancel()
                await asyncio.wait({follow})  # each of its steps is bounded

    # --- inside ----------------------------------------------------------------------------

    def _begin(self) -> Standing | None:
        """Of a fleet that this agent was in before nothing is shown any more."""
        if not is_on(self._fleet):
            return None
        return Standing(host_of(self._fleet), self._own.clock, self._changed)

    async def _leave(self) -> None:
        with suppress(StoreError):  # rows are kept a little longer
            if (await self._own.log.state()).acked is not None:
                await self._own.log.leave()

    async def _follow(self, fleet: Fleet, standing: Standing) -> None:
        """One connection after the other."""
        clock = self._own.clock
        await self._join(standing)
        watch = asyncio.ensure_future(self._watch(standing))
        backoff, said = Backoff(clock), ""
        try:
            while True:
                began = clock.monotonic()
                error = await self._connect(fleet, standing)
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

    async def _connect(self, fleet: Fleet, standing: Standing) -> LinkError:
        """Once; why it has ended."""
        try:
            if not self._boot:
                self._boot = await asyncio.to_thread(_boot)
            session_ = await asyncio.to_thread(import_module, "agent.fleet.session")
            link = await self._dial(fleet)
        except LinkError as error:
            return error
        session = session_.Session(link, self._own, standing, self._instance, self._boot)
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

    async def _join(self, standing: Standing) -> None:
        """Have the store keep what the hub does not have; a failing disk is waited for."""
        backoff = Backoff(self._own.clock)
        while True:
            try:
                standing.saw(await self._own.log.join())
            except StoreError as error:
                standing.lost(str(error))
                await sleep(self._own.clock, backoff.pause())
            else:
                return

    async def _watch(self, standing: Standing) -> None:
        """Look where the log stands, connected or not."""
        while True:
            await sleep(self._own.clock, LOOK_EVERY)
            with suppress(StoreError):
                if self._stored.is_set():
                    self._stored.clear()
                    state = await self._own.log.state()
                    # Of a store that was made anew, and knows of no fleet.
                    standing.saw(await self._own.log.join() if state.acked is None else state)
            standing.look()


def _boot() -> str:
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return ""
