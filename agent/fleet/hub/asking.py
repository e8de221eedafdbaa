"""What the hub misses of a host's log is asked for, of the host itself."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from agent.fleet import subjects
from agent.fleet.hub.hosts import Need, Presence
from agent.fleet.hub.inbox import Asked
from agent.fleet.link import LinkError, NoAnswerError, NobodyError
from agent.fleet.words import BadMessageError, HostSnapshot, Since, SinceAnswer, pack, unpack
from agent.tasks import kind_of
from agent.threads import in_thread
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.fleet.complaints import Complaints, W
    from agent.fleet.hub.core import Core
    from agent.fleet.hub.hosts import Host
    from agent.fleet.link import Link

log = structlog.get_logger(__name__)

AT_ONCE: Final = 16
"""Hosts."""
ANSWER: Final = 5.0
"""Seconds that a host may take to answer."""
ROWS: Final = 200
LONG: Final = 64 * 1024
"""Bytes of a message that is read in a thread."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a host that did not answer is asked again; doubled each time."""


class Asking:
    """One question at a time to each host.

    Args:
        core: says who is to be asked for what.
        put: takes a host's answer.
        complaints: told of answers that are none.
    """

    def __init__(
        self, core: Core, put: Callable[[str, Asked], None], complaints: Complaints
    ) -> None:
        self._core = core
        self._put = put
        self._complaints = complaints
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._taken: dict[str, asyncio.Event] = {}
        """Set once what that host answered is taken."""
        self._room = asyncio.Semaphore(AT_ONCE)

    def ask(self, link: Link, *, logs: bool) -> None:
        """Have each host asked for what is missed of it; not `logs`: for snapshots alone."""
        for host in self._core.wanting():
            if host.name not in self._tasks and (logs or host.need is Need.SNAPSHOT):
                self._taken[host.name] = asyncio.Event()
                self._tasks[host.name] = asyncio.ensure_future(self._ask(link, host))

    def taken(self, host: str) -> None:
        """What that host answered is taken."""
        if host in self._taken:
            self._taken[host].set()

    async def stop(self) -> None:
        """Ask nothing more over that connection."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, link: Link, host: Host) -> None:
        """Until nothing is missed, or it is not there."""
        pause = FIRST_PAUSE
        try:
            while host.need is not Need.NOTHING and host.presence is Presence.ALIVE:
                self._taken[host.name].clear()
                answer = await self._try(link, host)
                if answer is None:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                else:
                    pause = FIRST_PAUSE
                    self._put(host.name, answer)
                    await self._taken[host.name].wait()
        except LinkError:
            pass  # it is lost; there will be another
        except Exception as error:  # noqa: BLE001 - said; the next heartbeat asks again
            say(log.error, "fleet.ask_failed", host=host.name, kind=kind_of(error), exc_info=error)
        finally:
            del self._tasks[host.name], self._taken[host.name]

    async def _try(self, link: Link, host: Host) -> Asked | None:
        """What it answers; None: to be asked again. LinkError: the connection is lost."""
        try:
            async with self._room:
                if host.need is Need.SNAPSHOT:
                    return await self._snapshot(link, host)
                return await self._log(link, host)
        except (NobodyError, NoAnswerError) as error:
            say(log.info, "fleet.no_answer", host=host.name, error=str(error))
        except BadMessageError as error:
            self._complaints.add(str(error))
        return None

    async def _snapshot(self, link: Link, host: Host) -> Asked:
        subject = subjects.snapshot(host.name)
        found = await _read(HostSnapshot, await link.request(subject, b"{}", ANSWER), subject)
        if found.host != host.name:
            raise BadMessageError(f"what answers as host {host.name} says that it is {found.host}")
        return Asked(snapshot=found)

    async def _log(self, link: Link, host: Host) -> Asked | None:
        assert host.epoch is not None
        subject = subjects.since(host.name)
        since = Since(epoch=host.epoch, after=host.cursor, check=host.check, limit=ROWS)
        asked = pack(since)
        answer = await _read(SinceAnswer, await link.request(subject, asked, ANSWER), subject)
        rows = tuple(row for row in answer.transitions if row.host == host.name)
        next_ = next((row for row in rows if row.id == host.cursor + 1), None)
        broken = next_ is not None and not host.is_behind(next_.before)
        if answer.epoch != host.epoch or answer.hole or broken or answer.last < since.after:
            host.hole()
            return await self._snapshot(link, host)
        if not rows and answer.last > host.cursor:
            return None
        host.told_last(answer.last)
        return Asked(rows=rows)


async def _read(kind: type[W], body: bytes, subject: str) -> W:
    """A long one in a thread: it takes its time."""
    if len(body) < LONG and body[:1] == b"{":  # a packed one is a long one
        return unpack(kind, body, subject)
    return await in_thread(partial(unpack, kind, body, subject), "fleet answer")
