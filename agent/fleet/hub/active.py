"""One of several hubs sends: what the wiring makes of `leader` and `done`.

The dispatcher asks `may_send`, tells `final`, and is told by `notify`, `settled` and `opened`; what
is durable goes to `made` instead of to the dispatcher. On each link `serve` runs, and at the stop,
once the dispatcher has stopped, `leave` lets another hub send at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agent.fleet import subjects
from agent.fleet.hub.done import STREAM, DoneFollower, Teller, watch
from agent.fleet.hub.leader import Leader, place_of, seconds
from agent.fleet.hub.leadership import Pace
from agent.fleet.link import LinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.fleet.hub.done import DoneStore
    from agent.fleet.link import Link
    from agent.model import Callback, CallbackState
    from agent.store import LaneHead


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
        """Take part for as long as the link is there; raises LinkError, StoreError."""
        await link.make_bucket(subjects.HUB)
        await link.make_stream(STREAM)
        stream, _ = await link.last_number(subjects.DONE)
        parts = (
            self.follower.serve(link, stream),
            self.teller.serve(link, stream),
            self.leader.serve(link),
            watch(link, stream),
        )
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def leave(self, link: Link | None) -> None:
        """The dispatcher has stopped: another hub may send at once, and knows what we have sent."""
        if link is not None:
            with contextlib.suppress(LinkError):
                await self.teller.flush(link)
        await self.leader.leave(link)
