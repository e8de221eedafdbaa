"""An agent's disk was cloned, or a backup put back: whatever it has by then, nothing is mixed up.

The agent's uplink, the hub, both stores and the broker are the real ones.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from agent.model import DeviceState, Platform, Transition, Visibility
from agent.track.views import DeviceView
from tests.fleet.agent_side import HOST, Nothing, agent, fleet_of
from tests.fleet.test_hub import hub
from tests.fleet.world import OFFLINE, ONLINE, UNPLUGGED, UTILIZING
from tests.kit.store import open_store
from tests.store.samples import device

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model import Sighting
    from agent.store import Store
    from tests.fleet.test_hub import Side
    from tests.kit.broker import Broker


class Shown(Nothing):
    """Each phone is shown; its state is the stored one."""

    def one(self, udid: str) -> DeviceView:
        private: Any = Visibility.PRIVATE
        return DeviceView(
            udid, udid, Platform.ANDROID, OFFLINE, "", 1, "", "", (), private, False, "", None, None
        )

    def seen(self, _udid: str) -> tuple[Sighting, ...]:
        return ()


class Truth:
    """What the phones do, at times of which none comes twice."""

    def __init__(self) -> None:
        self.at = 0

    async def happens(self, store: Store, *moves: tuple[str, DeviceState]) -> None:
        for udid, state in moves:
            self.at += 1
            moved = Transition(udid, UNPLUGGED, state, "", self.at)
            await store.record(device(udid, state, self.at), moved, ())


async def taken(store: Store, side: Side, *, but: int = -1) -> int:
    """Wait until the hub has all that this store has; the epoch under which it has, not `but`."""
    async with asyncio.timeout(60):
        while True:
            state = await store.log.state()
            mark = side.pipeline.durable.get(HOST)
            at = None if mark is None else (mark.epoch, mark.cursor)
            if at == (state.epoch, state.newest) and state.epoch != but:
                return state.epoch
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("active", [True, False], ids=["active", "standby"])
@pytest.mark.parametrize("grown", [1, 4, 6], ids=["fewer", "as many", "more"])
async def test_a_backup_that_was_put_back_is_noticed_whatever_it_has_by_then(
    tmp_path: Path, broker: Broker, grown: int, *, active: bool
) -> None:
    """Fewer rows than the hub took of that epoch, as many, or more."""
    truth, fleet = Truth(), fleet_of(broker.url)
    place, saved = tmp_path / "agent", tmp_path / "saved"
    async with hub(tmp_path / "hub", broker, active=active) as side:
        async with agent(place, fleet, devices=Shown()) as made:
            await truth.happens(made.store, ("p", ONLINE), ("q", ONLINE), ("r", ONLINE))
            first = await taken(made.store, side)
        shutil.copytree(place, saved)
        async with agent(place, fleet, devices=Shown()) as made:
            moves = [("p", UTILIZING), ("q", OFFLINE), ("q", ONLINE), ("q", OFFLINE)]
            await truth.happens(made.store, *moves)
            assert await taken(made.store, side) == first
        shutil.rmtree(place)
        saved.rename(place)
        store = open_store(place)  # what it sees before it reaches the broker
        moves = [("p", UTILIZING), *[("r", OFFLINE), ("r", ONLINE)] * 3]
        await truth.happens(store, *moves[:grown])
        await store.close()
        async with agent(place, fleet, devices=Shown()) as made:
            await truth.happens(made.store, ("s", ONLINE))
            made.uplink.transition_stored()
            await taken(made.store, side, but=first)
            await truth.happens(made.store, ("r", UTILIZING), ("q", OFFLINE))
            made.uplink.transition_stored()
            await taken(made.store, side)
    assert side.states() == {"p": UTILIZING, "q": OFFLINE, "r": UTILIZING, "s": ONLINE}
    told = {udid: [c.state for c in side.sent if c.udid == udid] for udid in "pqrs"}
    assert told["p"] == [ONLINE, UTILIZING], "what was told is told once"
    # q was online when the backup was made: that counts, until something else is seen.
    assert told["q"] == [ONLINE, OFFLINE] * 3
    assert told["s"] == [ONLINE]
    assert (told["r"][0], told["r"][-1]) == (ONLINE, UTILIZING)
    assert all(a is not b for a, b in zip(told["r"], told["r"][1:], strict=False))
    ids = [callback.message_id for callback in side.sent]
    assert len(set(ids)) == len(ids)
