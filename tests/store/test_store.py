"""The store's promises to its callers, while the disk is well."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from typing import TYPE_CHECKING

import pytest

from agent.config import Delivery
from agent.errors import IdTakenError, StoreError
from agent.model import CallbackState, DeviceState
from agent.store import DeliveryQuery, PendingLane, Store
from agent.store.faults import CorruptError
from agent.store.files import STATE_NAME, connect, create
from agent.store.tables import silences
from tests.kit.clock import StubClock
from tests.kit.settings import section
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT, eventually
from tests.store.samples import (
    EVERYTHING,
    attempt,
    callback,
    deliver,
    device,
    lease,
    put,
    rows,
    silence,
    transition,
    until_rows,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.model import Callback


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state", clock=StubClock(start_ms=9_000))
    yield opened
    await opened.close()


async def test_what_was_recorded_is_there_after_reopening(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = await put(store, "m1")
    await store.leases.put(lease())
    await store.close()
    again = open_store(tmp_path)
    assert await again.devices.all() == [device()]
    assert await again.callbacks.lanes() == [PendingLane(1, "phone-1", first)]
    assert await again.leases.all() == [lease()]
    assert again.health.ok
    assert again.health.recovered_from == ""
    await again.close()


async def test_record_returns_callbacks_with_ids_in_order(store: Store) -> None:
    given = [callback("a", 1), callback("b", 2), callback("c", 3)]
    stored = await store.record(device(), transition(), given)
    assert [dataclasses.replace(each, rowid=0) for each in stored] == given
    assert [each.rowid for each in stored] == sorted({each.rowid for each in stored})
    assert stored[0].rowid > 0


async def test_a_device_is_replaced_and_a_transition_is_optional(store: Store) -> None:
    await store.record(device(), None, [])
    changed = device(state=DeviceState.UTILIZING, since_ms=2_000)
    assert await store.record(changed, None, []) == ()
    assert await store.devices.all() == [changed]


async def test_transitions(store: Store) -> None:
    assert await store.transitions.newest() is None
    for udid, at_ms in (("a", 1), ("b", 2), ("a", 3)):
        await store.record(device(udid), transition(udid, at_ms), [])
    first, second, third = await store.transitions.after(0, 10)
    assert [each.transition for each in (first, second, third)] == [
        transition("a", 1),
        transition("b", 2),
        transition("a", 3),
    ]
    assert await store.transitions.newest() == third
    assert await store.transitions.get(second.id) == second
    assert await store.transitions.get(third.id + 1) is None
    assert await store.transitions.after(first.id, 1) == [second]
    assert await store.transitions.of("a", 10) == [third, first]
    assert await store.transitions.of("a", 1) == [third]


async def test_calls_are_committed_in_the_order_they_were_made(store: Store) -> None:
    calls = [store.record(device(), None, [callback(f"m{n}")]) for n in range(300)]
    # Awaited in reverse: only the order of the calls counts.
    for call in reversed(calls):
        await call
    stored = await store.callbacks.pending(1, "phone-1", 0, 1_000)
    assert [each.message_id for each in stored] == [f"m{n}" for n in range(300)]


async def test_a_cancelled_caller_does_not_take_its_change_back(store: Store) -> None:
    task = asyncio.create_task(put(store, "kept"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await put(store, "behind it")
    assert [each.message_id for each in await store.callbacks.pending(1, "phone-1", 0, 9)] == [
        "kept",
        "behind it",
    ]


async def test_a_refused_change_does_not_take_its_neighbours_down(store: Store) -> None:
    calls = [store.record(device(), None, [callback(f"m{n}")]) for n in range(20)]
    bad = [
        store.record(device("other"), None, [callback("m3"), callback("unique")]),
        store.record(device(), None, [dataclasses.replace(callback("x"), body=b"")]),
        store.record(device(), None, [dataclasses.replace(callback("x"), created_ms=1 << 70)]),
        store.record(dataclasses.replace(device("odd"), name="\udc80"), None, []),
        store.record(device(), transition("unknown phone"), []),
    ]
    more = [store.record(device(), None, [callback(f"n{n}")]) for n in range(20)]
    results = await asyncio.gather(*calls, *bad, *more, return_exceptions=True)
    refused = results[20:25]
    assert all(isinstance(error, StoreError) for error in refused), refused
    assert not [each for each in results[:20] + results[25:] if isinstance(each, Exception)]
    assert set(await rows(store)) == {f"m{n}" for n in range(20)} | {f"n{n}" for n in range(20)}
    # All or nothing: the device of the refused change is not there either.
    assert await store.devices.all() == [device()]
    assert store.health.ok


async def test_finishing(store: Store) -> None:
    retried, delivered, dead = [await put(store, name) for name in ("r", "d", "x")]
    await store.callbacks.finish(
        retried, attempt("r", 503, "HTTP 503"), CallbackState.PENDING, 7_000
    )
    await store.callbacks.finish(
        retried, attempt("r", None, "timeout"), CallbackState.PENDING, 8_000
    )
    await deliver(store, delivered)
    await store.callbacks.finish(dead, attempt("x", 500, "HTTP 500"), CallbackState.DEAD)
    await put(store, "waits", 2)
    table = await rows(store)
    assert table["r"].state is CallbackState.PENDING
    assert table["r"].callback == dataclasses.replace(retried, attempts=2, due_ms=8_000)
    assert (table["r"].status, table["r"].error, table["r"].finished_ms) == (None, "timeout", None)
    assert table["d"].state is CallbackState.DELIVERED
    assert (table["d"].status, table["d"].error, table["d"].finished_ms) == (200, "", 9_000)
    assert table["d"].callback.attempts == 1
    assert table["x"].state is CallbackState.DEAD
    assert (table["x"].callback.attempts, table["x"].status) == (1, 500)
    assert (table["waits"].callback.attempts, table["waits"].status) == (0, None)
    assert await store.attempts.of("r") == [
        attempt("r", 503, "HTTP 503"),
        attempt("r", None, "timeout"),
    ]
    assert await store.attempts.of("waits") == []
    (left,) = await store.callbacks.pending(1, "phone-1", 0, 10)
    assert left.message_id == "r"


async def test_a_dead_callback_can_be_replayed(store: Store) -> None:
    stored = await put(store, "m")
    await store.callbacks.finish(stored, attempt("m", 500, "HTTP 500"), CallbackState.DEAD, 7_000)
    assert await store.callbacks.lanes() == []
    query = DeliveryQuery(message_id="m")
    told: list[Callback] = []
    again = [each async for each in store.deliveries.revive(query, lambda: {1}, told.extend)]
    (lane,) = await store.callbacks.lanes()
    assert lane.head == dataclasses.replace(stored, attempts=1), "due at once"
    assert again == told == [lane.head]
    assert (await rows(store))["m"].finished_ms is None


async def test_an_unknown_callback_is_no_reason_to_fail(store: Store) -> None:
    unknown = dataclasses.replace(callback("never stored"), rowid=77)
    await store.callbacks.finish(unknown, attempt("never stored"), CallbackState.DELIVERED)
    stored = await put(store, "m")
    other = dataclasses.replace(stored, message_id="another message of that id")
    await store.callbacks.finish(other, attempt("m"), CallbackState.DELIVERED)
    assert [lane.head for lane in await store.callbacks.lanes()] == [stored]


async def test_webhooks_that_are_not_kept_are_cancelled(store: Store) -> None:
    for webhook_id in (1, 2, 3):
        for number in range(webhook_id):
            await put(store, f"{webhook_id}-{number}", webhook_id)
    in_flight = (await store.callbacks.pending(3, "phone-1", 0, 1))[0]
    assert await store.webhooks.retain({1, 4}) == 5
    assert await store.webhooks.retain({1, 4}) == 0
    assert [lane.webhook_id for lane in await store.callbacks.lanes()] == [1]
    states = {name: row.state for name, row in (await rows(store)).items()}
    assert states["1-0"] is CallbackState.PENDING
    assert {states[name] for name in states if name != "1-0"} == {CallbackState.CANCELLED}
    # The outcome of the attempt that was under way: recorded, and a retry revives nothing.
    await store.callbacks.finish(
        in_flight, attempt("3-0", 500, "HTTP 500"), CallbackState.PENDING, 1
    )
    row = (await rows(store))["3-0"]
    assert row.state is CallbackState.CANCELLED
    assert (row.callback.attempts, row.status, row.error) == (1, 500, "HTTP 500")
    await deliver(store, in_flight)
    assert (await rows(store))["3-0"].state is CallbackState.DELIVERED


async def test_a_large_backlog_is_cancelled_whole(store: Store) -> None:
    for webhook_id in (1, 2):
        many = [callback(f"{webhook_id}-{n}", webhook_id) for n in range(2_500)]
        await store.record(device(), None, many)
    await put(store, "kept", 3)
    assert await store.webhooks.retain([3]) == 5_000
    assert [lane.webhook_id for lane in await store.callbacks.lanes()] == [3]


async def test_each_step_of_a_cancelling_asks_what_is_in_force(store: Store) -> None:
    """A webhook is deleted, and put back while its backlog is still being cancelled."""
    for _ in range(5):
        many = [callback(f"{uuid.uuid4()}", 1) for _ in range(2_000)]
        await store.record(device(), None, many)
    first = store.webhooks.retain([])
    while len(await store.callbacks.pending(1, "phone-1", 0, 10_000)) == 10_000:
        pass  # each question is answered between two steps
    again = store.webhooks.retain([1])  # in force from here on, before anything is awaited
    (fresh,) = await store.record(device(), None, [callback("fresh", 1)])
    cancelled = await first + await again
    assert 2_000 <= cancelled < 10_000
    assert (await rows(store))["fresh"].state is CallbackState.PENDING
    assert len(await store.callbacks.pending(1, "phone-1", 0, 20_000)) == 10_001 - cancelled
    assert await store.webhooks.retain([1]) == 0
    await deliver(store, fresh)


async def test_a_lane_is_superseded_up_to_its_newest(store: Store) -> None:
    many = [callback(f"m{n}") for n in range(4_500)]
    await store.record(device(), None, many)
    await put(store, "other lane", 1, "phone-2")
    await put(store, "other webhook", 2)
    steps = []
    while ids := await store.callbacks.supersede(1, "phone-1"):
        steps.append(ids)
    assert sorted(each for ids in steps for each in ids) == sorted(f"m{n}" for n in range(4_499))
    assert max(map(len, steps)) <= 2_000
    (left,) = await store.callbacks.pending(1, "phone-1", 0, 10)
    assert left.message_id == "m4499"
    assert await store.backlog.sizes() == {1: 2, 2: 1}
    assert await store.callbacks.supersede(1, "nobody") == []


async def test_a_replay_takes_all_that_match_oldest_first(store: Store) -> None:
    made = await store.record(device(), None, [callback(f"m{n:04}") for n in range(2_500)])
    await put(store, "gone", 2)
    for each in [*made, *(await store.callbacks.pending(2, "phone-1", 0, 1))]:
        store.callbacks.finish(each, attempt(each.message_id, 500), CallbackState.DEAD)
    await put(store, "waits")
    told: list[Callback] = []
    query = DeliveryQuery(state=CallbackState.DEAD, limit=10_000)
    sizes = await store.backlog.sizes()
    again = [each async for each in store.deliveries.revive(query, lambda: {1}, told.extend)]
    assert [each.message_id for each in again] == [f"m{n:04}" for n in range(2_500)]
    assert told == again
    assert all(each.attempts == 1 and each.due_ms == 0 for each in again)
    assert (await rows(store))["gone"].state is CallbackState.DEAD
    assert (await store.backlog.sizes())[1] == sizes[1] + 2_500
    assert len(await store.callbacks.pending(1, "phone-1", 0, 10_000)) == 2_501
    assert [each async for each in store.deliveries.revive(query, lambda: {1}, told.extend)] == []


@pytest.mark.parametrize("limit", [1, 700])
async def test_a_replay_can_be_bounded_and_is_of_the_oldest(store: Store, limit: int) -> None:
    for each in await store.record(device(), None, [callback(f"m{n:04}") for n in range(1_500)]):
        store.callbacks.finish(each, attempt(each.message_id, 500), CallbackState.DEAD)
    query = DeliveryQuery(state=CallbackState.DEAD, limit=limit)
    again = [each async for each in store.deliveries.revive(query, lambda: {1}, lambda _: None)]
    assert [each.message_id for each in again] == [f"m{n:04}" for n in range(limit)]


async def test_what_is_revived_is_told_also_if_nobody_waits(store: Store) -> None:
    for each in await store.record(device(), None, [callback(f"m{n}") for n in range(3)]):
        await store.callbacks.finish(each, attempt(each.message_id, 500), CallbackState.DEAD)
    told: list[Callback] = []
    heard = asyncio.Event()

    def tell(callbacks: Sequence[Callback]) -> None:
        told.extend(callbacks)
        heard.set()

    query = DeliveryQuery(state=CallbackState.DEAD)

    async def replay() -> None:
        async for _ in store.deliveries.revive(query, lambda: {1}, tell):
            pass

    asker = asyncio.create_task(replay())
    async with asyncio.timeout(LIMIT):
        while not store.figures.queued:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)
        asker.cancel()  # its change is on its way already
        await heard.wait()
    await asyncio.gather(asker, return_exceptions=True)
    assert [each.message_id for each in told] == ["m0", "m1", "m2"]
    assert len(await store.callbacks.pending(1, "phone-1", 0, 10)) == 3


async def test_deliveries_are_filtered_newest_first(store: Store) -> None:
    for number in range(6):
        await put(store, f"m{number}", 1 + number % 2, f"phone-{number % 3}")
    await store.record(device("late"), None, [callback("m6", 1, "late", created_ms=5_000)])
    (m0,) = await store.deliveries.find(DeliveryQuery(message_id="m0"))
    await deliver(store, m0.callback)

    async def names(query: DeliveryQuery) -> list[str]:
        return [row.callback.message_id for row in await store.deliveries.find(query)]

    assert await names(DeliveryQuery()) == ["m6", "m5", "m4", "m3", "m2", "m1", "m0"]
    assert await names(DeliveryQuery(limit=2)) == ["m6", "m5"]
    assert await names(DeliveryQuery(limit=0)) == []
    assert await names(DeliveryQuery(webhook_id=2)) == ["m5", "m3", "m1"]
    assert await names(DeliveryQuery(udid="phone-0")) == ["m3", "m0"]
    assert await names(DeliveryQuery(state=CallbackState.DELIVERED)) == ["m0"]
    assert await names(DeliveryQuery(since_ms=5_000)) == ["m6"]
    assert await names(DeliveryQuery(message_id="m2", webhook_id=2)) == []
    assert await names(DeliveryQuery(message_id="nobody's")) == []


async def test_deliveries_go_back_through_a_long_history(store: Store) -> None:
    many = [store.record(device(), None, [callback(f"m{n}")]) for n in range(12_000)]
    await asyncio.gather(*many)
    listed = await store.deliveries.find(EVERYTHING)
    assert [row.callback.message_id for row in listed] == [f"m{n}" for n in range(11_999, -1, -1)]
    (first,) = await store.callbacks.pending(1, "phone-1", 0, 1)
    await deliver(store, first)
    (found,) = await store.deliveries.find(DeliveryQuery(state=CallbackState.DELIVERED))
    assert found.callback.message_id == "m0"


async def test_backlog(tmp_path: Path) -> None:
    """Kept up with what happens, and counted, are the same."""
    store = open_store(tmp_path)
    assert await store.backlog.sizes() == {}
    for number in range(3):
        await store.record(device(), None, [callback(f"m{number}", 7)])
    await put(store, "other", 8)
    (head,) = await store.callbacks.pending(7, "phone-1", 0, 1)
    await deliver(store, head)
    assert await store.backlog.sizes() == {7: 2, 8: 1}
    await store.close()
    again = open_store(tmp_path)
    assert await again.backlog.sizes() == {7: 2, 8: 1}
    await again.close()


async def test_leases(store: Store) -> None:
    await store.leases.put(lease("b", acquired_ms=2))
    await store.leases.put(lease("a", acquired_ms=3))
    renewed = dataclasses.replace(lease("b", acquired_ms=2), expires_ms=99_000, ttl=0.5)
    await store.leases.put(renewed)
    assert await store.leases.all() == [renewed, lease("a", acquired_ms=3)]
    await store.leases.delete("b")
    await store.leases.delete("never there")
    assert await store.leases.all() == [lease("a", acquired_ms=3)]


async def test_callback_ids_are_not_reused_after_deletion(tmp_path: Path) -> None:
    store = open_store(
        tmp_path, settings=section(Delivery, retention=0.0), clock=StubClock(start_ms=9_000)
    )
    stored = await put(store, "m1")
    await store.callbacks.finish(stored, attempt("m1"), CallbackState.DELIVERED)
    await store.close()
    again = open_store(
        tmp_path, settings=section(Delivery, retention=0.0), clock=StubClock(start_ms=10_000)
    )
    await until_rows(again, set())
    assert (await put(again, "m2")).rowid > stored.rowid
    await again.close()


async def test_webhook_ids(store: Store) -> None:
    # The explicit one stands below: its id must not have been given to the first.
    assert await store.webhooks.ids([(2, "a", None), (2, "b", 1), (3, "a", None)]) == [2, 1, 3]
    assert await store.webhooks.ids([(3, "a", None), (2, "new", None)]) == [3, 4]
    # "b" loses its line in the file and keeps its id; its name in other letters is another name.
    assert await store.webhooks.ids([(2, "b", None), (2, "B", None)]) == [1, 5]
    # A name may move to another id; the one it leaves stays its own.
    assert await store.webhooks.ids([(2, "b", 50)]) == [50]
    assert await store.webhooks.ids([(2, "b", None)]) == [50]
    with pytest.raises(StoreError, match=r"'a' \(org 9\) .* id 1.* belongs to webhook 'b' \(org 2"):
        await store.webhooks.ids([(9, "z", None), (9, "a", 1)])
    # Refused as a whole: nothing was given to "z".
    assert await store.webhooks.ids([(9, "y", None)]) == [6]


async def test_a_webhook_in_force_keeps_its_id_under_another_name(store: Store) -> None:
    assert await store.webhooks.ids([(2, "a", None), (2, "b", 7)]) == [1, 7]
    await store.webhooks.retain({1, 7})
    for clash in ([(2, "b", 1), (2, "c", 7)], [(2, "a", 7), (2, "b", 1)]):
        with pytest.raises(StoreError, match="belongs to webhook"):
            await store.webhooks.ids(clash)  # "b" has an id, and a new name for both is no swap
    assert await store.webhooks.ids([(2, "a, renamed", 1), (2, "b", 7)]) == [1, 7]
    await store.webhooks.retain({1, 7})
    # Its old name is another webhook from now on.
    assert await store.webhooks.ids([(2, "a", None), (2, "b", 7)]) == [2, 7]
    await store.webhooks.retain({2, 7})
    with pytest.raises(StoreError, match=r"id 1.* belongs to webhook 'a, renamed'"):
        await store.webhooks.ids([(2, "c", 1)])  # deleted: its id is nobody else's


async def test_what_is_in_force_survives_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.webhooks.ids([(1, "a", None), (1, "b", None)])
    await store.webhooks.retain({1})
    await store.close()
    again = open_store(tmp_path)
    assert await again.webhooks.ids([(1, "a2", 1)]) == [1]
    with pytest.raises(StoreError, match="id 2"):
        await again.webhooks.ids([(1, "b2", 2)])
    await again.close()


async def test_another_organisation_makes_no_other_webhook(tmp_path: Path) -> None:
    """Not by a restart, nor back again, nor where the new key once had another id."""
    store = open_store(tmp_path)
    asked: list[tuple[int, str, int | None]] = [(3, "a", None), (3, "b", None)]
    assert await store.webhooks.ids(asked) == [1, 2]
    await store.webhooks.retain([1, 2])
    await store.webhooks.retain([])  # deleted
    old: list[tuple[int, str, int | None]] = [(2, "a", None), (2, "b", None), (2, "c", 9)]
    assert await store.webhooks.ids(old) == [3, 4, 9]
    await store.webhooks.retain([3, 4, 9])
    await store.record(device(), None, [callback("m-1", webhook_id=3)])
    await store.close()
    store = open_store(tmp_path)
    new: list[tuple[int, str, int | None]] = [(3, "a", None), (3, "b", None), (3, "c", None)]
    assert await store.webhooks.ids(new) == [3, 4, 9]
    assert await store.webhooks.retain([3, 4, 9]) == 0, "nothing is cancelled"
    assert await store.webhooks.ids(new) == [3, 4, 9]
    await store.webhooks.retain([4, 9])
    assert await store.webhooks.ids(new) == [3, 4, 9], "deleted and made again"
    await store.webhooks.retain([3, 4, 9])
    assert await store.webhooks.ids(old[:2]) == [3, 4]
    await store.webhooks.retain([3, 4])
    both: list[tuple[int, str, int | None]] = [(5, "a", None), (6, "a", None), (2, "b", None)]
    with pytest.raises(IdTakenError, match="cannot be told whether it is webhook 3"):
        await store.webhooks.ids(both)
    assert await store.webhooks.ids([(5, "a", 3), (6, "a", None), (2, "b", None)]) == [3, 5, 4]
    await store.close()


async def test_close_commits_what_is_queued(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    calls = [asyncio.ensure_future(put(store, f"m{n}")) for n in range(2_500)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert len(await asyncio.gather(*calls)) == 2_500
    again = open_store(tmp_path)
    assert len(await rows(again)) == 2_500
    await again.close()


async def test_silences(store: Store) -> None:
    await store.silences.put(silence("ffffffff", since_ms=2))
    await store.silences.put(silence("00000000", since_ms=3))
    renamed = dataclasses.replace(silence("ffffffff", since_ms=2), value="rack-2")
    await store.silences.put(renamed)
    assert await store.silences.all() == [renamed, silence("00000000", since_ms=3)]
    await store.silences.delete("ffffffff")
    await store.silences.delete("0000abcd")
    assert await store.silences.all() == [silence("00000000", since_ms=3)]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"kind": "moon", "value": "", "reason": "", "by": "", "since_ms": 1, "ends_ms": 2}',
        '{"kind": "all", "value": 7, "reason": "", "by": "", "since_ms": 1, "ends_ms": 2}',
        '{"kind": "all", "value": "", "reason": "", "by": "", "since_ms": 1, "ends_ms": 1e99}',
        '{"kind": "all", "value": "", "reason": "", "by": "", "since_ms": -1, "ends_ms": 2}',
    ],
)
def test_a_silence_that_makes_no_sense_is_told_and_mended(tmp_path: Path, said: str) -> None:
    """An agent that shows or waits for such a one would not start."""
    create(tmp_path / STATE_NAME)
    conn = connect(tmp_path / STATE_NAME)
    conn.execute("INSERT INTO silences VALUES (3, ?)", (said,))
    with pytest.raises(CorruptError, match="silence 3"):
        silences.every_silence(conn)
    assert silences.mend(conn) == 1
    assert silences.every_silence(conn) == []
    conn.close()


async def test_what_is_owed_of_a_device_is_stored_with_it(store: Store) -> None:
    owing = dataclasses.replace(device(), debt="online")
    await store.record(owing, None, ())
    assert await store.devices.all() == [owing]
    made = [callback("m")]
    await store.record(device(), None, made)
    assert await store.devices.all() == [device()]
    assert len(await store.callbacks.lanes()) == 1


async def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    stored = await put(store, "m")
    await store.close()
    for call in (
        put(store, "n"),
        store.callbacks.finish(stored, attempt("m"), CallbackState.DELIVERED),
        store.devices.all(),
        store.callbacks.lanes(),
        store.callbacks.pending(1, "phone-1", 0, 1),
        store.webhooks.ids([(1, "a", None)]),
        store.webhooks.retain([]),
        store.leases.all(),
        store.leases.put(lease()),
        store.leases.delete("l1"),
        store.silences.all(),
        store.silences.put(silence()),
        store.silences.delete("00000001"),
        store.deliveries.find(DeliveryQuery()),
        store.attempts.of("m"),
        store.transitions.newest(),
        store.transitions.get(1),
        store.transitions.after(0, 1),
        store.transitions.of("phone-1", 1),
        store.callbacks.supersede(1, "phone-1"),
        anext(store.deliveries.revive(DeliveryQuery(), lambda: {1}, lambda _: None)),
        store.backlog.sizes(),
    ):
        with pytest.raises(StoreError, match="closed"):
            await call


async def test_a_closed_store_leaves_one_file_and_no_descriptor(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await put(store, "m")
    await store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "state.db"}


async def test_health_is_told_only_when_it_changes(tmp_path: Path) -> None:
    told: list[object] = []
    store = open_store(tmp_path, on_health=told.append)
    await asyncio.gather(*(put(store, f"m{n}") for n in range(100)))
    assert told == []
    assert store.health.unstored == 0
    await store.close()


async def test_group_commit_survives_many_callers(store: Store) -> None:
    async def caller(number: int) -> None:
        for turn in range(5):
            stored = await put(store, f"{number}-{turn}", 1, f"phone-{number}")
            if turn:
                await deliver(store, stored)

    await asyncio.gather(*(caller(number) for number in range(200)))
    lanes = await store.callbacks.lanes()
    assert [lane.head.message_id for lane in lanes] == [
        f"{number}-0" for number in sorted(range(200), key=lambda n: f"phone-{n}")
    ]
    await eventually(lambda: store.health.unstored == 0, "an empty queue")
