"""How far one comes towards the fleet's broker: in, and out again. Nothing is asked of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.doctor.facts import FleetFacts
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.config.model import Fleet

LIMIT = 8.0
"""Seconds for all servers."""


async def reach_broker(fleet: Fleet) -> FleetFacts:
    """As the agent or hub does it, with its own credentials; raises nothing."""
    hub = fleet.role == "hub"
    if not fleet.servers:
        return FleetFacts(hub=hub)
    count = len(fleet.servers)
    began = time.monotonic()
    try:
        # Without a fleet nobody needs it.
        from agent.fleet.nats_link import dial  # noqa: PLC0415

        async with asyncio.timeout(LIMIT):
            link = await dial(fleet)
            took = time.monotonic() - began
            await link.close()
    except TimeoutError:
        return FleetFacts(hub=hub, servers=count, error=f"no answer within {LIMIT:g} s")
    except AgentError as error:
        return FleetFacts(hub=hub, servers=count, error=str(error))
    return FleetFacts(hub=hub, servers=count, took=took)
