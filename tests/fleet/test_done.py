"""What another hub has delivered: how far it was read, and what was not made here yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.fleet import subjects
from agent.fleet.hub import done
from agent.fleet.hub.done import DoneFollower, Teller, number_of
from agent.fleet.link import Incoming, LinkError
from agent.fleet.words import Done, Word, pack, unpack
from agent.model import Attempt, Callback, CallbackState, DeviceState
from agent.store import DeliveryQuery, Followed, Outcome
from tests.kit.deliver import NOW_MS, make_callback, make_record
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.store import LaneHead, Store


class Stand:
    """A standby's follower, its store, and what it hands on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sent: list[str] = []
        self.lanes: list[LaneHead] = []
        self.follower = DoneFollower(store.elsewhere, "this/1", self.notify, self.lanes.extend)
        self.follower._stream = number_of("made at noon")

    def notify(self, callbacks: Sequence[Callback]) -> None:
        self.sent += [each.message_id for each in callbacks]

    async def hear(self, number: int, *ids: str, hub: str = "other/2") -> None:
        await self.take(number, pack(Done(hub=hub, delivered=ids)))

    async def take(self, number: int, body: bytes) -> None:
        self.follower._hear(0, Incoming(subjects.DONE_SUBJECT, body, number))
        await self.follower._take()

    async def make(self, *ids: str) -> None:
        fresh = [make_callback(message_id=each) for each in ids]
        self.follower.made(await self.store.record(make_record("phone"), None, fresh))

    async def through(self) -> int:
        stream, through = await self.store.elsewhere.followed()
        assert stream in {0, number_of("made at noon")}
        return through

    async def state(self, message_id: str) -> CallbackState:
        (row,) = await self.store.deliveries.find(DeliveryQuery(message_id=message_id))
        return row.state


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    store = open_store(tmp_path)
    yield Stand(store)
    await store.close()


async def test_the_place_stays_in_front_of_what_is_not_made_yet(stand: Stand) -> None:
    await stand.make("a", "b")
    await stand.hear(1, "a")
    assert await stand.through() == 1
    await stand.hear(4, "b", "x")
    await stand.hear(5, "y")
    assert (await stand.through(), stand.follower.remembered) == (3, 2)
    await stand.make("x", "z")
    await eventually(lambda: stand.lanes[-1].rowid)
    assert (await stand.state("x"), await stand.state("z")) == ("delivered", "pending")
    assert (stand.sent, stand.follower.remembered) == (["a", "b", "z"], 1)
    await stand.hear(9, "q")
    assert await stand.through() == 4
    await stand.make("y")
    assert await stand.state("y") is CallbackState.DELIVERED
    assert await stand.through() == 8


async def test_what_this_hub_alone_made_is_given_up_once_another_went_on_behind_it(
    stand: Stand,
) -> None:
    """It took a host for lost a moment before it was back; who sends did not."""
    await stand.make("a", "lost", "back", "b", "c")
    await stand.hear(1, "a")
    assert await stand.state("lost") is CallbackState.PENDING
    await stand.hear(2, "b")
    states = [await stand.state(each) for each in ("a", "lost", "back", "b", "c")]
    assert states == ["delivered", "cancelled", "cancelled", "delivered", "pending"]
    assert sum((await stand.store.backlog.sizes()).values()) == 1
    assert stand.lanes[-1].rowid == 5


async def test_what_is_told_dead_behind_what_is_delivered_is_no_less_dead(stand: Stand) -> None:
    await stand.make("a", "b")
    await stand.take(1, pack(Done(hub="other/2", delivered=("b",), dead=("a",))))
    assert [await stand.state(each) for each in ("a", "b")] == ["dead", "delivered"]


