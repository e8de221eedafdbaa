"""Which device goes to which request, now or later: the loop's side of the lease queue.

Who waits is served once in a turn, by looking at the devices that changed: a whole rack that comes
back is looked at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.errors import DeviceHeldError, LeasesOffError, UnknownDeviceError
from agent.usage.lease_queue import Candidate, LeaseQueue, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.clock import Clock
    from agent.usage.lease_book import LeaseBook
    from agent.usage.lease_queue import Waiting, Wish

log = structlog.get_logger(__name__)

OFF = "leases are turned off: see leases in [usage] of the agent's configuration"


class Allocator:
    """Gives devices that nobody has; what was given is the caller's to enter into the book.

    Args:
        book: who has which.
        candidates: all devices as they stand now.
        candidate: one of them; None: there is no such device.
        clock: of the process.
    """

    def __init__(
        self,
        book: LeaseBook,
        *,
        candidates: Callable[[], Iterable[Candidate]],
        candidate: Callable[[str], Candidate | None],
        clock: Clock,
    ) -> None:
        self._book = book
        self._candidates = candidates
        self._candidate = candidate
        self._clock = clock
        self._queue = LeaseQueue()
        self._news: dict[Waiting, asyncio.Event] = {}
        """To tell each of those who wait."""
        self._freed: set[str] = set()
        """Devices that may be free for who waits; looked at in the loop's next turn."""
        self._all_freed = False
        self._serving: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    async def allocate(self, wish: Wish, wait: float) -> str:
        """A device for that wish within `wait` seconds: the caller enters it without a pause.

        Raises:
            DeviceHeldError: none was free in time; the message says who has them.
            UnknownDeviceError: no device fits.
            QueueFullError: too many wait.
            LeasesOffError: those who wait were turned away.
        """
        self._catch_up()
        udid = self._choose(wish)
        return await self._wait(wish, wait) if udid is None else udid

    def take(self, udid: str) -> None:
        """That very device, for the caller; whom it was kept for goes on waiting."""
        self._catch_up()
        self._queue.withdraw(udid)

    def serve(self, udid: str = "") -> None:
        """A device may have become free, or ("") any of them: give it to who waits.

        Done once in the loop's next turn, whatever comes until then.
        """
        if not self._queue:
            return
        if udid:
            self._freed.add(udid)
        else:
            self._all_freed = True
        if self._serving is None:
            self._serving = asyncio.get_running_loop().call_soon(self._serve)

    def turn_away(self) -> None:
        """Nobody waits any longer."""
        self._tell(self._queue.turn_away())

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on, and has it in the book already."""
        self._queue.rename(old, new, leased=new in self._book.devices)
        self.serve(new)

    def close(self) -> None:
        """Serve nobody any more."""
        if self._serving is not None:
            self._serving.cancel()

    def _catch_up(self) -> None:
        """Nobody overtakes those who wait."""
        if self._serving is not None:
            self._serving.cancel()
            self._serve()

    def _serve(self) -> None:
        self._serving = None
        freed, self._freed = self._freed, set()
        known = {udid: self._candidate(udid) for udid in freed}
        if self._all_freed:
            self._all_freed = False
            known |= dict.fromkeys(self._queue.named)
            known |= {each.udid: each for each in self._candidates()}
        free = [
            each or Candidate(udid, None, (), online=False)
            for udid, each in known.items()
            if not self._is_taken(udid)
        ]
        self._tell(self._queue.serve(free, self._book.used_ms))

    def _tell(self, those: Iterable[Waiting]) -> None:
        for waiting in those:
            self._news[waiting].set()

    def _choose(self, wish: Wish) -> str | None:
        if wish.udid:
            return None if self._is_taken(wish.udid) else wish.udid
        known = list(self._candidates())
        if not any(wish.fits(candidate) for candidate in known):
            raise UnknownDeviceError(f"{wish}: no device fits; `device-agent devices` lists them")
        taken = {*self._book.devices, *self._queue.kept}
        return choose(wish, known, taken, self._book.used_ms)

    async def _wait(self, wish: Wish, limit: float) -> str:
        if limit <= 0:
            raise DeviceHeldError(self._held_words(wish))
        waiting = self._queue.join(wish)
        news = self._news[waiting] = asyncio.Event()
        log.info("lease.waiting", wish=str(wish), limit=limit)
        try:
            async with asyncio.timeout(limit):
                while not waiting.over:
                    news.clear()
                    await news.wait()
        except TimeoutError:
            pass  # a device that became free in this very turn is theirs all the same
        except BaseException:
            if udid := self._queue.leave(waiting):
                self.serve(udid)  # it came too late for this one: the next one's
            raise
        finally:
            del self._news[waiting]
        udid = self._queue.leave(waiting)
        if waiting.off:
            raise LeasesOffError(OFF)
        if not udid:
            raise DeviceHeldError(f"waited {limit:g} s: {self._held_words(waiting.wish)}")
        return udid

    def _is_taken(self, udid: str) -> bool:
        return udid in self._book.devices or udid in self._queue.kept

    def _held_words(self, wish: Wish) -> str:
        if wish.udid:
            return self._held_by(wish.udid)
        fitting = [each.udid for each in self._candidates() if wish.fits(each)]
        held = [self._held_by(udid) for udid in fitting if udid in self._book.devices]
        words = "; ".join(held[:5]) or "none of them is online and unused"
        return f"{wish}: of {len(fitting)} that fit none is free: {words}"

    def _held_by(self, udid: str) -> str:
        if udid not in self._book.devices:
            return f"{udid} was given this moment to who waited for it"
        return self._book.held_by(udid, self._clock.wall_ms())
