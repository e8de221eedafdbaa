"""Callbacks in pages, by times, and those that a transition made: held against a plain list."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import CallbackState
from agent.store import DeliveryQuery
from tests.kit.examples import examples
from tests.kit.store import open_store
from tests.store.samples import attempt, callback, device, transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.model import Callback
    from agent.store import Store

_UDIDS = ("a", "b")
_MADE = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(_UDIDS), st.integers(0, 3)), max_size=25
)
"""Of each transition: how much later than the one before, of whom, for how many webhooks."""


def with_store(work: Callable[[Store], Awaitable[None]]) -> None:
    async def body() -> None:
        with tempfile.TemporaryDirectory() as name:
            store = open_store(Path(name))
            try:
                await work(store)
            finally:
                await store.close()

    asyncio.run(body())


async def fill(store: Store, made: list[tuple[int, str, int]]) -> list[Callback]:
    """Store these; newest first."""
    found: list[Callback] = []
    at_ms = 1_000
    for number, (later, udid, webhooks) in enumerate(made):
        at_ms += later
        group = [
            callback(f"m{number}-{webhook}", webhook, udid, at_ms) for webhook in range(webhooks)
        ]
        moved = transition(udid, at_ms)
        found += await store.record(device(udid, since_ms=at_ms), moved, group)
    return found[::-1]


@settings(max_examples=examples(60), deadline=None)
@given(
    _MADE,
    st.integers(1, 7),
    st.sampled_from([None, *_UDIDS]),
    st.one_of(st.none(), st.integers(995, 1_040)),
    st.one_of(st.none(), st.integers(995, 1_040)),
)
def test_pages_put_together_are_the_whole(
    made: list[tuple[int, str, int]],
    size: int,
    udid: str | None,
    since: int | None,
    until: int | None,
) -> None:
    async def work(store: Store) -> None:
        every = await fill(store, made)
        wanted = [
            each.message_id
            for each in every
            if (udid is None or each.udid == udid)
            and (since is None or each.created_ms >= since)
            and (until is None or each.created_ms < until)
        ]
        query = DeliveryQuery(udid=udid, since_ms=since, until_ms=until, limit=size)
        found: list[str] = []
        while page := await store.deliveries.find(query):
            assert len(page) <= size
            found += [row.callback.message_id for row in page]
            query = query._replace(below=page[-1].callback.rowid)
        assert found == wanted

    with_store(work)


@settings(max_examples=examples(60), deadline=None)
@given(_MADE, st.sets(st.integers(0, 30), max_size=10), st.integers(1, 100))
def test_what_was_made_at_a_time_is_found_among_all(
    made: list[tuple[int, str, int]], lost: set[int], limit: int
) -> None:
    async def work(store: Store) -> None:
        every = await fill(store, made)
        for number in lost & set(range(len(every))):  # some are finished, and the retention's
            await store.callbacks.finish(
                every[number], attempt(every[number].message_id), CallbackState.DELIVERED
            )
        for udid in _UDIDS:
            moments = sorted({each.created_ms for each in every}, reverse=True)
            rows = await store.deliveries.made_at(udid, moments, limit)
            wanted = [each.message_id for each in every if each.udid == udid]
            assert [row.callback.message_id for row in rows] == wanted[:limit]
        assert await store.deliveries.made_at("a", [1, 5_000], limit) == []

    with_store(work)


async def test_transitions_come_in_pages(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await fill(store, [(1, udid, 0) for udid in "aabab"])
    first = await store.transitions.of("a", 2)
    then = await store.transitions.of("a", 2, first[-1].id)
    assert [each.id for each in first + then] == [4, 2, 1]
    assert await store.transitions.of("a", 2, then[-1].id) == []
    await store.close()
