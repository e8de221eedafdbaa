"""The hub that sends: `leadership` over a link, and what it means for the dispatcher.

The leadership outlives the links, each of which is used once: `serve` is called with every new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.fleet import subjects
from agent.fleet.hub.leadership import Found, Leadership, Pace
from agent.fleet.link import LinkError
from agent.fleet.words import BadMessageError, Leading, pack, unpack
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.fleet.hub.leadership import Try
    from agent.fleet.link import Entry, Link

log = structlog.get_logger(__name__)

LEAVE_LIMIT: Final = 1.0
"""Seconds for telling the others that they need not wait."""


def seconds() -> float:
    """Goes on while the machine sleeps, so that who slept does not think it leads."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def place_of(state_dir: Path) -> str:
    """Where that store is: no two running processes have the lock of one; "": not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - procfs
            boot = file.read().strip()
        found = state_dir.stat()
    except OSError:
        return ""
    return f"{boot}:{found.st_dev}:{found.st_ino}"


class Leader:
    """Takes part in choosing who leads. All methods run on the event loop's thread.

    Args:
        hub: this hub's name.
        place: see `place_of`.
        catch_up: takes in, over that link, all that other hubs have delivered; LinkError.
        changed: called when this hub may send from now on, or may not: to send what is pending, to
            show it; also when it still may.
        now: see `seconds`.
        pace: see there.
    """

    def __init__(
        self,
        hub: str,
        place: str,
        catch_up: Callable[[Link], Awaitable[None]],
        changed: Callable[[], None],
        now: Callable[[], float] = seconds,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        self._hub = hub
        self.instance = secrets.token_hex(8)
        self._leadership = Leadership(hub, self.instance, place, pace)
        self._catch_up = catch_up
        self._changed = changed
        self._now = now
        self._pace = pace
        self._told = False
        self.left = False
        """It stops, and takes no part any more."""

    def may_send(self) -> bool:
        """Whether an attempt may begin at this very moment."""
        return self._leadership.may_send(self._now())

    @property
    def leading(self) -> str:
        """Which hub leads, as far as is known: "" for none."""
        if self._leadership.leads(self._now()):
            return self._hub
        leader = self._leadership.leader
        if leader is None or leader.released or leader.claim or leader.instance == self.instance:
            return ""
        return printable(leader.hub)

    async def serve(self, link: Link) -> None:
        """Take part for as long as the link is there; raises LinkError."""
        async with contextlib.AsyncExitStack() as stack:
            catching: asyncio.Task[None] | None = None
            while True:
                entry = await link.get(subjects.HUB, subjects.LEADER)
                if self.left:
                    return
                self._leadership.seen(self._now(), _found(entry))
                tried = self._leadership.wants(self._now())
                if tried is not None:
                    await self._try(link, tried)
                if catching is not None and catching.done():
                    error = catching.exception()
                    catching = None
                    if error is not None:
                        raise error
                if catching is None and self._is_behind():
                    catching = asyncio.create_task(self._begin(link), name="hub-catch-up")
                    stack.push_async_callback(_ended, catching)
                self._tell()
                await asyncio.sleep(self._pace.look)

    async def leave(self, link: Link | None) -> None:
        """The hub stops, and nothing of it is under way any more: another one may send at once."""
        self.left = True
        tried = self._leadership.leave()
        self._tell()
        if tried is None or link is None:
            return
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT):
                await self._swap(link, tried)

    async def _try(self, link: Link, tried: Try) -> None:
        revision = await self._swap(link, tried)
        if revision is None:
            return
        found = Found(revision, pack(tried.value), tried.value)
        self._leadership.swapped(self._now(), tried, found)

    async def _swap(self, link: Link, tried: Try) -> int | None:
        body = pack(tried.value)
        return await link.swap(subjects.HUB, subjects.LEADER, body, tried.revision)

    def _is_behind(self) -> bool:
        leadership, now = self._leadership, self._now()
        return leadership.leads(now) and not leadership.may_send(now)

    async def _begin(self, link: Link) -> None:
        """What others have sent comes first: else it would be sent again."""
        spell = self._leadership.spell
        await self._catch_up(link)
        self._leadership.open(spell)
        self._tell()

    def _tell(self) -> None:
        now = self.may_send()
        if now != self._told:
            self._told = now
            log.warning(
                "hub.active" if now else "hub.standby",
                hub=self._hub,
                term=self._leadership.term,
                leading=self.leading,
            )
            self._changed()
        elif now:
            self._changed()  # it may have been closed for a moment that nobody looked at


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _found(entry: Entry | None) -> Found | None:
    if entry is None:
        return None
    try:
        value = unpack(Leading, entry.value, f"{subjects.HUB}/{subjects.LEADER}")
    except BadMessageError as error:
        log.error("hub.leader_unreadable", error=str(error))  # noqa: TRY400 - says it all
        value = None
    return Found(entry.revision, entry.value, value)