async def test_what_is_never_made_is_forgotten_in_the_end(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(done, "REMEMBERED", 3)
    for number in range(1, 10):
        await stand.hear(number, f"never {number}")
    assert stand.follower.remembered == 3
    assert await stand.through() >= 4
    await stand.make("never 1", "never 9")
    assert stand.sent == ["never 1"]


async def test_what_is_none_of_ours_holds_nothing_up(stand: Stand) -> None:
    await stand.take(1, b"?")
    await stand.take(2, b'{"hub": 5}')
    await stand.take(3, pack(Word()))
    await stand.hear(4, "own", hub="this/1")
    assert (await stand.through(), stand.follower.bad, stand.follower.remembered) == (4, 3, 0)


async def test_a_place_of_another_stream_counts_anew(stand: Stand) -> None:
    await stand.hear(70)
    assert await stand.store.elsewhere.followed() == Followed(number_of("made at noon"), 70)
    stand.follower._stream = number_of("made at one")
    stand.follower._through = 0
    await stand.hear(2)
    assert await stand.store.elsewhere.followed() == Followed(number_of("made at one"), 2)


async def test_what_was_stored_and_not_notified_yet_is_not_sent(stand: Stand) -> None:
    stored = await stand.store.record(make_record("phone"), None, [make_callback(message_id="a")])
    await stand.hear(1, "a")
    stand.follower.made(stored)
    assert stand.sent == []


@pytest.mark.parametrize("late", [CallbackState.PENDING, CallbackState.DEAD])
async def test_an_own_attempt_that_ends_late_does_not_undo_it(
    stand: Stand, late: CallbackState
) -> None:
    (callback,) = await stand.store.record(
        make_record("phone"), None, [make_callback(message_id="a")]
    )
    await stand.hear(1, "a")
    attempt = Attempt("a", NOW_MS, 5, None, "reset", "")
    await stand.store.callbacks.finish(callback, attempt, late, NOW_MS if late == "pending" else 0)
    assert await stand.state("a") is CallbackState.DELIVERED
    assert len(await stand.store.attempts.of("a")) == 1
    assert set((await stand.store.backlog.sizes()).values()) <= {0}


async def test_what_became_final_lately_can_be_told_again(stand: Stand) -> None:
    await stand.store.webhooks.ids([(0, "hook", 1)])
    await stand.store.webhooks.retain({1})
    made = [make_callback(message_id=each, state=DeviceState.ONLINE) for each in "abcde"]
    stored = await stand.store.record(make_record("phone"), None, made)
    attempt = Attempt("a", NOW_MS, 5, 200, "", "")
    await stand.store.callbacks.finish(stored[0], attempt, CallbackState.DELIVERED)
    await stand.store.callbacks.finish(stored[1], attempt, CallbackState.DEAD)
    await stand.store.callbacks.supersede(1, "phone")
    assert await stand.store.elsewhere.recent(600.0, 10) == [
        ("a", CallbackState.DELIVERED),
        ("b", CallbackState.DEAD),
        ("c", CallbackState.CANCELLED),
        ("d", CallbackState.CANCELLED),
    ]
    assert await stand.store.elsewhere.recent(-600.0, 10) == []
    outcome = Outcome(1, "e", CallbackState.DELIVERED)
    settled = await stand.store.elsewhere.settle([outcome, outcome], Followed(3, 1), _nobody)
    assert [(each.udid, each.rowid) for each in settled.lanes] == [("phone", 0)]


def _nobody(_: object) -> None:
    """Nobody hears."""


class Wire:
    """A link, as far as a teller needs it; its first append fails, or is never answered."""

    def __init__(self, fault: LinkError | None) -> None:
        self.fault = fault
        self.tried = asyncio.Event()
        self.told: list[Done] = []
        self.news = asyncio.Event()

    async def append(self, subject: str, body: bytes, message_id: str) -> int:
        assert message_id
        if not self.tried.is_set():
            self.tried.set()
            if self.fault is not None:
                raise self.fault
            await asyncio.Event().wait()
        self.told.append(unpack(Done, body, subject))
        self.news.set()
        return len(self.told)


@pytest.mark.parametrize("fault", [LinkError("it has no leader"), None])
async def test_what_an_ended_try_could_not_tell_is_told_by_the_next(
    stand: Stand, fault: LinkError | None
) -> None:
    """Though nothing else becomes final meanwhile."""
    wire: Any = Wire(fault)
    teller = Teller(stand.store.elsewhere, "this/1")
    serving = asyncio.create_task(teller.serve(wire, "made at noon"))
    teller.final(CallbackState.DELIVERED, ["a", "b"])
    await wire.tried.wait()
    serving.cancel()
    with pytest.raises(LinkError if fault else asyncio.CancelledError):
        await serving
    serving = asyncio.create_task(teller.serve(wire, "made at noon"))
    async with asyncio.timeout(LIMIT):
        await wire.news.wait()
    serving.cancel()
    await asyncio.wait({serving})
    (done_,) = wire.told
    assert done_.delivered == ("a", "b")
