"""One of several hubs sends: what the wiring makes of `leader` and `done`.

The dispatcher asks `may_send`, tells `final`, and is told by `notify`, `settled` and `opened`; what
is durable goes to `made` instead of to the dispatcher. On each link `serve` runs, and at the stop,
once the dispatcher has stopped, `leave` lets another hub send at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.errors import StoreError
from agent.fleet import subjects
from agent.fleet.hub.done import STREAM, DoneFollower, Teller, watch
from agent.fleet.hub.leader import LEAVE_LIMIT, Leader, place_of, seconds
from agent.fleet.hub.leadership import Pace
from agent.fleet.link import LinkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from pathlib import Path

    from agent.fleet.hub.done import DoneStore
    from agent.fleet.link import Link
    from agent.model import Callback, CallbackState
    from agent.store import LaneHead

log = structlog.get_logger(__name__)

RETRY: Final = 0.5
"""Seconds after which what the broker did not do is tried again."""


class ActiveHub:
    """All methods run on the event loop's thread.

    Args:
        hub: this hub's name.
        epoch: of its store.
        state_dir: of its store, which is locked.
        store: see `agent.store.tables.elsewhere`.
        notify: of the dispatcher.
        settled: likewise.
        opened: likewise; called now and then while this hub may send, and when it begins or ends.
        now: see `leader.seconds`.
        pace: see there.
    """

    def __init__(
        self,
        hub: str,
        epoch: int,
        state_dir: Path,
        store: DoneStore,
        *,
        notify: Callable[[Sequence[Callback]], None],
        settled: Callable[[Sequence[LaneHead]], None],
        opened: Callable[[], None],
        now: Callable[[], float] = seconds,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        of_store = f"{hub}/{epoch:x}"
        self.teller = Teller(store, of_store)
        self.follower = DoneFollower(store, of_store, notify, settled)
        self.leader = Leader(
            hub, place_of(state_dir), self.follower.catch_up, opened, now=now, pace=pace
        )

    def may_send(self) -> bool:
        """Whether an attempt may begin at this very moment; what is acknowledged, too."""
        return self.leader.may_send()

    def final(self, state: CallbackState, message_ids: Sequence[str]) -> None:
        """The store has it that these are."""
        self.teller.final(state, message_ids)

    def made(self, callbacks: Sequence[Callback]) -> None:
        """These are durable, pending and in commit order."""
        self.follower.made(callbacks)

    async def serve(self, link: Link) -> None:
        """Take part on that link; for ever, to be cancelled once it is lost.

        What the broker does not do is tried again: a stream that has no leader for a moment ends no
        connection, which others use, too.
        """
        await _together(self._again(link, self._lead), self._again(link, self._share))

    async def _again(self, link: Link, work: Callable[[Link], Awaitable[None]]) -> None:
        said = ""
        while not self.leader.left:
            try:
                await work(link)
            except (LinkError, StoreError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("hub.turn_failed", error=said, hint="it is tried again")
                await asyncio.sleep(RETRY)

    async def _lead(self, link: Link) -> None:
        await link.make_bucket(subjects.HUB)
        await self.leader.serve(link)

    async def _share(self, link: Link) -> None:
        await link.make_stream(STREAM)
        stream, _ = await link.last_number(subjects.DONE)
        await _together(
            self.follower.serve(link, stream),
            # By itself: whoever follows anew does so beside the one that did on this link.
            self._again(link, partial(self.teller.serve, stream=stream)),
            watch(link, stream),
        )

    async def leave(self, link: Link | None) -> None:
        """The dispatcher has stopped: another hub may send at once, and knows what we have sent."""
        if link is not None:
            with contextlib.suppress(LinkError, TimeoutError):
                async with asyncio.timeout(LEAVE_LIMIT):
                    await self.teller.flush(link)
        await self.leader.leave(link)


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    """All of them; the first error ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for each in done:
            each.result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
