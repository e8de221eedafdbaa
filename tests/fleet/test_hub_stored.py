"""Whose state a state directory is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.app.hub_stored import hub_stored
from agent.config import parse
from agent.errors import StartError
from agent.model import DeviceState
from tests.kit.store import open_store
from tests.store.samples import device

if TYPE_CHECKING:
    from pathlib import Path

HUB = '[fleet]\nrole = "hub"\nservers = ["nats://127.0.0.1:4222"]\n'


@pytest.mark.parametrize("text", ["", '[fleet]\nrole = "hub"\n', HUB.replace('"hub"', '"agent"')])
async def test_the_state_of_a_hub_is_no_agents(tmp_path: Path, text: str) -> None:
    store = open_store(tmp_path)
    try:
        own = device("A", DeviceState.ONLINE, 1)
        fleets = [replace(own, udid=f"B{n}", host=f"rack-{n}") for n in range(5)]
        assert await hub_stored(parse(text, "x"), store, [own]) is None
        assert await hub_stored(parse(HUB, "x"), store, [own, *fleets]) is not None
        with pytest.raises(StartError, match=r"phones of rack-0, rack-1, rack-2, …\).* state_dir"):
            await hub_stored(parse(text, "x"), store, [own, *fleets])
    finally:
        await store.close()
