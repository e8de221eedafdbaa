"""Any order of changes: the lanes equal a naive list, ids are never shared, bad ones stay out."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.carried import InForce, carried
from agent.errors import StoreError
from agent.model import CallbackState
from tests.kit.examples import examples
from tests.kit.store import open_store
from tests.store.samples import attempt, callback, device, rows

if TYPE_CHECKING:
    from agent.model import Callback
    from agent.store import Store

_UDIDS = st.sampled_from(["a", "b", "c"])
_WEBHOOKS = st.integers(1, 3)
_RECORD = st.tuples(st.just("record"), _UDIDS, st.lists(_WEBHOOKS, max_size=3))
_FINISH = st.tuples(st.just("finish"), st.integers(0, 30), st.sampled_from(list(CallbackState)))
_RETAIN = st.tuples(st.just("retain"), st.sets(_WEBHOOKS))
_BAD = st.tuples(st.just("bad"), _UDIDS)
_SYNC = st.tuples(st.just("sync"))
_STEPS = st.lists(st.one_of(_RECORD, _RECORD, _FINISH, _FINISH, _RETAIN, _BAD, _SYNC), max_size=30)


class _Naive:
    """The same rules over a plain list."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[Callback, CallbackState]] = []

    def lanes(self) -> dict[tuple[int, str], list[Callback]]:
        table: dict[tuple[int, str], list[Callback]] = defaultdict(list)
        for each, state in self.callbacks:
            if state is CallbackState.PENDING:
                table[each.webhook_id, each.udid].append(each)
        return dict(sorted(table.items()))

    def finish(self, index: int, state: CallbackState) -> None:
        each, before = self.callbacks[index]
        each = dataclasses.replace(each, attempts=each.attempts + 1)
        if state is CallbackState.PENDING and before is not CallbackState.PENDING:
            state = before
        self.callbacks[index] = (each, state)

    def retain(self, keep: set[int]) -> None:
        self.callbacks = [
            (each, CallbackState.CANCELLED)
            if state is CallbackState.PENDING and each.webhook_id not in keep
            else (each, state)
            for each, state in self.callbacks
        ]


async def _equal(store: Store, naive: _Naive) -> None:
    expected = naive.lanes()
    lanes = await store.callbacks.lanes()
    assert [(lane.webhook_id, lane.udid) for lane in lanes] == list(expected)
    assert [lane.head for lane in lanes] == [pile[0] for pile in expected.values()]
    for (webhook_id, udid), pile in expected.items():
        assert await store.callbacks.pending(webhook_id, udid, 0, 100) == pile
        assert await store.callbacks.pending(webhook_id, udid, pile[0].rowid, 1) == pile[1:2]
    # Counted at the first sync, kept up with every change after it.
    assert {webhook: size for webhook, size in (await store.backlog.sizes()).items() if size} == {
        webhook: sum(len(pile) for lane, pile in expected.items() if lane[0] == webhook)
        for webhook, _ in expected
    }
    assert {name: row.state for name, row in (await rows(store)).items()} == {
        each.message_id: state for each, state in naive.callbacks
    }


