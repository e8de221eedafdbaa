"""SIGKILL at random while receivers fail at random: nothing lost, reordered or altered."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.faults.killing import kill_agents
from tests.kit.seed import seed


@pytest.mark.parametrize(
    ("worlds", "kills"), [(1, 6), pytest.param(4, 500, marks=pytest.mark.long)]
)
async def test_receivers_that_fail(worlds: int, kills: int) -> None:
    """In several independent worlds at once: the machine's cores and disks are shared, as ever."""
    chosen = seed(542)
    async with asyncio.TaskGroup() as group:
        for number in range(worlds):
            group.create_task(kill_agents(random.Random(chosen + number), kills))
