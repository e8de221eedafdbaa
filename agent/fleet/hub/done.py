"""What the hub that sends has delivered, told to the others, who do not send it again.

The teller hears of callbacks that are final once that is durable, and appends them to a stream. The
follower reads that stream, from where its store says, and has them made final there in the same
transaction as the new place. A callback that its own hub has not made yet (it is behind with a
host's log) is remembered, and the stored place stays in front of it: after a restart it is read
again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import StoreError
from agent.fleet import subjects
from agent.fleet.link import LinkError, NoAnswerError, Stream
from agent.fleet.words import BadMessageError, Done, pack, unpack
from agent.model import CallbackState
from agent.store import Followed, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.fleet.link import Incoming, Link
    from agent.model import Callback
    from agent.store import LaneHead, Settled

log = structlog.get_logger(__name__)

STREAM: Final = Stream(
    subjects.DONE, (subjects.DONE_SUBJECT,), max_age=7 * 86_400.0, max_bytes=256 * 1024 * 1024
)
BATCH: Final = 0.02
"""Seconds for which outcomes are gathered into one message."""
AT_ONCE: Final = 500
"""Callbacks of one message at most, and of one transaction about."""
REMEMBERED: Final = 100_000
"""Callbacks at most that are not made yet, or that could not be told yet."""
UNNOTIFIED: Final = 20_000
"""Callbacks at most that were stored, made final and not notified yet, all within a moment."""
RECENT: Final = 600.0
"""Seconds: what became final within them is told again where that may never have been told."""
CHECK: Final = 10.0
"""Seconds after which it is looked whether it is the same stream still."""
STANDING: Final = 5.0
"""Seconds without anything new, after which what the stream should have had is taken for lost."""


class DoneStore(Protocol):
    """What is needed of the store; see `agent.store.tables.elsewhere`."""

    async def followed(self) -> Followed:
        """How far it was read."""

    def settle(
        self, outcomes: Sequence[Outcome], followed: Followed, then: Callable[[Settled], None]
    ) -> asyncio.Future[Settled]:
        """Make them final."""

    async def recent(self, seconds: float, most: int) -> list[tuple[str, CallbackState]]:
        """What became final here lately."""


class Teller:
    """Tells the other hubs what is final here.

    Args:
        store: asked what a stream that was made anew has lost.
        hub: this one: its name, and of which store.
    """

    def __init__(self, store: DoneStore, hub: str) -> None:
        self._store = store
        self._hub = hub
        self._untold: dict[str, CallbackState] = {}
        self._news = asyncio.Event()
        self._stream = ""
        """Which one was told last; "": none since the start."""

    def final(self, state: CallbackState, message_ids: Iterable[str]) -> None:
        """These are, which is durable."""
        for message_id in message_ids:
            self._untold[message_id] = state
        while len(self._untold) > REMEMBERED:  # the broker is away for long
            del self._untold[next(iter(self._untold))]
        if self._untold:
            self._news.set()

    async def serve(self, link: Link, stream: str) -> None:
        """Tell it for as long as the link is there; raises LinkError."""
        if stream != self._stream:
            recent = await self._store.recent(RECENT, REMEMBERED)
            self._untold = dict(recent) | self._untold
            self._stream = stream
        if self._untold:  # also what an earlier try was ended in the middle of
            self._news.set()
        while True:
            await self._news.wait()
            await asyncio.sleep(BATCH)
            self._news.clear()
            await self.flush(link)

    async def flush(self, link: Link) -> None:
        """Tell all that is to be told; raises LinkError."""
        while self._untold:
            told = dict(islice(self._untold.items(), AT_ONCE))
            await self._tell(link, told)
            for message_id in told:
                self._untold.pop(message_id, None)

    async def _tell(self, link: Link, told: dict[str, CallbackState]) -> None:
        def those(state: CallbackState) -> tuple[str, ...]:
            return tuple(each for each, its in told.items() if its is state)

        word = Done(
            hub=self._hub,
            delivered=those(CallbackState.DELIVERED),
            dead=those(CallbackState.DEAD),
            cancelled=those(CallbackState.CANCELLED),
        )
        body = pack(word)
        # What was appended and not answered is appended again: then it is taken once.
        await link.append(subjects.DONE_SUBJECT, body, hashlib.sha256(body).hexdigest())


class DoneFollower:
    """Takes in what other hubs tell. All methods run on the event loop's thread.

    Args:
        store: has the same callbacks.
        hub: this one, as its teller names it.
        notify: told of callbacks that are durable and to be sent.
        settled: told of lanes in which others made something final.
    """

    def __init__(
        self,
        store: DoneStore,
        hub: str,
        notify: Callable[[Sequence[Callback]], None],
        settled: Callable[[Sequence[LaneHead]], None],
    ) -> None:
        self._store = store
        self._hub = hub
        self._notify = notify
        self._settled = settled
        self._unknown: dict[str, Outcome] = {}
        """What is final elsewhere and not made here yet, in the order in which it was told."""
        self._final: dict[str, None] = {}
        """What was found made, and made final: it may not have been notified yet."""
        self._heard: deque[tuple[int, tuple[Outcome, ...]]] = deque()
        self._news = asyncio.Event()
        self._applied = asyncio.Event()
        self._through = 0
        """Number of the last message that is taken in."""
        self._stream = 0
        self._follow = 0
        """Counts the times that a stream was begun to be followed; what an earlier one brings no
        longer counts."""
        self._late: set[asyncio.Task[None]] = set()
        self.bad = 0
        """Messages that were none."""

    @property
    def remembered(self) -> int:
        """Callbacks that are final elsewhere, and not made here yet."""
        return len(self._unknown)

    def made(self, callbacks: Sequence[Callback]) -> None:
        """These are durable; what is final elsewhere is final here, the others are to be sent."""
        others, late = [], []
        for each in callbacks:
            if each.message_id in self._unknown:
                late.append(each)
            elif each.message_id in self._final:
                del self._final[each.message_id]
            else:
                others.append(each)
        if others:
            self._notify(others)
        if late:
            outcomes = [self._unknown.pop(each.message_id) for each in late]
            stored = self._settle(outcomes, self._through)  # queued here and now
            task = asyncio.create_task(self._settled_late(late, stored), name="done-late")
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def serve(self, link: Link, stream: str) -> None:
        """Follow it for as long as the link is there; raises LinkError, StoreError."""
        identity = number_of(stream)
        if identity != self._stream:
            stored = await self._store.followed()
            self._through = stored.through if stored.stream == identity else 0
            self._stream = identity
            # What an earlier stream said of callbacks not made yet holds, and keeps no place.
            self._unknown = {
                key: outcome._replace(number=0) for key, outcome in self._unknown.items()
            }
        self._heard.clear()
        self._follow += 1
        hear = partial(self._hear, self._follow)
        await link.follow(subjects.DONE, subjects.DONE_SUBJECT, self._through, hear)
        while True:
            await self._news.wait()
            self._news.clear()
            while self._heard:
                await self._take()

    async def catch_up(self, link: Link) -> None:
        """Until all is taken in that was told up to now, or the broker has lost the rest."""
        _, last = await link.last_number(subjects.DONE)
        while self._through < last:
            self._applied.clear()
            try:
                async with asyncio.timeout(STANDING):
                    await self._applied.wait()
            except TimeoutError:
                log.error(  # noqa: TRY400 - says it all
                    "hub.done_missing",
                    through=self._through,
                    last=last,
                    hint="the broker lost what other hubs had delivered: it may be sent again",
                )
                return

    # --- inside ----------------------------------------------------------------------------

    def _hear(self, follow: int, incoming: Incoming) -> None:
        if follow != self._follow:
            return
        try:
            done = unpack(Done, incoming.body, incoming.subject)
        except BadMessageError as error:
            self.bad += 1
            if self.bad == 1:
                log.error("hub.done_unreadable", error=str(error))  # noqa: TRY400 - says it all
            outcomes: tuple[Outcome, ...] = ()
        else:
            # Our own are durable here already: else they would not have been told.
            outcomes = () if done.hub == self._hub else tuple(_outcomes(done, incoming.sequence))
        self._heard.append((incoming.sequence, outcomes))
        self._news.set()

    async def _take(self) -> None:
        outcomes: list[Outcome] = []
        through = self._through
        while self._heard and len(outcomes) < AT_ONCE:
            number, told = self._heard.popleft()
            through = max(through, number)
            outcomes.extend(told)
        await self._settle(outcomes, through)
        self._through = through
        self._applied.set()

    def _settle(self, outcomes: Sequence[Outcome], through: int) -> asyncio.Future[Settled]:
        return self._store.settle(
            outcomes, self._place(through), partial(self._took, tuple(outcomes))
        )

    def _place(self, through: int) -> Followed:
        """How far may be stored: not beyond what is not made yet."""
        first = next((each.number for each in self._unknown.values() if each.number), through + 1)
        return Followed(self._stream, min(through, first - 1))

    def _took(self, outcomes: Sequence[Outcome], settled: Settled) -> None:
        self._unknown.update({each.message_id: each for each in settled.unknown})
        self._final.update(
            (each.message_id, None) for each in outcomes if each.message_id not in self._unknown
        )
        for kept, most in ((self._unknown, REMEMBERED), (self._final, UNNOTIFIED)):
            while len(kept) > most:
                del kept[next(iter(kept))]
        if settled.lanes:
            self._settled(settled.lanes)

    async def _settled_late(
        self, callbacks: Sequence[Callback], stored: asyncio.Future[Settled]
    ) -> None:
        try:
            await stored
        except StoreError as error:
            log.warning("hub.done_not_stored", error=str(error), hint="it is sent again")
            self._notify(callbacks)


def number_of(stream: str) -> int:
    """Which stream, as the store has it: never 0."""
    digest = hashlib.sha256(stream.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1 or 1


def _outcomes(done: Done, number: int) -> Iterable[Outcome]:
    for state, message_ids in (
        (CallbackState.DELIVERED, done.delivered),
        (CallbackState.DEAD, done.dead),
        (CallbackState.CANCELLED, done.cancelled),
    ):
        for message_id in message_ids:
            yield Outcome(number, message_id, state)


async def watch(link: Link, stream: str) -> None:
    """Raises LinkError once it is no longer that stream."""
    while True:
        await asyncio.sleep(CHECK)
        try:
            now, _ = await link.last_number(subjects.DONE)
        except NoAnswerError:
            continue
        if now != stream:
            raise LinkError(f"stream {subjects.DONE} of the broker was made anew")