async def _walk(directory: Path, steps: list[tuple[object, ...]]) -> None:
    """Steps up to a `sync` are called without waiting: they share a batch."""
    store, naive = open_store(directory), _Naive()
    known: list[Callback] = []  # what a caller can know: callbacks whose record was awaited
    calls: list[asyncio.Future[object]] = []
    refusals: list[asyncio.Future[object]] = []
    for number, step in enumerate([*steps, ("sync",)]):
        match step:
            case ("record", str(udid), list(webhooks)):
                made = [callback(f"{number}-{i}", w, udid) for i, w in enumerate(webhooks)]
                calls.append(asyncio.ensure_future(store.record(device(udid), None, made)))
                naive.callbacks += [(each, CallbackState.PENDING) for each in made]
            case ("finish", int(index), CallbackState() as state) if known:
                index %= len(known)
                sent = known[index]
                change = store.callbacks.finish(sent, attempt(sent.message_id, 503), state)
                calls.append(asyncio.ensure_future(change))
                naive.finish(index, state)
            case ("retain", set(keep)):
                calls.append(asyncio.ensure_future(store.webhooks.retain(keep)))
                naive.retain(keep)
            case ("bad", str(udid)):
                bad = [callback(f"{number}-a", 1, udid), callback(f"{number}-a", 1, udid)]
                refusals.append(asyncio.ensure_future(store.record(device(udid), None, bad)))
            case ("sync",):
                done = await asyncio.gather(*calls)
                refused = await asyncio.gather(*refusals, return_exceptions=True)
                assert all(isinstance(each, StoreError) for each in refused)
                stored = [c for result in done if isinstance(result, tuple) for c in result]
                for each in stored:
                    index = len(known)
                    known.append(each)
                    before, state = naive.callbacks[index]
                    assert dataclasses.replace(each, rowid=0) == before
                    naive.callbacks[index] = (each, state)
                calls, refusals = [], []
                await _equal(store, naive)
    await store.close()
    again = open_store(directory)
    await _equal(again, naive)
    await again.close()


@settings(max_examples=examples(25), deadline=None)
@given(_STEPS)
def test_the_lanes_equal_a_naive_list(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_walk(Path(directory), steps))


_WANTED = st.lists(
    st.tuples(st.integers(1, 2), st.sampled_from("ABCD"), st.none() | st.integers(1, 8)),
    max_size=4,
    unique_by=lambda wish: wish[:2],
)


async def _ask_ids(
    directory: Path, reloads: list[list[tuple[int, str, int | None]]], reopen: bool
) -> None:
    owners: dict[int, tuple[int, str]] = {}
    in_force: set[int] = set()
    given_once: dict[tuple[int, str], int] = {}
    store = open_store(directory)
    for wanted in reloads:
        if reopen:
            await store.close()
            store = open_store(directory)
        names = {wish[:2] for wish in wanted}
        explicit_ids = [wish[2] for wish in wanted if wish[2]]
        others = [wish for wish in wanted if wish[2] and owners.get(wish[2], wish[:2]) != wish[:2]]
        clash = [
            wish for wish in others if wish[2] not in in_force or owners[wish[2] or 0] in names
        ]
        # Another organisation alone makes no other webhook; see tests/config/test_carried.py.
        moved = carried([InForce(id_, *owners[id_]) for id_ in sorted(in_force)], wanted)
        unsure = [each for each in moved if not each.sure]
        try:
            answered = await store.webhooks.ids(wanted)
        except StoreError:
            assert clash or unsure or len(set(explicit_ids)) < len(explicit_ids)
            continue
        assert not clash
        assert not unsure
        for each in moved:
            given_once.pop(owners[each.old[0].id], None)
            given_once.pop((each.org_id, each.name), None)
            owners[each.old[0].id] = (each.org_id, each.name)
        for wish in others:  # renamed: what it was given under its old name is its no more
            given_once.pop(owners.pop(wish[2] or 0), None)
        for (org_id, name, explicit), webhook_id in zip(wanted, answered, strict=True):
            assert explicit in (None, webhook_id)
            assert owners.setdefault(webhook_id, (org_id, name)) == (org_id, name)
            if explicit is None and (org_id, name) in given_once:
                assert webhook_id == given_once[org_id, name]
            elif explicit is None and (org_id, name) not in _explicit_owners(reloads):
                given_once[org_id, name] = webhook_id
        in_force = set(answered)
        await store.webhooks.retain(in_force)
    await store.close()


def _explicit_owners(reloads: list[list[tuple[int, str, int | None]]]) -> set[tuple[int, str]]:
    return {(org, name) for wanted in reloads for org, name, explicit in wanted if explicit}


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(_WANTED, max_size=6), st.booleans())
def test_no_webhook_id_is_ever_two_webhooks(
    reloads: list[list[tuple[int, str, int | None]]], reopen: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_ask_ids(Path(directory), reloads, reopen))
