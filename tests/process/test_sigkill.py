"""SIGKILL at random moments: what was committed is delivered, all of it, in order.

Phones change state as fast as the loop allows, while the agent is killed again and again, before
and after READY. Checked from both sides: the store's transitions against its callbacks, and the
store's callbacks against what the receiver got.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost
from tests.fakes.receiver import Receiver
from tests.faults.invariants import (
    EVERY_EVENT,
    check_that_all_arrived_in_order,
    check_that_all_callbacks_were_stored,
)
from tests.faults.killing import PHONES, shake
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE, ONLY_ADB
from tests.kit.seed import seed

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = (
    AT_ONCE
    + ONLY_ADB
    + """\
probe_interval = "0s"
[[webhooks]]
id = 1
name = "first"
url = "{first}"
events = ["online", "offline", "utilizing", "unplugged"]
[[webhooks]]
id = 2
name = "second"
url = "{second}"
events = ["online", "unplugged"]
"""
)


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.long)])
async def test_what_was_committed_is_delivered_in_order(place: Path, kills: int) -> None:
    chosen = seed(418)
    dice = random.Random(chosen)
    first, second = await Receiver().start(), await Receiver().start()
    async with FakeAdbHost() as host:
        text = CONFIG.format(adb=host.address, first=first.url("/one"), second=second.url("/two"))
        async with AgentProcess(place, text) as agent:
            shaking = asyncio.create_task(shake(host, dice, 0.002))
            for _ in range(kills):
                await agent.start(ready=dice.random() < 0.8)
                # The moment of death is the test's subject, not its synchronisation.
                await asyncio.sleep(dice.random() * 0.4)
                await agent.kill()
            shaking.cancel()
            await asyncio.wait({shaking})
            await agent.start()
            await agent.until_delivered()
            assert await agent.stop() == 0
    await first.close()
    await second.close()
    with closing(sqlite3.connect(place / "state" / "state.db")) as store:
        check_that_all_callbacks_were_stored(
            store, {1: EVERY_EVENT, 2: frozenset({"online", "unplugged"})}
        )
        for webhook_id, receiver in ((1, first), (2, second)):
            repeated = check_that_all_arrived_in_order(store, webhook_id, receiver)
            # In flight or answered and not yet noted, at most one per device and death.
            assert repeated <= (kills + 1) * PHONES
