"""A dispatcher of several hubs' one: it begins nothing while another sends, and learns of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from agent.deliver.dispatcher import Dispatcher
from agent.fleet import subjects
from agent.fleet.hub.done import DoneFollower
from agent.fleet.link import Incoming
from agent.fleet.words import Done, pack
from agent.model import CallbackState
from agent.store import DeliveryQuery, Followed, Outcome
from tests.deliver.test_dispatcher import calls, house, ids
from tests.deliver.test_order import SHORT, Lane, Walk, _small_steps
from tests.fakes.receiver import after, answer
from tests.kit.deliver import make_callback, make_webhook, settings
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model import Callback
    from agent.store import Callbacks
    from tests.kit.house import House

__all__ = ["_small_steps", "house"]


class Gate:
    """What the dispatcher asks."""

    def __init__(self, *, open_: bool) -> None:
        self.open = open_
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.open


async def test_nothing_begins_while_it_is_shut_and_all_goes_out_when_it_opens(house: House) -> None:
    receiver = await house.receiver()
    gate = Gate(open_=False)
    dispatcher = await house.start(make_webhook(receiver.url()), may_send=gate)
    sent = await house.commit(*[make_callback(udid=f"phone {n % 7}") for n in range(50)])
    before = len(asyncio.all_tasks())
    house.clock.advance(3600)
    assert (receiver.requests, dispatcher.stats()[1].lanes) == ([], 7)
    assert len(asyncio.all_tasks()) == before, "it costs nothing to wait"
    gate.open = True
    dispatcher.opened()
    await receiver.until(lambda: len(receiver.requests) == len(sent))
    for phone in range(7):
        mine = calls(sent[phone::7])
        assert [each for each in ids(receiver.requests) if each in set(mine)] == mine


async def test_what_is_under_way_when_it_shuts_ends_and_nothing_follows(house: House) -> None:
    receiver = await house.receiver()
    holding = asyncio.Event()
    receiver.default = after(holding)
    gate = Gate(open_=True)
    dispatcher = await house.start(make_webhook(receiver.url()), may_send=gate)
    first, second = await house.commit(make_callback(), make_callback())
    await receiver.until(lambda: receiver.open == 1)
    gate.open = False
    holding.set()
    await house.settled(first, CallbackState.DELIVERED)
    await eventually(lambda: dispatcher.stats()[1].in_flight == 0)
    assert await house.state(second) is CallbackState.PENDING
    assert ids(receiver.requests) == calls([first])


async def test_it_is_asked_when_an_attempt_begins_and_not_before(house: House) -> None:
    """The process stands still between a decision and the attempt: nobody noticed yet."""
    receiver = await house.receiver()
    gate = Gate(open_=True)

    class Stopped:
        """The real callbacks; the process is stopped while it loads."""

        def __getattr__(self, name: str) -> object:
            return getattr(house.store.callbacks, name)

        async def pending(self, *lane: int) -> list[Callback]:
            found = await house.store.callbacks.pending(*lane)  # type: ignore[arg-type]  # as given
            gate.open = False
            return found

    await house.commit(make_callback(), notify=False)
    await house.start(make_webhook(receiver.url()), store=Stopped(), may_send=gate)
    await eventually(lambda: not gate.open and not house.dispatcher.stats()[1].in_flight)  # type: ignore[union-attr]  # it was made
    assert receiver.requests == []


@pytest.mark.parametrize("state", ["delivered", "dead", "cancelled"])
async def test_what_another_hub_made_final_is_not_sent(house: House, state: str) -> None:
    receiver = await house.receiver()
    gate = Gate(open_=False)
    dispatcher = await house.start(make_webhook(receiver.url()), may_send=gate)
    first, second, other = await house.commit(
        make_callback(), make_callback(), make_callback(udid="other")
    )
    outcomes = [
        Outcome(n, each.message_id, CallbackState(state)) for n, each in ((1, first), (2, other))
    ]
    settled = await house.store.elsewhere.settle(
        outcomes, Followed(7, 2), lambda them: dispatcher.settled(them.lanes)
    )
    assert settled.unknown == ()
    assert dispatcher.stats()[1].lanes == 1, "nothing waits for the other phone"
    assert await house.store.backlog.sizes() == {1: 1}
    assert await house.store.elsewhere.followed() == Followed(7, 2)
    gate.open = True
    dispatcher.opened()
    await house.settled(second, CallbackState.DELIVERED)
    assert ids(receiver.requests) == calls([second])
    (row,) = await house.store.deliveries.find(DeliveryQuery(message_id=first.message_id))
    assert (row.state, row.callback.attempts) == (state, int(state != "cancelled"))


async def test_the_others_hear_of_what_is_final_once_it_is_durable(house: House) -> None:
    receiver = await house.receiver()
    told: list[tuple[CallbackState, str]] = []

    def on_final(state: CallbackState, message_ids: Sequence[str]) -> None:
        told.extend((state, each) for each in message_ids)

    receiver.script.append(answer(500))
    webhook = make_webhook(receiver.url(), backlog="latest")
    await house.start(webhook, on_final=on_final, concurrency=1)
    one, two, three = await house.commit(*[make_callback() for _ in range(3)])
    await eventually(lambda: house.clock.armed)
    assert told == []
    house.clock.advance(3600)
    await eventually(lambda: len(told) == 3)
    assert sorted(told[:2]) == sorted(
        (CallbackState.CANCELLED, each.message_id) for each in (one, two)
    )
    assert told[2] == (await house.state(three), three.message_id)


class FleetWalk(Walk):
    """A walk in which this hub and another one take turns."""

    open = True
    number = 0

    def make(self) -> Dispatcher:
        self.follower = DoneFollower(
            self.store.elsewhere,
            "this",
            lambda callbacks: self.dispatcher.notify(callbacks),  # noqa: PLW0108 - one that is to be made
            lambda lanes: self.dispatcher.settled(lanes),  # noqa: PLW0108 - likewise
        )
        return Dispatcher(
            cast("Callbacks", self.slow),
            self.endpoint,
            webhooks=self.webhooks,
            settings=settings(concurrency=3),
            clock=self.clock,
            held=self.held,
            may_send=lambda: self.open,
        )

    def notify(self, callbacks: Sequence[Callback]) -> None:
        self.follower.made(callbacks)

    async def more(self) -> None:
        roll = self.dice.random.random()
        if roll < 0.15:
            self.open = not self.open
            if self.open:
                self.dispatcher.opened()
        elif not self.open and roll < 0.5:
            await self.elsewhere()

    async def elsewhere(self) -> None:
        """The other hub sends some of a lane, in order, and tells; nothing is under way here."""
        lane: Lane = self.dice.random.choice([1, 2]), f"phone {self.dice.random.randrange(5)}"
        stats = self.dispatcher.stats().get(lane[0])
        if stats is None or stats.in_flight or stats.unrecorded:
            return
        # What is being cancelled with its webhook is pending here alone: the other hub has its own.
        await asyncio.gather(*self.cancelling)
        rows = await self.store.callbacks.pending(*lane, 0, self.dice.random.choice([1, 2, 40]))
        if not rows:
            return
        for row in rows:
            self.endpoint.accepted[row.rowid] += 1
            self.endpoint.sent[lane].append(row.rowid)
        self.endpoint.asked.pop(lane, None)  # the message that was to wait has been taken
        FleetWalk.number += 1
        word = Done(hub="other", delivered=tuple(each.message_id for each in rows))
        self.follower._hear(0, Incoming(subjects.DONE_SUBJECT, pack(word), FleetWalk.number))
        await self.follower._take()

    async def end(self) -> None:
        self.open = True
        self.dispatcher.opened()
        await super().end()


@pytest.mark.usefixtures("_small_steps")
@pytest.mark.parametrize("backlog", ["all", "latest"])
@pytest.mark.parametrize("seed", SHORT)
async def test_hubs_that_take_turns_keep_order_lose_nothing_and_repeat_nothing(
    tmp_path: Path, seed: int, backlog: str
) -> None:
    await FleetWalk(tmp_path, seed, backlog).play(count=250)
